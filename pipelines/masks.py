"""Masks as text: COCO's compressed run-length codes (RLE), and the box of a mask.

A code does not hold the mask's size: `decode` needs the height and width of the image that the mask belongs to.
"""

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

Box = tuple[float, float, float, float]


def encode(mask: NDArray[np.bool_]) -> str:
    """A boolean mask, height x width, as a COCO compressed run-length code (ASCII)."""
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode("ascii")


def decode(rle: str, height: int, width: int) -> NDArray[np.bool_]:
    """The boolean mask, height x width, of a code that `encode` made.

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


def box_of(mask: NDArray[np.bool_]) -> Box:
    """The tight box (x0, y0, x1, y1) in pixels, x1 and y1 exclusive, of a mask with at least one true pixel."""
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def clamp(box: Box, width: int, height: int) -> Box:
    """A box of finite numbers with its edges moved into the image; without an area where it lies outside."""
    x0, x1 = (min(max(float(edge), 0.0), float(width)) for edge in (box[0], box[2]))
    y0, y1 = (min(max(float(edge), 0.0), float(height)) for edge in (box[1], box[3]))
    return x0, y0, x1, y1


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks of one size, 0 to 1; two empty masks give 0."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0
