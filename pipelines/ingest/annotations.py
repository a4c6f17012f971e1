"""What a row says of its image, checked against the pixels: masks decoded, boxes moved into the image.

Reason codes of `Rejected`: those of `pipelines.ingest.mask_files`, and empty_region_mask, bad_box, box_size_differs.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from models.geometry import Box, clip_box
from models.orientation import AS_STORED, turned_box, turned_size
from pipelines.errors import Rejected
from pipelines.ingest.mask_files import DecodedMask, MaskFiles
from pipelines.ingest.reading_cache import KnownReadings
from pipelines.ingest.record import MarkedMask, Region, SourceRecord
from pipelines.masks import encode
from pipelines.opened import OpenedFile
from pipelines.storage import Root

_MAX_STRETCH = 0.01  # relative difference of the two scales at which a box still fits a resized image


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
    known: KnownReadings | None = None,
) -> RowAnnotations:
    """Open the masks of a row and check them and its boxes against an image. Known masks are not decoded again.

    Args:
        root: Of the source.
        record: The row.
        image: Its file: a mask that is a volume is sampled where the picture lies.
        width: Pixels of the picture as it is shown.
        height: Pixels of the picture as it is shown.
        max_pixels: Of a mask.
        orientation: By which boxes and masks are turned, where the source gives them in stored pixels.
        known: What is known of the picture, with these `max_pixels`; None: nothing, and every mask is decoded.
    """
    files = MaskFiles(root, record.cut, image, (height, width), max_pixels, orientation, known or KnownReadings())
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


def _marked(files: MaskFiles, masks: Iterable[MarkedMask]) -> tuple[tuple[str, ...] | None, list[DecodedRegion]]:
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


def _regions_of_classes(files: MaskFiles, name: str, classes: Iterable[tuple[int, str]]) -> Iterator[Region]:
    """One region for each listed class that a label map has; a value that nobody listed is an error."""
    named = dict(classes)
    for value in files.values_of(name, named):
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
