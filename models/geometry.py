"""Boxes, masks and the padded square: all geometry that data preparation, training and evaluation share.

A box is (x0, y0, x1, y1) in pixels of the image, x to the right, y downwards, x1 and y1 exclusive; edges may lie
between pixels. A mask is a boolean array, height x width.

The padded square: an image of width w and height h is resized by side / max(w, h), rounded to whole pixels and at least
one, and put in the top left corner of a black square. Nothing is cut off and the aspect ratio stays.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box = tuple[float, float, float, float]
Mask = NDArray[np.bool_]


def clip_box(box: Box, width: int, height: int) -> Box:
    """A box of finite numbers with its edges moved into the image; without an area where it lies outside."""
    x0, x1 = (min(max(float(edge), 0.0), float(width)) for edge in (box[0], box[2]))
    y0, y1 = (min(max(float(edge), 0.0), float(height)) for edge in (box[1], box[3]))
    return x0, y0, x1, y1


def box_of_mask(mask: Mask) -> Box:
    """The tight box of a mask with at least one true pixel."""
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def box_ious(boxes: Sequence[Box], others: Sequence[Box]) -> NDArray[np.float64]:
    """Intersection over union (0 to 1) of each box with each other one, shape (boxes, others).

    Two boxes without area give 0. The order of operations is that of pycocotools, so that both agree to the last bit.
    """
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    first, second = (np.asarray(corners, dtype=np.float64) for corners in (boxes, others))
    size, other_size = first[:, 2:] - first[:, :2], second[:, 2:] - second[:, :2]
    # Not the corners x1 and y1 themselves: start + size, as pycocotools computes them, may differ in the last bit.
    end, other_end = first[:, :2] + size, second[:, :2] + other_size
    overlap = np.minimum(end[:, None], other_end[None]) - np.maximum(first[:, None, :2], second[None, :, :2])
    overlap = np.where(overlap > 0, overlap, 0.0)
    intersection = overlap[..., 0] * overlap[..., 1]
    union = size.prod(axis=1)[:, None] + other_size.prod(axis=1)[None] - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union != 0)


def filled_box(box: Box, side: int) -> Mask:
    """(side, side): the pixels of the padded square whose centres a box covers, at least one along each edge.

    Args:
        box: In units of the padded square, 0 to 1.
        side: Pixels of the square.
    """
    mask = np.zeros((side, side), dtype=bool)
    spans = []
    for start, end in ((box[1], box[3]), (box[0], box[2])):
        first = min(side - 1, max(0, math.ceil(start * side - 0.5)))
        spans.append(slice(first, max(first + 1, math.ceil(end * side - 0.5))))
    mask[spans[0], spans[1]] = True
    return mask


def mask_iou(first: Mask, second: Mask) -> float:
    """Intersection over union of two masks of one size, 0 to 1; two empty masks give 0."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0


def suppress(boxes: Sequence[Box], scores: Sequence[float], max_iou: float) -> list[int]:
    """Greedy non-maximum suppression: indices of the boxes that stay, best score first.

    A box goes where its IoU with a better one that stays is above `max_iou`. Equal scores are decided by the boxes, so
    that the order is fixed.
    """
    kept: list[int] = []
    ious = box_ious(boxes, boxes)
    for index in sorted(range(len(boxes)), key=lambda index: (-scores[index], boxes[index])):
        if not kept or ious[index, kept].max() <= max_iou:
            kept.append(index)
    return kept


def fitted_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height, in pixels, of the image inside the padded square."""
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def fit_image(image: Image.Image, side: int) -> Image.Image:
    """The image as an RGB square of `side` pixels, black at the right or bottom."""
    square = Image.new("RGB", (side, side))
    size = fitted_size(image.width, image.height, side)
    square.paste(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))
    return square


def fit_mask(mask: Mask, side: int) -> Image.Image:
    """A mask as a grey square of `side` pixels with values 0 and 255, in the geometry of `fit_image`.

    A pixel is set where the mask covers at least half of it. A lesion too small for that keeps its most covered
    pixels, so that no mask vanishes.
    """
    height, width = mask.shape
    coverage = Image.fromarray(mask.astype(np.float32))
    small = np.asarray(coverage.resize(fitted_size(width, height, side), Image.Resampling.BOX))
    threshold = min(0.5, float(small.max()))
    square = Image.new("L", (side, side))
    if threshold > 0:
        square.paste(Image.fromarray(np.where(small >= threshold, 255, 0).astype(np.uint8)))
    return square


def unit_box(box: Box, width: int, height: int, side: int) -> Box:
    """A box in pixels of the original image as (x0, y0, x1, y1) in units of the padded square, 0 to 1."""
    fitted_width, fitted_height = fitted_size(width, height, side)
    x_scale, y_scale = fitted_width / width / side, fitted_height / height / side
    x0, y0, x1, y1 = clip_box(box, width, height)
    return round(x0 * x_scale, 6), round(y0 * y_scale, 6), round(x1 * x_scale, 6), round(y1 * y_scale, 6)


def box_with_margin(box: Box, margin: float, width: int, height: int) -> tuple[int, int, int, int]:
    """The box with context around it, in whole pixels, cut off at the border of an image of `width` x `height`.

    Args:
        box: In pixels of the image.
        margin: Context on each side as a fraction of the box's longer side.
        width: Of the image.
        height: Of the image.
    """
    context = margin * max(box[2] - box[0], box[3] - box[1])
    left, top = max(0, math.floor(box[0] - context)), max(0, math.floor(box[1] - context))
    return left, top, min(width, math.ceil(box[2] + context)), min(height, math.ceil(box[3] + context))


def crop_with_margin(image: Image.Image, box: Box, margin: float, side: int) -> Image.Image:
    """The box with its margin, cut from the full resolution, as an RGB square of `side` pixels.

    Args:
        image: The original image.
        box: In pixels of the original image.
        margin: Context on each side as a fraction of the box's longer side; it ends at the image's border.
        side: Pixels of the square.
    """
    return fit_image(image.crop(box_with_margin(box, margin, image.width, image.height)), side)
