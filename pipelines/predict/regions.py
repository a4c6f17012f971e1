"""The regions that a user gives for images: boxes, or masks of which the tight box is taken.

A table (CSV, TSV, JSON Lines, Parquet) or a JSON list with one region a row: `file_name`, relative to the file's
folder; `frame` where it has several and the region is of one alone; and either `x0`, `y0`, `x1`, `y1` in pixels of the
image, x1 and y1 exclusive, or `mask`, an image of the same size that is 0 outside of the region.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.geometry import Box, box_of_mask
from pipelines.archives import locate
from pipelines.cuts import Cut
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.images import mask_of
from pipelines.ingest import cells
from pipelines.ingest.record import UnusableRow
from pipelines.ingest.tables import SUFFIXES, Listings
from pipelines.opened import open_file
from pipelines.predict.inputs import Input

EDGES = ("x0", "y0", "x1", "y1")

_Place = tuple[Path, str | None, int | None]


@dataclass(frozen=True)
class GivenRegion:
    """A box, and the size (width, height) of the mask that it was taken from."""

    box: Box
    mask_size: tuple[int, int] | None = None


class GivenRegions:
    """The regions of a file, by image.

    Args:
        file: The table or JSON list; None: there are no regions.

    Raises:
        UserError: A row cannot be used; the message names it.
    """

    def __init__(self, file: Path | None) -> None:
        self._by_place: dict[_Place, list[GivenRegion]] = defaultdict(list)
        self._used: set[_Place] = set()
        if file is None:
            return
        for place, row in _rows(file):
            with _named(place):
                where, region = _region(file.resolve().parent, row)
            self._by_place[where].append(region)

    def of(self, item: Input, width: int, height: int) -> list[Box]:
        """The boxes of an image, in the file's order.

        Raises:
            Rejected: mask_size_differs: a mask is of an image of another size.
        """
        found: list[GivenRegion] = []
        for frame in dict.fromkeys((None, item.frame)):
            place = (*item.place, frame)
            if place in self._by_place:
                self._used.add(place)
                found += self._by_place[place]
        for region in found:
            if region.mask_size not in (None, (width, height)):
                raise Rejected("mask_size_differs", f"mask of {region.mask_size}, image of {(width, height)} pixels")
        return [region.box for region in found]

    @property
    def unused(self) -> int:
        """Regions of images that were not among the inputs."""
        return sum(len(regions) for place, regions in self._by_place.items() if place not in self._used)


def _rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    listings = Listings(file.resolve().parent)
    if file.name.lower().endswith(SUFFIXES):
        for row in listings.rows(file.name):
            if isinstance(row, UnusableRow):
                raise UserError(f"--regions: {row.row}: {row.detail}")
            yield row
        return
    for number, item in enumerate(listings.json_list(file.name, "regions"), start=1):
        if not isinstance(item, dict):
            raise UserError(f"--regions: {file.name}: item {number} is no object")
        yield f"{file.name}: item {number}", item


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Says of what is wrong inside in which row it stands."""
    try:
        yield
    except Rejected as error:
        raise UserError(f"--regions: {place}: {error}") from None


def _region(root: Path, row: Mapping[str, Any]) -> tuple[_Place, GivenRegion]:
    name = cells.text(row.get("file_name"), "file_name", null_words=False)
    if name is None:
        raise Rejected("missing_file_name", f"a region needs file_name, and {', '.join(EDGES)} or mask")
    path, member = locate(root, name)
    frame = cells.whole(row.get("frame"), "frame")
    where = (root / path if path else root).resolve(), member, frame
    mask = cells.text(row.get("mask"), "mask", null_words=False)
    return where, _from_mask(root, mask) if mask is not None else GivenRegion(_box(row))


def _box(row: Mapping[str, Any]) -> Box:
    if missing := [edge for edge in EDGES if row.get(edge) is None]:
        raise Rejected("bad_box", f"{missing[0]} is missing; a region is {', '.join(EDGES)}, or mask")
    with item_boundary("bad_box"):
        x0, y0, x1, y1 = (float(row[edge]) for edge in EDGES)
    if not (x0 < x1 and y0 < y1):
        raise Rejected("bad_box", f"{(x0, y0, x1, y1)} has no area")
    return x0, y0, x1, y1


def _from_mask(root: Path, name: str) -> GivenRegion:
    file = open_file(root, *locate(root, name))
    if file.volume is not None:
        raise Rejected("unsupported_type", "a mask that is a volume: give the mask of a slice as a picture, or boxes")
    mask = mask_of(file, Cut(), None)
    inside = mask.values > (127 if mask.lossy else 0)
    if not inside.any():
        raise Rejected("empty_region_mask", f"{name} marks nothing")
    height, width = inside.shape
    return GivenRegion(box_of_mask(inside), (width, height))
