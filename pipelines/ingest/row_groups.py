"""Listings in which several rows are about one image, which is one record.

What such rows mark in an image belongs together, so that an image with a row that cannot be used is rejected as a
whole: a mask or the place of a sentence would be wrong without it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from pipelines.errors import Rejected, item_boundary
from pipelines.ingest.record import UnusableRow
from pipelines.ingest.tables import Row

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RowGroups:
    """The rows of a listing.

    Attributes:
        rows: Those of each image, in the order of the listing.
        unusable: Those that name no image.
    """

    rows: dict[str, list[Row]]
    unusable: list[UnusableRow]


def group_rows(items: Iterable[Row | UnusableRow], image_of: Callable[[dict[str, Any]], str]) -> RowGroups:
    """The rows by what `image_of` says of each, which may raise `Rejected`."""
    groups = RowGroups(rows={}, unusable=[])
    for item in items:
        if isinstance(item, UnusableRow):
            groups.unusable.append(item)
            continue
        place, row = item
        try:
            with item_boundary("bad_row"):
                groups.rows.setdefault(image_of(row), []).append((place, row))
        except Rejected as error:
            groups.unusable.append(UnusableRow(row=place, reason=error.reason, detail=error.detail))
    return groups


def read_rows(rows: Iterable[Row], read: Callable[[dict[str, Any]], T], path: str) -> list[T] | UnusableRow:
    """What each row of an image says; the first row that cannot be read, as the rejected row of the image.

    Args:
        rows: Of one image.
        read: What a row says; it may raise `Rejected`.
        path: The image's file.
    """
    values = []
    for place, row in rows:
        try:
            with item_boundary("bad_row"):
                values.append(read(row))
        except Rejected as error:
            return UnusableRow(row=place, path=path, reason=error.reason, detail=error.detail)
    return values
