"""What the runs of a mask tell of it: its area, its centre, how it lies in the image, its moments and its convex hull.

Runs are few where pixels are many, so all is summed over these, in whole numbers and thus without rounding. The figures
are those of skimage.measure.regionprops, which decodes the mask and takes several times as long.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

# Parts of an image's width or height that are counted: thirds and halves are made of them.
SIXTHS = 6

Run = tuple[int, int, int]  # column, first row, the row after the last


@dataclass(frozen=True, kw_only=True)
class MaskSums:
    """What was summed.

    Attributes:
        area: Pixels.
        x: Of the centre, pixels from the image's left edge.
        y: Of the centre, pixels from its upper edge.
        columns: Pixels in each sixth of the image's width.
        rows: Pixels in each sixth of its height.
        axis_ratio: Minor over major axis of the ellipse with the same second moments, 0 to 1; of a single pixel 1.
    """

    area: int
    x: float
    y: float
    columns: tuple[int, ...]
    rows: tuple[int, ...]
    axis_ratio: float


def summed(runs: Sequence[Run], height: int, width: int) -> MaskSums:
    """Sum up a mask.

    Args:
        runs: At least one, as `pipelines.masks.column_runs` gives them.
        height: Of the mask.
        width: Of the mask.
    """
    left, upper = runs[0][0], min(first for _, first, _ in runs)
    of_column, of_row = _sixths(width), _sixths(height)
    columns, rows = [0] * SIXTHS, [0] * SIXTHS
    # Sums over pixels from the mask's box's corner: x, 2y, x^2, 12y^2, 2xy.
    area = sum_x = sum_2y = sum_xx = sum_12yy = sum_2xy = 0
    for column, first, end in runs:
        length, x, two_y = end - first, column - left, first + end - 1 - 2 * upper
        area += length
        sum_x += length * x
        sum_2y += length * two_y
        sum_xx += length * x * x
        # A column of n pixels has the variance (n^2 - 1) / 12 beside its centre's square.
        sum_12yy += length * (3 * two_y * two_y + length * length - 1)
        sum_2xy += length * x * two_y
        columns[of_column[column]] += length
        part, last = of_row[first], of_row[end - 1]
        if part == last:
            rows[part] += length
        else:
            for row in range(first, end):
                rows[of_row[row]] += 1
    # Central moments times 12 and the square of the area, which their ratio does not see.
    xx = 12 * (area * sum_xx - sum_x * sum_x)
    yy = area * sum_12yy - 3 * sum_2y * sum_2y
    xy = 6 * (area * sum_2xy - sum_x * sum_2y)
    major = (xx + yy) / 2 + math.hypot((xx - yy) / 2, xy)  # the larger eigenvalue; the product of both is exact
    return MaskSums(
        area=area,
        x=left + sum_x / area + 0.5,
        y=upper + sum_2y // 2 / area + 0.5,
        columns=tuple(columns),
        rows=tuple(rows),
        axis_ratio=math.sqrt(xx * yy - xy * xy) / major if major else 1.0,
    )


def convex_area(runs: Sequence[Run]) -> int:
    """Pixels whose centres lie in or on the convex hull of a mask; corners of a pixel are the middles of its edges.

    That is skimage's hull (`convex_hull_image`).

    Args:
        runs: At least one, as `pipelines.masks.column_runs` gives them.
    """
    tops = {column: first for column, first, _ in reversed(runs)}
    bottoms = {column: 1 - end for column, _, end in runs}
    columns = runs[-1][0] - runs[0][0] + 1
    return columns - _first_rows([*reversed(tops.items())]) - _first_rows([*bottoms.items()])


def _first_rows(tops: Sequence[tuple[int, int]]) -> int:
    """The sum, over all columns, of the first row whose centre is in the hull; for its lower side rows are negative.

    The hull of the pixels is that of their centres with one pixel, a diamond, added to each of its points (Minkowski).
    So its upper side has that one's edges and the diamond's two, by their slopes. Lengths are doubled, for the diamond
    has halves.
    """
    corners = _convex(tops)
    edges = [(2 * (x1 - x0), 2 * (y1 - y0)) for (x0, y0), (x1, y1) in pairwise(corners)]
    edges += ((1, -1), (1, 1))
    edges.sort(key=_slope)
    x, y = 2 * corners[0][0] - 1, 2 * corners[0][1]
    rows = 0
    for width, rise in edges:
        # ceil(y / 2) at each even x of the edge but its start.
        first = x + 2 - x % 2
        negated, divisor = -y * width - rise * (first - x), 2 * width
        for _ in range(first, x + width + 1, 2):
            rows -= negated // divisor
            negated -= 2 * rise
        x, y = x + width, y + rise
    return rows


def _slope(edge: tuple[int, int]) -> float:
    return edge[1] / edge[0]


def _convex(points: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The corners of the upper side of the hull of points whose x grow (Andrew's monotone chain)."""
    chain: list[tuple[int, int]] = []
    for point in points:
        x, y = point
        while len(chain) > 1:
            x1, y1 = chain[-1]
            x0, y0 = chain[-2]
            if (x1 - x0) * (y - y0) > (y1 - y0) * (x - x0):
                break
            chain.pop()
        chain.append(point)
    return chain


@lru_cache(maxsize=64)
def _sixths(length: int) -> tuple[int, ...]:
    """The sixth that each of `length` pixels is in, by its centre."""
    return tuple((2 * pixel + 1) * SIXTHS // (2 * length) for pixel in range(length))
