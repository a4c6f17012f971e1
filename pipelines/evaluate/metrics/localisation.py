"""Agreement of a heatmap with masks: contrast-to-noise ratio, pointing game, overlap, and which of several is meant.

All are computed over the valid pixels alone: what the encoder sees of the image, without the padding of images that
are no squares. None changes when a heatmap is multiplied by a positive number or shifted.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipelines.evaluate.metrics.segmentation import Values

# Random heatmaps on which the chance of the absolute ratio is estimated, and that of being highest on one of several.
RATIO_HEATMAPS, CHOICE_HEATMAPS = 16, 64
# Differences within a heatmap smaller than this fraction of its values are float32's rounding.
ROUNDING = 1e-6
# Least sum of both variances, of a heatmap from 0 to 1. The ratio of a heatmap that is nearly a mask itself has hardly
# any noise below it, so that a few such heatmaps decide the mean over all. A standard deviation of a twentieth of the
# range is below that of maps of patches: of 3,162 by three methods on 242 phantom images the least sum was 0.020.
_LEAST_VARIANCE = 0.05**2
# The largest ratio that a heatmap can have: that of its own mask.
CNR_BOUND = 1 / 0.05


def upsample(grids: NDArray[np.float32] | Values, side: int, visible: slice) -> Values:
    """Heatmaps at the resolution of the image.

    Args:
        grids: (heatmaps, rows, columns).
        side: Pixels of the image.
        visible: Rows, and columns, of the image that the heatmaps cover.

    Returns:
        (heatmaps, side, side), bilinear between the centres of the patches; NaN outside of `visible`.
    """
    pixels = np.full((len(grids), side, side), np.nan)
    length = visible.stop - visible.start
    patches = torch.from_numpy(grids.astype(np.float64)).unsqueeze(1)
    pixels[:, visible, visible] = (
        F.interpolate(patches, (length, length), mode="bilinear", align_corners=False).squeeze(1).numpy()
    )
    return pixels


def scaled(heatmaps: Values) -> Values:
    """Each heatmap from 0 to 1 over its last axis; a constant one is 0. What the measures below take."""
    low, high = heatmaps.min(axis=-1, keepdims=True), heatmaps.max(axis=-1, keepdims=True)
    span = high - low
    constant = span <= ROUNDING * np.maximum(np.abs(low), np.abs(high))
    return np.where(constant, 0.0, (heatmaps - low) / np.where(constant, 1.0, span))


def cnr(levels: Values, inside: NDArray[np.bool_]) -> Values:
    """Signed contrast-to-noise ratio: (mean inside - mean outside) / sqrt(variance inside + variance outside).

    As in MS-CXR's benchmark (Boecking et al. 2022, arXiv:2204.09817), which prints its absolute value.
    Variances are of the population, of the heatmap scaled to 0 to 1; their sum counts as at least 0.0025, so that the
    ratio lies between -20 and 20 (`CNR_BOUND`), which a heatmap equal to its mask has. A constant heatmap has 0.

    Args:
        levels: (..., pixels), as `scaled` gives them.
        inside: (pixels,); some, and not all.

    Returns:
        (...).
    """
    # The outside is what is left of the whole: it is much larger, and its pixels are never picked out.
    inner, size, inner_size = levels[..., inside], inside.size, np.count_nonzero(inside)
    means, variances = [], []
    for total, squares, count in (
        (inner.sum(axis=-1), np.square(inner).sum(axis=-1), inner_size),
        (
            levels.sum(axis=-1) - inner.sum(axis=-1),
            np.square(levels).sum(axis=-1) - np.square(inner).sum(axis=-1),
            size - inner_size,
        ),
    ):
        means.append(total / count)
        variances.append(squares / count - np.square(means[-1]))
    noise = np.sqrt(np.maximum(sum(variances), _LEAST_VARIANCE))
    return np.asarray((means[0] - means[1]) / noise)


def pointing_game(levels: Values, inside: NDArray[np.bool_]) -> Values:
    """Pointing game (Zhang et al. 2018, without their margin): whether the maximum lies in the mask, 0 to 1.

    Of pixels that share the maximum each is as likely to be pointed at: a constant heatmap has the mask's fraction of
    the pixels, which is chance.

    Args:
        levels: (..., pixels), as `scaled` gives them.
        inside: (pixels,).

    Returns:
        (...).
    """
    highest = levels >= levels.max(axis=-1, keepdims=True) - ROUNDING
    return (highest & inside).sum(axis=-1) / highest.sum(axis=-1)


def overlap(levels: Values, inside: NDArray[np.bool_], thresholds: Values) -> Values:
    """Intersection over union of a mask with the heatmap, scaled to 0 to 1, from a threshold on.

    Args:
        levels: (..., pixels), as `scaled` gives them.
        inside: (pixels,); some.
        thresholds: (thresholds,), above 0: a constant heatmap marks nothing.

    Returns:
        (..., thresholds), 0 to 1.
    """
    marked = levels[..., None, :] >= thresholds[:, None]
    counted, shared = marked.sum(axis=-1), marked[..., inside].sum(axis=-1)
    return shared / (np.count_nonzero(inside) + counted - shared)


def dice_of(iou: Values) -> Values:
    """Dice of each mask from its intersection over union, 2 IoU / (1 + IoU); it does not hold of means over masks."""
    return 2 * iou / (1 + iou)


def highest_on(levels: Values, drawn: NDArray[np.bool_], meant: NDArray[np.bool_]) -> Values:
    """Whether the heatmap is highest on one of the objects that are meant, of all that are drawn, 0 to 1.

    An object's height is the heatmap's maximum on it, which is higher on larger objects where nothing tells them apart.
    Of objects that share the greatest height each is as likely to be chosen: a constant heatmap has the fraction of the
    objects that are meant.

    Args:
        levels: (..., pixels), as `scaled` gives them.
        drawn: (objects, pixels); some pixels of each.
        meant: (objects,).

    Returns:
        (...).
    """
    heights = np.stack([levels[..., mask].max(axis=-1) for mask in drawn], axis=-1)
    highest = heights >= heights.max(axis=-1, keepdims=True) - ROUNDING
    return (highest & meant).sum(axis=-1) / highest.sum(axis=-1)


@lru_cache(maxsize=16)
def centre_heatmap(width: int, height: int, side: int) -> Values:
    """(side, side): high in the centre of the image, which fills `width` x `height` pixels from the top left."""
    columns, rows = ((np.arange(side) + 0.5) / length - 0.5 for length in (width, height))
    return -np.hypot(rows[:, None], columns[None, :])


@lru_cache(maxsize=1)
def random_heatmaps(grid: tuple[int, int], side: int, first: int, last: int) -> Values:
    """(heatmaps, side, side): independent normal numbers as coarse as a method's `grid`, upsampled.

    They are the same at every call; `first` and `last` are the ends of the visible rows and columns.
    """
    numbers = np.random.default_rng(0).normal(size=(max(RATIO_HEATMAPS, CHOICE_HEATMAPS), *grid))
    return upsample(numbers, side, slice(first, last))


@lru_cache(maxsize=4)
def random_levels(grid: tuple[int, int], side: int, first: int, last: int, rows: int, columns: int) -> Values:
    """(heatmaps, pixels): those of `random_heatmaps` within the valid pixels, `scaled`.

    Args:
        grid: Rows and columns of a method's heatmap.
        side: Pixels of the image.
        first: First visible row and column.
        last: End of the visible rows and columns.
        rows: End of the valid rows.
        columns: End of the valid columns.
    """
    valid = random_heatmaps(grid, side, first, last)[:, first:rows, first:columns]
    return scaled(valid.reshape(len(valid), -1))
