"""CSV and TSV files, read strictly (RFC 4180): what would shift or swallow values is refused with its line.

A fault of the file's structure ends the reading; a row with another number of values than the header is one rejected
row. Reason code: bad_row.
"""

import contextlib
import csv
import io
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pipelines.errors import UserError
from pipelines.ingest.record import UnusableRow
from pipelines.storage import Root

DELIMITERS = (",", ";", "\t", "|")

HEAD_CHARACTERS = 2**16  # from which the delimiter is told
_SAMPLE_ROWS = 20
_IMAGE_FILE = re.compile(r".\.(png|jpe?g|tiff?|bmp|gif|webp|jp2|j2k|dcm|dicom|nii|nii\.gz)$", re.IGNORECASE)


def read_separated(
    root: Root,
    name: str,
    head: str,
    lines: Iterator[str],
    delimiter: str | None,
    counts: dict[str, int],
    columns: dict[str, None],
) -> Iterator[tuple[str, dict[str, Any]] | UnusableRow]:
    """Yield (place, row) for each row; the place is the line where the row starts, an empty value is None.

    Args:
        root: The source, for messages.
        name: The file.
        head: Its first `HEAD_CHARACTERS`.
        lines: All its lines with their ends.
        delimiter: What separates values; None: found from the first lines.
        counts: Filled with `rows`, `lines`, `header`, `blank` and `further_lines_of_rows`.
        columns: Filled with the header's names.

    Raises:
        UserError: The structure is broken; the message names the line.
    """
    counts |= {"rows": 0, "lines": 0, "header": 0, "blank": 0, "further_lines_of_rows": 0}
    header: list[str] | None = None
    separator = delimiter or _find_delimiter(name, head)
    for line, values in _records(root, name, lines, separator, counts):
        if header is None:
            header = [value.strip() for value in values]
            _check_header(f"{root}: {name}:{line}", header, delimiter)
            columns.update(dict.fromkeys(header))
            counts["header"] += 1
            continue
        if _swallows_rows(values, separator):
            raise UserError(
                f"{root}: {name}:{line}: a quoted value of this row holds rows of their own: close its quote"
            )
        counts["rows"] += 1
        if fault := _ragged(header, values):
            yield UnusableRow(row=f"{name}:{line}", reason="bad_row", detail=fault)
        else:
            yield f"{name}:{line}", {column: value or None for column, value in zip(header, values, strict=True)}
    if header is None:
        raise UserError(f"{root}: {name} has no header: write the columns' names into line 1")


def _records(
    root: Root, name: str, lines: Iterator[str], delimiter: str, counts: dict[str, int]
) -> Iterator[tuple[int, list[str]]]:
    """The records that are not blank, with the lines where they start."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{root}: {name}:{start}: {_fault(error)}") from None
        counts["lines"] = reader.line_num
        if any(value.strip() for value in values):
            counts["further_lines_of_rows"] += reader.line_num - start
            yield start, values
        else:
            counts["blank"] += reader.line_num - start + 1


def _swallows_rows(values: list[str], delimiter: str) -> bool:
    """Whether a quote that never closed met a later one: a line inside a value begins as a row of images does."""
    lines = (line for value in values if "\n" in value or "\r" in value for line in value.splitlines()[1:])
    starts = (line.partition(delimiter) for line in lines)
    return any(found and _IMAGE_FILE.search(first.strip('"')) for first, found, _ in starts)


def _fault(error: csv.Error) -> str:
    words = str(error)
    if "unexpected end" in words:
        return "a quote that opens in the row which starts here never closes"
    if "field larger" in words:
        return f"a value of more than {csv.field_size_limit()} characters: a quote that opens here may never close"
    return "a quote inside a quoted value: close the quote that opens in this row, or write each inner one twice"


def _find_delimiter(name: str, head: str) -> str:
    """The delimiter with which the first rows have as many values as the header; of several, that of most columns."""
    found = []
    for delimiter in ("\t", *DELIMITERS) if name.endswith(".tsv") else DELIMITERS:
        rows = _sample(head, delimiter)
        columns = len(rows[0]) if rows else 0
        if columns > 1:
            alike = sum(len(row) == columns for row in rows)
            found.append((alike / len(rows), columns, delimiter))
    best = max(found, key=lambda one: one[:2], default=(0, 0, "\t" if name.endswith(".tsv") else ","))
    return best[2]


def _sample(head: str, delimiter: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):  # told with its line when the file is read
        rows.extend(islice(filter(None, reader), _SAMPLE_ROWS))
    return rows


def _check_header(place: str, header: list[str], delimiter: str | None) -> None:
    """Refuse a header that names no columns; names are not repeated, for they may be the values of a first row."""
    if any(_IMAGE_FILE.search(name) for name in header):
        raise UserError(
            f"{place}: this line names an image file, so it is no header: write the columns' names above it"
        )
    if delimiter is not None and len(header) == 1:
        raise UserError(f"{place}: options.delimiter {delimiter!r} splits nothing here: choose the file's own")
    twice = [number for number, name in enumerate(header, 1) if name and header.index(name) + 1 < number]
    if twice:
        first = header.index(header[twice[0] - 1]) + 1
        raise UserError(f"{place}: columns {first} and {twice[0]} have the same name: rename one")


def _ragged(header: list[str], values: list[str]) -> str | None:
    """What is wrong with the number of a row's values; spreadsheets write empty columns without a name at the end."""
    if len(values) != len(header):
        return f"{len(values)} values, the header names {len(header)} columns"
    nameless = [number for number, name in enumerate(header) if not name]
    if len(nameless) > 1 and any(values[number].strip() for number in nameless):
        return "a value in one of several columns without a name"
    return None
