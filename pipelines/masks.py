"""Masks as text: COCO's compressed run-length codes (RLE), and how much regions with such masks overlap.

A code does not hold the mask's size: `decode` needs the height and width of the image that the mask belongs to.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from models.geometry import Box, Mask, box_ious


class BoxAndMask(Protocol):
    """Anything with a box and, perhaps, a mask, such as a row of `PROPOSALS`."""

    @property
    def box(self) -> Box: ...

    @property
    def mask(self) -> str | None: ...


def encode(mask: Mask) -> str:
    """A mask as a COCO compressed run-length code (ASCII)."""
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode("ascii")


def decode(rle: str, height: int, width: int) -> Mask:
    """The mask, height x width, of a code that `encode` made.

    Raises:
        ValueError: The code is of a mask of another size, or is no code.
    """
    try:
        code = {"size": [height, width], "counts": rle.encode("ascii")}
        mask = coco.decode(code).astype(bool)
    except ValueError as error:
        raise ValueError(f"not the run-length code of a mask of {height} x {width} pixels: {error}") from None
    if encode(mask) != rle:
        raise ValueError(f"not the run-length code of a mask of {height} x {width} pixels")
    return mask


def largest_ious(
    regions: Sequence[BoxAndMask], others: Sequence[BoxAndMask], height: int, width: int
) -> NDArray[np.float64]:
    """The largest IoU of each region with one of the others: of the masks where both have one, else of the boxes.

    Args:
        regions: Regions of one image.
        others: Regions of the same image, such as the annotated ones.
        height: Of the image.
        width: Of the image.

    Returns:
        Shape (regions,); 0 where there are no others.
    """
    ious = box_ious([region.box for region in regions], [other.box for other in others])
    rows, masks = _codes(regions, height, width)
    columns, other_masks = _codes(others, height, width)
    if rows and columns:
        ious[np.ix_(rows, columns)] = np.nan_to_num(coco.iou(masks, other_masks, [0] * len(other_masks)))
    return ious.max(axis=1, initial=0.0)


def _codes(regions: Sequence[BoxAndMask], height: int, width: int) -> tuple[list[int], list[dict[str, object]]]:
    """Indices of the regions that have a mask, and their masks in pycocotools' form."""
    masked = [(index, region.mask) for index, region in enumerate(regions) if region.mask is not None]
    size = [height, width]
    return [index for index, _ in masked], [{"size": size, "counts": mask.encode("ascii")} for _, mask in masked]
