"""From the original image to the padded squares that the shards hold.

A picture of width w and height h is resized by side / max(w, h), rounded to whole pixels and at least one, and put in
the top left corner of a black square. Nothing is cut off and the aspect ratio stays.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box = tuple[float, float, float, float]


def fitted_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height, in pixels, of the picture inside the square."""
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def fit(image: Image.Image, side: int) -> Image.Image:
    """The picture as an RGB square of `side` pixels, black at the right or bottom."""
    square = Image.new("RGB", (side, side))
    size = fitted_size(image.width, image.height, side)
    square.paste(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))
    return square


def fit_mask(mask: NDArray[np.bool_], side: int) -> Image.Image:
    """A mask (height x width) as a grey square of `side` pixels with values 0 and 255, in the geometry of `fit`.

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


def unit_box(box: Box, width: int, height: int, side: int) -> list[float]:
    """A box in pixels of the original image as (x0, y0, x1, y1) in units of the padded square, 0 to 1."""
    fitted_width, fitted_height = fitted_size(width, height, side)
    scales = (fitted_width / width / side, fitted_height / height / side) * 2
    limits = (width, height) * 2
    return [
        round(min(max(edge, 0.0), limit) * scale, 6) for edge, limit, scale in zip(box, limits, scales, strict=True)
    ]


def cut(image: Image.Image, box: Box, margin: float, side: int) -> Image.Image:
    """The box with its margin, cut from the full resolution, as an RGB square of `side` pixels.

    Args:
        image: The original image.
        box: In pixels of the original image, x1 and y1 exclusive.
        margin: Context on each side as a share of the box's longer side; it ends at the image's border.
        side: Pixels of the square.
    """
    context = margin * max(box[2] - box[0], box[3] - box[1])
    left, top = max(0, math.floor(box[0] - context)), max(0, math.floor(box[1] - context))
    right = min(image.width, math.ceil(box[2] + context))
    bottom = min(image.height, math.ceil(box[3] + context))
    return fit(image.crop((left, top, right, bottom)), side)
