"""Rows of tables as plain values, to compare with what a test writes down by hand, and rows that fit their files."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from models.verified import sha256_file
from pipelines.records import SplitImageRow
from pipelines.tables import Table

RowT = TypeVar("RowT")


def with_digests(rows: Sequence[SplitImageRow], roots: Mapping[str, Path]) -> list[SplitImageRow]:
    """The rows with the SHA-256 of their files, which lie in the sources' folders."""
    return [dataclasses.replace(row, sha256=sha256_file(roots[row.source] / row.path)) for row in rows]


def by_image(rows: Iterable[RowT]) -> list[RowT]:
    """The rows in the order of their images, those of one image as they stand."""
    return sorted(rows, key=attrgetter("image_id"))


def values_of(table: Table, path: Path) -> list[dict[str, Any]]:
    """The rows of a file as dictionaries, tuples as lists."""
    return [
        {name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(row).items()}
        for row in table.read(path)
    ]
