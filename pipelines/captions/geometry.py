"""Where a region lies, how large it is and what shape it has, measured from its mask or box."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.geometry import HORIZONTAL, VERTICAL, Box
from pipelines.captions.config import Sizes
from pipelines.captions.mask_shape import MaskSums, Run, convex_area, summed
from pipelines.masks import column_runs

# Below this many pixels a shape is the raster's, not the region's.
_PUNCTATE_PIXELS = 12
_CONVEX_SOLIDITY = 0.9
_LOBULATED_SOLIDITY = 0.7


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What was measured of one region.

    Attributes:
        position: One of `models.geometry.POSITIONS`.
        size: small, medium or large.
        shape: Adjective of the closed vocabulary that `shape_of_mask` and `shape_of_box` use.
        area_fraction: Area over image area, 0 to 1.
        horizontal_thirds: Fractions of its area in the image's thirds that are called left, center and right.
        vertical_thirds: Fractions in the upper, middle and lower third.
        left_half: Fraction in the half that is called left.
        upper_half: Fraction in the upper half.
    """

    position: str
    size: str
    shape: str
    area_fraction: float
    horizontal_thirds: tuple[float, float, float]
    vertical_thirds: tuple[float, float, float]
    left_half: float
    upper_half: float


class Measurable(Protocol):
    """Anything with a box, perhaps a mask, and an area fraction, such as a row of `REGIONS`."""

    @property
    def box(self) -> Box: ...

    @property
    def mask(self) -> str | None: ...

    @property
    def area_fraction(self) -> float: ...


def measure(region: Measurable, width: int, height: int, patient_side: bool, sizes: Sizes) -> Geometry:
    """Measure one region.

    Args:
        region: The region.
        width: Of the image, pixels.
        height: Of the image, pixels.
        patient_side: Left and right are the patient's, who faces the viewer, so that the image's sides are swapped.
        sizes: Area fractions that separate the sizes.
    """
    if region.mask is None:
        x0, y0, x1, y1 = region.box
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        shape = shape_of_box(x1 - x0, y1 - y0)
        columns, rows = _coverage(x0, x1, width), _coverage(y0, y1, height)
        thirds = _parts(columns, 3), _parts(rows, 3)
        halves = _parts(columns, 2), _parts(rows, 2)
    else:
        runs = column_runs(region.mask, height, width)
        mask = summed(runs, height, width)
        x, y = mask.x, mask.y
        shape = shape_of_mask(mask, runs)
        thirds = _thirds(mask.columns), _thirds(mask.rows)
        halves = _halves(mask.columns), _halves(mask.rows)
    area = region.area_fraction
    (left, center, right), (upper, middle, lower) = thirds
    (left_half, right_half), (upper_half, _) = halves
    return Geometry(
        position=position(x / width, y / height, patient_side),
        size="small" if area < sizes.medium else "medium" if area < sizes.large else "large",
        shape=shape,
        area_fraction=area,
        horizontal_thirds=(right, center, left) if patient_side else (left, center, right),
        vertical_thirds=(upper, middle, lower),
        left_half=right_half if patient_side else left_half,
        upper_half=upper_half,
    )


def _coverage(start: float, end: float, length: int) -> NDArray[np.float64]:
    """How much of each of `length` pixels lies between two edges, 0 to 1."""
    pixels = np.arange(length)
    return np.clip(np.minimum(pixels + 1, end) - np.maximum(pixels, start), 0, 1)


def _parts(line: NDArray[np.float64], count: int) -> list[float]:
    """Fractions of a line's sum in `count` equal parts of it; a pixel belongs to the part of its centre."""
    part = ((np.arange(len(line)) + 0.5) * count / len(line)).astype(int)
    sums = np.bincount(part, weights=line, minlength=count)
    return [float(fraction) for fraction in sums / sums.sum()]


def _thirds(sixths: Sequence[int]) -> list[float]:
    a, b, c, d, e, f = sixths
    total = sum(sixths)
    return [(a + b) / total, (c + d) / total, (e + f) / total]


def _halves(sixths: Sequence[int]) -> list[float]:
    a, b, c, d, e, f = sixths
    total = sum(sixths)
    return [(a + b + c) / total, (d + e + f) / total]


def position(x: float, y: float, patient_side: bool) -> str:
    """The field of a 3 x 3 grid in which a point lies, as `<left|center|right> <upper|middle|lower>`.

    Args:
        x: From the image's left (0) to its right (1); a point on a line belongs to the field right of it.
        y: From top (0) to bottom (1); a point on a line belongs to the field below it.
        patient_side: Name the patient's sides instead of the image's.
    """
    column, row = (min(2, int(3 * value)) for value in (x, y))
    return f"{HORIZONTAL[2 - column if patient_side else column]} {VERTICAL[row]}"


def shape_of_mask(mask: MaskSums, runs: Sequence[Run]) -> str:
    """punctate, round, oval, elongated, lobulated or irregular, from the moments and the convex hull of a mask.

    Solidity (area over convex area) separates convex outlines from lobulated and irregular ones; among the convex ones
    the ratio of the axes of the ellipse with equal second moments decides: round from 0.8, oval from 0.45. Corners do
    not count: a square is round.

    Args:
        mask: What was summed over its runs.
        runs: The runs.
    """
    if mask.area < _PUNCTATE_PIXELS:
        return "punctate"
    solidity = mask.area / convex_area(runs)
    if solidity < _CONVEX_SOLIDITY:
        return "lobulated" if solidity >= _LOBULATED_SOLIDITY else "irregular"
    return "round" if mask.axis_ratio >= 0.8 else "oval" if mask.axis_ratio >= 0.45 else "elongated"


def shape_of_box(width: float, height: float) -> str:
    """All that a box says about a shape: elongated where one side is at least twice the other, else localized."""
    return "elongated" if max(width, height) >= 2 * min(width, height) else "localized"
