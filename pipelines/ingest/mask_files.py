"""The masks of a row, from their files or from codes in a listing, as the table of annotations holds them.

Reason codes of `Rejected`: those of `mask_of` with `mask_` before them, ambiguous_mask, mask_size_differs,
empty_region_mask, unlisted_mask_value, bad_rle.
"""

import errno
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.geometry import Box, Mask, mask_in_box
from models.orientation import AS_STORED, turned, turned_size
from pipelines.archives import locate
from pipelines.cuts import Cut
from pipelines.errors import Rejected
from pipelines.images import StoredMask, mask_of
from pipelines.ingest.details import without_values
from pipelines.ingest.masks import region_mask
from pipelines.ingest.reading_cache import KnownReadings
from pipelines.ingest.record import Region
from pipelines.masks import bounding_box, decode, encode, normal_code
from pipelines.opened import OpenedFile, open_file
from pipelines.storage import Root


@dataclass(frozen=True, kw_only=True)
class DecodedMask:
    """A mask as the table of annotations holds it, in its columns `mask`, `mask_path`, `mask_value`, `mask_sha256`.

    Without a path and a digest it was no file but a code in a listing.
    """

    rle: str
    path: str | None
    value: int | None
    sha256: str | None
    is_empty: bool


class MaskFiles:
    """The mask files that one row names, each decoded once, or not at all where it is known what it shows."""

    def __init__(
        self,
        root: Root,
        cut: Cut,
        image: OpenedFile,
        shape: tuple[int, int],
        max_pixels: int,
        orientation: int,
        known: KnownReadings,
    ) -> None:
        self._root, self._cut, self._image, self._shape, self._max_pixels = root, cut, image, shape, max_pixels
        self._orientation, self._known = orientation, known
        self._digests: dict[str, str] = {}
        self._stored: dict[str, StoredMask] = {}
        self._last: tuple[str, OpenedFile] | None = None

    def _opened(self, name: str) -> OpenedFile:
        if self._last is None or self._last[0] != name:
            with _of_mask(name):
                self._last = name, open_file(self._root, *locate(self._root, name))
        return self._last[1]

    def _digest(self, name: str) -> str:
        """SHA-256 of the file."""
        if name not in self._digests:
            self._digests[name] = self._opened(name).sha256
        return self._digests[name]

    def _grey(self, name: str) -> StoredMask:
        """The grey values of the file, which must be of the image's size."""
        if name not in self._stored:
            digest, file = self._digest(name), self._opened(name)
            if file.sha256 != digest:
                raise OSError(errno.ESTALE, "a mask changed while its row was read")
            with _of_mask(name):
                stored = mask_of(file, self._cut, self._image, self._max_pixels, self._orientation)
            self._check_size((stored.values.shape[0], stored.values.shape[1]))
            self._stored[name] = stored
        return self._stored[name]

    def values_of(self, name: str, named: Mapping[int, str]) -> list[int]:
        """The values of a label map, sorted, all of which must have a name."""
        facts = ["values", self._digest(name), self._orientation, sorted(named)]
        values: list[int] = self._known.value(facts, lambda: _listed_values(self._grey(name), named))
        return values

    def look_alike(self, region: Region, box: Box | None) -> Mask:
        """The pixels of a look-alike; `box` is its own, inside the image."""
        mask = self.of_region(region)
        pixels = np.ones(self._shape, dtype=bool) if mask is None else decode(mask.rle, *self._shape)
        pixels = pixels if box is None else mask_in_box(pixels, box)
        if not pixels.any():
            raise Rejected("empty_region_mask", "no pixel of the look-alike in its mask and box")
        return pixels

    def together(self, names: Sequence[str]) -> DecodedMask:
        """The region that some files show together; its path is the first one's, its digest that of all digests."""
        if len(names) == 1:
            return self.decoded(names[0], None)
        parts = [self.decoded(name, None) for name in names]
        pixels = np.logical_or.reduce([decode(part.rle, *self._shape) for part in parts])
        digest = hashlib.sha256("".join(map(self._digest, names)).encode())
        rle, is_empty = encode(pixels), not bool(pixels.any())
        return DecodedMask(rle=rle, path=names[0], value=None, sha256=digest.hexdigest(), is_empty=is_empty)

    def of_region(self, region: Region) -> DecodedMask | None:
        """A region's mask, of its file or of its code; None where it has a box alone."""
        if region.mask is not None:
            return self.decoded(region.mask, region.mask_value)
        if region.rle is None or region.rle_size is None:
            return None
        width, height = region.rle_size
        shown_width, shown_height = turned_size(width, height, self._orientation)
        self._check_size((shown_height, shown_width))
        try:
            rle = normal_code(region.rle, height, width)
        except ValueError as error:
            raise Rejected("bad_rle", str(error)) from None
        if self._orientation != AS_STORED:
            rle = encode(turned(decode(rle, height, width), self._orientation))
        is_empty = bounding_box(rle, *self._shape)[2] == 0
        return DecodedMask(rle=rle, path=None, value=None, sha256=None, is_empty=is_empty)

    def _check_size(self, shape: tuple[int, int]) -> None:
        if shape != self._shape:
            size, of_image = (f"{width} x {height}" for height, width in (shape, self._shape))
            raise Rejected("mask_size_differs", f"mask of {size}, image of {of_image} pixels")

    def decoded(self, name: str, value: int | None, *, any_value: bool = False) -> DecodedMask:
        """A region's mask; `any_value`: all non-zero pixels of a label map."""
        digest = self._digest(name)
        # Of the picture nothing but what `known` is of decides: its size, and where a mask that is a volume is sampled.
        facts = ["mask", digest, self._orientation, value, any_value]
        code = self._known.value(facts, lambda: self._code(name, value, any_value))
        return DecodedMask(**code, path=name, value=value, sha256=digest)

    def _code(self, name: str, value: int | None, any_value: bool) -> dict[str, Any]:
        """What a mask's pixels are, as JSON."""
        stored = self._grey(name)
        try:
            pixels = stored.values != 0 if any_value else region_mask(stored, value)
        except Rejected as error:
            raise Rejected(error.reason, f"mask: {error.detail}") from None
        return {"rle": encode(pixels), "is_empty": not bool(pixels.any())}


def _listed_values(stored: StoredMask, named: Mapping[int, str]) -> list[int]:
    """The values of a label map but 0, sorted; one that nobody listed is an error."""
    if stored.lossy:
        raise Rejected("ambiguous_mask", "mask: a JPEG (or lossy WebP) keeps no values of mask_classes: give a PNG")
    values: list[int] = [value for value in np.unique(stored.values).tolist() if value != 0]
    if unlisted := [value for value in values if value not in named]:
        more = f" and {len(unlisted) - 5} more" if len(unlisted) > 5 else ""
        raise Rejected("unlisted_mask_value", f"mask: {unlisted[:5]}{more} are in the file and not in mask_classes")
    return values


@contextmanager
def _of_mask(name: str) -> Iterator[None]:
    """Around the reading of a mask's file: a fault says that it is the mask's."""
    try:
        yield
    except Rejected as error:
        raise Rejected(f"mask_{error.reason}", f"mask: {without_values(error.detail, name)}") from None
