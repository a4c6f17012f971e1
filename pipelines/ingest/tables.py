"""Listings of a source: rows of CSV, TSV, JSON Lines and Parquet files, and JSON lists, each with its place. Text
files may be gzipped (`.csv.gz`).

Tables are read strictly, and every line is counted: a line is the header, blank, the first one of a row, or a further
one of a row whose quoted value has line breaks.
"""

import gzip
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet

from pipelines.archives import MAX_BYTES, locate, read_bytes
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.ingest.record import UnusableRow
from pipelines.ingest.separated import read_separated

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

Row = tuple[str, dict[str, Any]]
Watch = Callable[[str, Mapping[str, Any]], None]


class Listings:
    """The listings of one source, and what was read of them.

    Args:
        root: The source's folder or archive.

    Attributes:
        files: The files that were read.
        lines: Of each file `rows`; of a text file also `lines`, which is the sum of `rows`, `header`, `blank` and
            `further_lines_of_rows`.
        columns: Of each file the names of its columns, in the order in which they were seen.
        watch: Called with the file's name and each row that has columns, whether the adapter can use it or not.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.files: set[str] = set()
        self.lines: dict[str, dict[str, int]] = {}
        self.columns: dict[str, dict[str, None]] = {}
        self.watch: Watch = lambda name, row: None

    def rows(
        self, name: str, delimiter: str | None = None, needed: Collection[str] = ()
    ) -> Iterator[Row | UnusableRow]:
        """Yield (place, row) for each row; the place is the file's name and the line where the row starts.

        Args:
            name: The table's file; its suffix (one of `SUFFIXES`, and `.gz` behind it) tells how to read it. Parquet:
                the place is the row, from 1.
            delimiter: Between the values of a CSV or TSV file; None: the one of `,` `;` tab `|` that its lines show.
            needed: Columns that every row must have.

        Raises:
            UserError: There is no such file, it cannot be read as what its suffix says, or its structure is broken: a
                quote that never closes, a column that stands twice, a delimiter that splits nothing; or a needed
                column is missing.
        """
        data = self.read(name)
        counts = self.lines[name] = {"rows": 0}
        columns = self.columns[name] = {}
        try:
            with item_boundary():
                for item in self._rows(name, data, delimiter, counts, columns):
                    if not isinstance(item, UnusableRow):
                        if missing := [column for column in needed if column not in item[1]]:
                            raise UserError(f"{self._root}: {name} has no column {', '.join(missing)}")
                        columns.update(dict.fromkeys(item[1]))
                        self.watch(name, item[1])
                    yield item
        except Rejected as error:
            raise UserError(f"{self._root}: {name} cannot be read as its suffix says: {error.detail}") from None

    def json_list(self, name: str, of: str, hint: str = "") -> list[Any]:
        """The list in a JSON file that lists a source's images.

        Args:
            name: The file.
            of: What the list should hold, for the message.
            hint: What may be said of a file that cannot be read.

        Raises:
            UserError: There is no such file, or it holds no list.
        """
        items = self._json(name, hint)
        if not isinstance(items, list):
            raise UserError(f"{self._root}: {name} should hold a list of {of}")
        self._count(name, items)
        return items

    def json_lists(
        self, name: str, needed: tuple[str, ...], optional: tuple[str, ...] = (), hint: str = ""
    ) -> dict[str, list[Any]]:
        """The lists of a JSON file that holds an object of lists, such as COCO's; their rows count together.

        Args:
            name: The file.
            needed: Keys of the lists; other keys are not read.
            optional: Further keys; a list that is not there is empty, and its rows do not count.
            hint: What may be said of a file that cannot be read.

        Raises:
            UserError: There is no such file, or it holds no object with these lists.
        """
        found = self._json(name, hint)
        lists = {**{key: [] for key in optional}, **found} if isinstance(found, dict) else {}
        if not all(isinstance(lists.get(key), list) for key in (*needed, *optional)):
            raise UserError(f"{self._root}: {name} should hold an object with the lists {', '.join(needed)}{hint}")
        self._count(name, [item for key in needed for item in lists[key]])
        return lists

    def _json(self, name: str, hint: str) -> Any:
        data = self.read(name, hint)
        try:
            with item_boundary():
                return json.loads(data)
        except Rejected as error:
            raise UserError(f"{self._root}: {name} is not JSON ({error.detail})") from None

    def _count(self, name: str, items: list[Any]) -> None:
        self.lines[name] = {"rows": len(items)}
        columns = self.columns[name] = {}
        for item in items:
            if isinstance(item, dict):
                columns.update(dict.fromkeys(item))
                self.watch(name, item)

    def read(self, name: str, hint: str = "") -> bytes:
        """The bytes of a file that says something about the images.

        Raises:
            UserError: It cannot be read; `hint` ends the message.
        """
        try:
            data = read_bytes(self._root, *locate(self._root, name))
        except Rejected as error:
            raise UserError(f"{self._root}: {name} cannot be read ({error}){hint}") from None
        self.files.add(name)
        return data

    def _rows(
        self, name: str, data: bytes, delimiter: str | None, counts: dict[str, int], columns: dict[str, None]
    ) -> Iterator[Row | UnusableRow]:
        if name.endswith(".gz"):
            data = _unpacked(data)
        suffix = name.removesuffix(".gz")
        if name.endswith(".parquet"):
            yield from _parquet(self._root, name, data, counts)
        elif suffix.endswith((".csv", ".tsv")):
            yield from read_separated(self._root, name, _text(self._root, name, data), delimiter, counts, columns)
        else:
            yield from _json_lines(name, _text(self._root, name, data), counts)


def _unpacked(data: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        unpacked = stream.read(MAX_BYTES + 1)
    if len(unpacked) > MAX_BYTES:
        raise Rejected("file_too_large", f"more than {MAX_BYTES} bytes")
    return unpacked


def _text(root: Path, name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if name.lower().endswith((".xlsx", ".xls")):
            raise UserError(f"{root}: {name} is a workbook of Excel: save its sheet as CSV (UTF-8)") from None
        raise UserError(f"{root}: {name} is not UTF-8 (byte {error.start}): save it as UTF-8") from None


def _json_lines(name: str, text: str, counts: dict[str, int]) -> Iterator[Row | UnusableRow]:
    lines = text.removesuffix("\n").split("\n")
    counts |= {"lines": len(lines), "header": 0, "blank": 0, "further_lines_of_rows": 0}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            counts["blank"] += 1
            continue
        counts["rows"] += 1
        place = f"{name}:{number}"
        try:
            with item_boundary("bad_row", "not JSON"):
                row = json.loads(line, object_pairs_hook=unique_keys)
        except Rejected as error:
            yield UnusableRow(row=place, reason=error.reason, detail=error.detail)
            continue
        if isinstance(row, dict):
            yield place, row
        else:
            yield UnusableRow(row=place, reason="bad_row", detail="not a JSON object")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, for `object_pairs_hook`; Python's reader would drop a value in silence."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise Rejected("bad_row", "a key stands twice in an object")
    return values


def _parquet(root: Path, name: str, data: bytes, counts: dict[str, int]) -> Iterator[Row]:
    table = pyarrow.parquet.ParquetFile(io.BytesIO(data))
    names = table.schema_arrow.names
    if len(set(names)) < len(names):
        raise UserError(f"{root}: {name}: a column stands twice: rename one")
    for batch in table.iter_batches():
        for row in batch.to_pylist():
            counts["rows"] += 1
            yield f"{name}:{counts['rows']}", row
