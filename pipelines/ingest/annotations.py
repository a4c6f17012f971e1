"""What a row says of its image, checked against the pixels: masks decoded, boxes moved into the image.

Reason codes of `Rejected`: those of `mask_of` with `mask_` before them, ambiguous_mask, mask_size_differs,
empty_region_mask, unlisted_mask_value, bad_rle, bad_box, box_size_differs.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.geometry import Box, Mask, clip_box, mask_in_box
from models.orientation import AS_STORED, turned, turned_box, turned_size
from pipelines.archives import locate
from pipelines.cuts import Cut
from pipelines.errors import Rejected
from pipelines.images import StoredMask, mask_of
from pipelines.ingest.details import without_values
from pipelines.ingest.masks import region_mask
from pipelines.ingest.record import MarkedMask, Region, SourceRecord
from pipelines.masks import bounding_box, decode, encode, normal_code
from pipelines.opened import OpenedFile, open_file
from pipelines.storage import Root

_MAX_STRETCH = 0.01  # relative difference of the two scales at which a box still fits a resized image


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


@dataclass(frozen=True, kw_only=True)
class DecodedRegion:
    """One annotated region; at least one of `box` and `mask` is there.

    Attributes:
        label: What the source calls it.
        adjective: Shape or appearance, where the source says.
        phrase: The source's own sentence about it.
        box: In pixels of the image, inside it.
        mask: Decoded.
    """

    label: str | None
    adjective: str | None
    phrase: str | None
    box: Box | None
    mask: DecodedMask | None


@dataclass(frozen=True, kw_only=True)
class RowAnnotations:
    """The annotations of one row.

    Attributes:
        labels: As in the table of images.
        mask: Mask of the whole image; empty where nothing is marked.
        regions: In the order of the row.
        look_alikes: Masks of what is no annotation, as run-length codes; of a box alone that of its pixels.
        clipped_boxes: How many boxes reached over the image's edge.
    """

    labels: tuple[str, ...] | None
    mask: DecodedMask | None
    regions: tuple[DecodedRegion, ...]
    look_alikes: tuple[str, ...]
    clipped_boxes: int


def read_annotations(
    root: Root,
    record: SourceRecord,
    image: OpenedFile,
    width: int,
    height: int,
    max_pixels: int,
    orientation: int = AS_STORED,
) -> RowAnnotations:
    """Open the masks of a row and check them and its boxes against an image.

    Args:
        root: Of the source.
        record: The row.
        image: Its file: a mask that is a volume is sampled where the picture lies.
        width: Pixels of the picture as it is shown.
        height: Pixels of the picture as it is shown.
        max_pixels: Of a mask.
        orientation: By which boxes and masks are turned, where the source gives them in stored pixels.
    """
    files = _MaskFiles(root, record.cut, image, (height, width), max_pixels, orientation)
    labels, regions, whole = record.labels, record.regions, None
    if record.mask is not None and record.mask_classes:
        regions = (*regions, *_regions_of_classes(files, record.mask, record.mask_classes))
        whole = files.decoded(record.mask, None, any_value=True)
    elif record.mask is not None:
        whole = files.decoded(record.mask, None)
        if record.mask_label is not None:
            labels = () if whole.is_empty else (record.mask_label,)
            regions = () if whole.is_empty else (Region(label=record.mask_label, mask=record.mask),)
    decoded: list[DecodedRegion] = []
    look_alikes, clipped_boxes = [], 0
    if record.masks:
        labels, decoded = _marked(files, record.masks)
        whole = files.together([name for marked in record.masks for name in marked.files])
    for region in regions:
        box = None if region.box is None else _shown(region, width, height, orientation)
        inside = None if box is None else _inside(box, width, height)
        clipped_boxes += inside != box
        if region.look_alike:
            look_alikes.append(encode(files.look_alike(region, inside)))
            continue
        mask = files.of_region(region)
        if mask is not None and mask.is_empty:
            raise Rejected("empty_region_mask", "no pixel of the region in its mask")
        words = {"label": region.label, "adjective": region.adjective, "phrase": region.phrase}
        decoded.append(DecodedRegion(**words, box=inside, mask=mask))
    return RowAnnotations(
        labels=labels,
        mask=whole,
        regions=tuple(decoded),
        look_alikes=tuple(look_alikes),
        clipped_boxes=clipped_boxes,
    )


class _MaskFiles:
    """The mask files that one row names, each opened once."""

    def __init__(
        self, root: Root, cut: Cut, image: OpenedFile, shape: tuple[int, int], max_pixels: int, orientation: int
    ) -> None:
        self._root, self._cut, self._image, self._shape, self._max_pixels = root, cut, image, shape, max_pixels
        self._orientation = orientation
        self._opened: dict[str, tuple[str, StoredMask]] = {}

    def stored(self, name: str) -> tuple[str, StoredMask]:
        """SHA-256 of the file and its grey values, which must be of the image's size."""
        if name not in self._opened:
            try:
                file = open_file(self._root, *locate(self._root, name))
                stored = mask_of(file, self._cut, self._image, self._max_pixels, self._orientation)
            except Rejected as error:
                raise Rejected(f"mask_{error.reason}", f"mask: {without_values(error.detail, name)}") from None
            self._check_size((stored.values.shape[0], stored.values.shape[1]))
            self._opened[name] = file.sha256, stored
        return self._opened[name]

    def pixels(self, name: str, value: int | None) -> Mask:
        try:
            return region_mask(self.stored(name)[1], value)
        except Rejected as error:
            raise Rejected(error.reason, f"mask: {error.detail}") from None

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
        pixels = np.logical_or.reduce([self.pixels(name, None) for name in names])
        digest = hashlib.sha256("".join(self.stored(name)[0] for name in names).encode())
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
        digest, stored = self.stored(name)
        pixels = stored.values != 0 if any_value else self.pixels(name, value)
        return DecodedMask(rle=encode(pixels), path=name, value=value, sha256=digest, is_empty=not bool(pixels.any()))


