"""What a row says of its picture, checked against the pixels: masks that can be read and fit, boxes inside the picture.

Reason codes of `Rejected`: those of `open_mask` with `mask_` before them, mask_size_differs, empty_region_mask,
bad_box, box_size_differs.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.archives import locate, read_bytes
from pipelines.errors import Rejected
from pipelines.images import decode_mask
from pipelines.ingest.record import Region, SourceRecord

Box = tuple[float, float, float, float]

_LARGEST_STRETCH = 0.01  # relative difference of the two scales at which a box still fits a resized picture


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """Of one row.

    Attributes:
        labels: As in the table of images.
        mask_sha256: Of the mask of the whole image.
        regions: Rows of the table of given regions, without image_id, source and n.
        boxes_clipped: How many boxes reached over the picture's edge.
    """

    labels: tuple[str, ...] | None
    mask_sha256: str | None
    regions: list[dict[str, Any]]
    boxes_clipped: int


def read_annotations(root: Path, record: SourceRecord, width: int, height: int, max_pixels: int) -> Annotations:
    """Open the masks of a row and check them and its boxes against a picture of width x height pixels."""
    opened: dict[str, tuple[str, np.ndarray]] = {}

    def open_once(name: str) -> tuple[str, np.ndarray]:
        if name not in opened:
            opened[name] = _open(root, name, record.frame, max_pixels)
            mask_height, mask_width = opened[name][1].shape
            if (mask_width, mask_height) != (width, height):
                raise Rejected(
                    "mask_size_differs", f"{name}: {mask_width} x {mask_height}, the picture {width} x {height} pixels"
                )
        return opened[name]

    labels, given, mask_sha256 = record.labels, record.regions, None
    if record.mask is not None:
        mask_sha256, values = open_once(record.mask)
        if record.mask_label is not None:
            marked = bool(values.any())
            labels = (record.mask_label,) if marked else ()
            given = (Region(label=record.mask_label, mask=record.mask),) if marked else ()
    regions, clipped = [], 0
    for region in given:
        row: dict[str, Any] = {"label": region.label, "adjective": region.adjective, "mask_value": region.mask_value}
        if region.box is not None:
            box = _scaled(region, width, height)
            inside = _clipped(box, width, height)
            clipped += inside != box
            row |= dict(zip(("x0", "y0", "x1", "y1"), inside, strict=True))
        if region.mask is not None:
            digest, values = open_once(region.mask)
            if not (values.any() if region.mask_value is None else (values == region.mask_value).any()):
                raise Rejected("empty_region_mask", f"{region.mask}: no pixel of the region")
            row |= {"mask_path": region.mask, "mask_sha256": digest}
        regions.append(row)
    return Annotations(labels=labels, mask_sha256=mask_sha256, regions=regions, boxes_clipped=clipped)


def _open(root: Path, name: str, frame: int | None, max_pixels: int) -> tuple[str, np.ndarray]:
    try:
        data = read_bytes(root, *locate(root, name))
        return hashlib.sha256(data).hexdigest(), decode_mask(data, frame, max_pixels)
    except Rejected as error:
        raise Rejected(f"mask_{error.reason}", f"{name}: {error.detail}") from None


def _scaled(region: Region, width: int, height: int) -> Box:
    """The box in pixels of the picture, which may be a resized copy of the one that the box was drawn in."""
    assert region.box is not None
    if region.box_size is None or region.box_size == (width, height):
        return region.box
    if min(region.box_size) < 1:
        raise Rejected("box_size_differs", f"box of a picture of {region.box_size[0]} x {region.box_size[1]} pixels")
    across, down = width / region.box_size[0], height / region.box_size[1]
    if abs(across / down - 1) > _LARGEST_STRETCH:
        drawn = f"{region.box_size[0]} x {region.box_size[1]}"
        raise Rejected("box_size_differs", f"box drawn in {drawn} pixels, the picture has {width} x {height}")
    x0, y0, x1, y1 = region.box
    return x0 * across, y0 * down, x1 * across, y1 * down


def _clipped(box: Box, width: int, height: int) -> Box:
    x0, y0, x1, y1 = box
    inside = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if not all(map(math.isfinite, box)) or inside[2] - inside[0] <= 0 or inside[3] - inside[1] <= 0:
        raise Rejected("bad_box", f"box {box} has no area in a picture of {width} x {height} pixels")
    return inside
