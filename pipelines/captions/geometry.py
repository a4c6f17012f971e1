"""Where a region lies, how large it is and what shape it has, measured from its mask or box."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops

from models.geometry import box_of_mask
from pipelines.captions.config import Sizes
from pipelines.masks import decode

HORIZONTAL = ("left", "center", "right")
VERTICAL = ("upper", "middle", "lower")
POSITIONS = tuple(f"{side} {level}" for side in HORIZONTAL for level in VERTICAL)

# Below this many pixels a shape is the raster's, not the region's.
_PUNCTATE = 12
_CONVEX = 0.9
_LOBULATED = 0.7


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What was measured of one region.

    Attributes:
        position: One of `POSITIONS`.
        size: small, medium or large.
        shape: Adjective of the closed vocabulary that `shape_of_mask` and `shape_of_box` speak.
        area_fraction: Area over image area, 0 to 1.
        across: Shares of its area in the image's thirds that are called left, center and right.
        down: Shares in the upper, middle and lower third.
        halves: Shares in the half that is called left and in the upper half.
    """

    position: str
    size: str
    shape: str
    area_fraction: float
    across: tuple[float, float, float]
    down: tuple[float, float, float]
    halves: tuple[float, float]


def measure(region: dict[str, Any], width: int, height: int, mirrored: bool, sizes: Sizes) -> Geometry:
    """Measure one row of `REGIONS`.

    Args:
        region: The row.
        width: Of the image, pixels.
        height: Of the image, pixels.
        mirrored: Left and right are the patient's, who faces the viewer.
        sizes: Area shares that part the sizes.
    """
    if region["mask"] is None:
        x, y = (region["x0"] + region["x1"]) / 2, (region["y0"] + region["y1"]) / 2
        shape = shape_of_box(region["x1"] - region["x0"], region["y1"] - region["y0"])
        columns = _coverage(region["x0"], region["x1"], width)
        rows = _coverage(region["y0"], region["y1"], height)
    else:
        mask = decode(region["mask"], height, width)
        x0, y0, x1, y1 = (int(edge) for edge in box_of_mask(mask))
        cut = mask[y0:y1, x0:x1]
        inside_y, inside_x = np.nonzero(cut)
        x, y = x0 + inside_x.mean() + 0.5, y0 + inside_y.mean() + 0.5
        shape = shape_of_mask(cut)
        columns, rows = mask.sum(axis=0, dtype=float), mask.sum(axis=1, dtype=float)
    share = region["area_fraction"]
    left, center, right = _parts(columns, 3)
    upper, middle, lower = _parts(rows, 3)
    left_half, right_half = _parts(columns, 2)
    return Geometry(
        position=position(x / width, y / height, mirrored),
        size="small" if share < sizes.medium else "medium" if share < sizes.large else "large",
        shape=shape,
        area_fraction=share,
        across=(right, center, left) if mirrored else (left, center, right),
        down=(upper, middle, lower),
        halves=(right_half if mirrored else left_half, _parts(rows, 2)[0]),
    )


def _coverage(start: float, end: float, length: int) -> NDArray[np.float64]:
    """How much of each of `length` pixels lies between two edges, 0 to 1."""
    pixels = np.arange(length)
    return np.clip(np.minimum(pixels + 1, end) - np.maximum(pixels, start), 0, 1)


def _parts(line: NDArray[np.float64], count: int) -> list[float]:
    """Shares of a line's sum in `count` equal parts of it; a pixel belongs to the part of its centre."""
    part = ((np.arange(len(line)) + 0.5) * count / len(line)).astype(int)
    sums = np.bincount(part, weights=line, minlength=count)
    return [float(share) for share in sums / sums.sum()]


def position(x: float, y: float, mirrored: bool) -> str:
    """The field of a 3 x 3 grid in which a point lies, as `<left|center|right> <upper|middle|lower>`.

    Args:
        x: From the image's left (0) to its right (1); a point on a line belongs to the field right of it.
        y: From top (0) to bottom (1); a point on a line belongs to the field below it.
        mirrored: Name the patient's sides instead of the image's.
    """
    column, row = (min(2, int(3 * value)) for value in (x, y))
    return f"{HORIZONTAL[2 - column if mirrored else column]} {VERTICAL[row]}"


def shape_of_mask(mask: NDArray[np.bool_]) -> str:
    """punctate, round, oval, elongated, lobulated or irregular, from the moments and the convex hull of a mask.

    Solidity (area over convex area) parts convex outlines from lobulated and irregular ones; among the convex ones the
    ratio of the axes of the ellipse with equal second moments decides: round from 0.8, oval from 0.45. Corners are not
    looked for: a square is round.
    """
    if np.count_nonzero(mask) < _PUNCTATE:
        return "punctate"
    (properties,) = regionprops(mask.astype(np.uint8))
    if properties.solidity < _CONVEX:
        return "lobulated" if properties.solidity >= _LOBULATED else "irregular"
    ratio = properties.axis_minor_length / properties.axis_major_length
    return "round" if ratio >= 0.8 else "oval" if ratio >= 0.45 else "elongated"


def shape_of_box(width: float, height: float) -> str:
    """All that a box tells of a shape: elongated where one side is at least twice the other, else localized."""
    return "elongated" if max(width, height) >= 2 * min(width, height) else "localized"