def _marked(files: _MaskFiles, masks: Iterable[MarkedMask]) -> tuple[tuple[str, ...] | None, list[DecodedRegion]]:
    """The labels of an image, and its regions, by which of its masks are empty."""
    shown = [(marked, files.together(marked.files)) for marked in masks if marked.files]
    regions = [
        DecodedRegion(label=marked.label, adjective=None, phrase=None, box=None, mask=mask)
        for marked, mask in shown
        if not mask.is_empty
    ]
    labels = tuple(dict.fromkeys(region.label for region in regions if region.label is not None))
    says_nothing = any(marked.label is None or not marked.files for marked in masks)
    return None if says_nothing and not labels else labels, regions


def _regions_of_classes(files: _MaskFiles, name: str, classes: Iterable[tuple[int, str]]) -> Iterator[Region]:
    """One region for each listed class that a label map has; a value that nobody listed is an error."""
    named = dict(classes)
    stored = files.stored(name)[1]
    if stored.lossy:
        raise Rejected("ambiguous_mask", "mask: a JPEG (or lossy WebP) keeps no values of mask_classes: give a PNG")
    values = set(np.unique(stored.values).tolist()) - {0}
    if unlisted := sorted(values - named.keys()):
        more = f" and {len(unlisted) - 5} more" if len(unlisted) > 5 else ""
        raise Rejected("unlisted_mask_value", f"mask: {unlisted[:5]}{more} are in the file and not in mask_classes")
    for value in sorted(values):
        yield Region(label=named[value], mask=name, mask_value=value)


def _shown(region: Region, width: int, height: int, orientation: int) -> Box:
    """The box in pixels of the image as it is shown, which has width x height."""
    stored = _scaled(region, *turned_size(width, height, orientation))
    return turned_box(stored, width, height, orientation)


def _scaled(region: Region, width: int, height: int) -> Box:
    """The box in pixels of the image, which may be a resized copy of the one that the box was drawn in."""
    assert region.box is not None
    if region.box_size is None or region.box_size == (width, height):
        return region.box
    if min(region.box_size) < 1:
        raise Rejected("box_size_differs", f"box of an image of {region.box_size[0]} x {region.box_size[1]} pixels")
    x_scale, y_scale = width / region.box_size[0], height / region.box_size[1]
    if abs(x_scale / y_scale - 1) > _MAX_STRETCH:
        size = f"{region.box_size[0]} x {region.box_size[1]}"
        is_turned = region.box_size == (height, width)
        hint = ": annotated_pixels says in which pixels of a turned picture boxes are given" if is_turned else ""
        raise Rejected("box_size_differs", f"box drawn in {size} pixels, the image has {width} x {height}{hint}")
    x0, y0, x1, y1 = region.box
    return x0 * x_scale, y0 * y_scale, x1 * x_scale, y1 * y_scale


def _inside(box: Box, width: int, height: int) -> Box:
    inside = clip_box(box, width, height) if all(map(math.isfinite, box)) else (0.0, 0.0, 0.0, 0.0)
    if inside[2] - inside[0] <= 0 or inside[3] - inside[1] <= 0:
        raise Rejected("bad_box", f"box {box} has no area in an image of {width} x {height} pixels")
    return inside
