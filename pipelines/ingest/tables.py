"""Rows of CSV, TSV, JSON Lines and Parquet files under a source's root, each with the place where it stands."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet

from pipelines.archives import locate, read_bytes
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.ingest.record import UnusableRow

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


Row = tuple[str, dict[str, Any]]


def read_rows(root: Path, name: str) -> Iterator[Row | UnusableRow]:
    """Yield (place, row) for each row; the place is the file's name and the line (Parquet: the row, from 1).

    Args:
        root: The source's folder or archive.
        name: The table's file; its suffix (one of `SUFFIXES`) tells how to read it. A CSV file's header tells whether
            commas or semicolons separate its values.

    Raises:
        UserError: There is no such file, or it cannot be read as what its suffix says.
    """
    try:
        data = read_bytes(root, *locate(root, name))
    except Rejected as error:
        raise UserError(f"{root}: {name} cannot be read ({error})") from None
    try:
        with item_boundary():
            if name.endswith(".parquet"):
                yield from _parquet(name, data)
            elif name.endswith((".csv", ".tsv")):
                yield from _separated(name, _text(root, name, data))
            else:
                yield from _json_lines(name, _text(root, name, data))
    except Rejected as error:
        raise UserError(f"{root}: {name} cannot be read as its suffix says: {error.detail}") from None


def read_json_list(root: Path, name: str, of: str, hint: str = "") -> list[Any]:
    """The list in a JSON file that lists a source's images.

    Args:
        root: The source's folder or archive.
        name: The file.
        of: What the list should hold, for the message.
        hint: What may be said of a file that cannot be read.

    Raises:
        UserError: There is no such file, or it holds no list.
    """
    try:
        data = read_bytes(root, *locate(root, name))
    except Rejected as error:
        raise UserError(f"{root}: {name} cannot be read ({error}){hint}") from None
    try:
        with item_boundary():
            items = json.loads(data)
    except Rejected as error:
        raise UserError(f"{root}: {name} is not JSON ({error.detail})") from None
    if not isinstance(items, list):
        raise UserError(f"{root}: {name} should hold a list of {of}")
    return items


def _text(root: Path, name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{root}: {name} is not UTF-8 (byte {error.start}): save it as UTF-8") from None


def _separated(name: str, text: str) -> Iterator[Row | UnusableRow]:
    header = text.partition("\n")[0]
    delimiter = "\t" if name.endswith(".tsv") else ";" if ";" in header and "," not in header else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    for row in reader:
        place = f"{name}:{reader.line_num}"
        if None in row:
            yield UnusableRow(row=place, reason="bad_row", detail=f"{len(row[None])} values more than the header names")
        else:
            yield place, {key: value or None for key, value in row.items()}


def _json_lines(name: str, text: str) -> Iterator[Row | UnusableRow]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{name}:{number}"
        try:
            with item_boundary("bad_row", "not JSON"):
                row = json.loads(line)
        except Rejected as error:
            yield UnusableRow(row=place, reason=error.reason, detail=error.detail)
            continue
        if isinstance(row, dict):
            yield place, row
        else:
            yield UnusableRow(row=place, reason="bad_row", detail="not a JSON object")


def _parquet(name: str, data: bytes) -> Iterator[Row]:
    number = 0
    for batch in pyarrow.parquet.ParquetFile(io.BytesIO(data)).iter_batches():
        for row in batch.to_pylist():
            number += 1
            yield f"{name}:{number}", row
