"""Agreement of a heatmap with a mask: contrast-to-noise ratio and pointing game.

Both are computed over the valid pixels alone: what the encoder sees of the image, without the padding of images that
are no squares. Neither changes when a heatmap is multiplied by a positive number or shifted.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipelines.evaluate.metrics.segmentation import Values

# Random heatmaps on which the chance of the absolute ratio is estimated.
RANDOM_HEATMAPS = 16
# Differences within a heatmap smaller than this fraction of its values are float32's rounding.
_ROUNDING = 1e-6
# Least sum of both variances, of a heatmap from 0 to 1: one that is flat in and out of its mask has a finite ratio.
_EPSILON = 1e-6


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


def cnr(heatmaps: Values, inside: NDArray[np.bool_]) -> Values:
    """Signed contrast-to-noise ratio: (mean inside - mean outside) / sqrt(variance inside + variance outside).

    As in MS-CXR's benchmark (Boecking et al. 2022, arXiv:2204.09817), which prints its absolute value.
    Variances are of the population. A constant heatmap has 0.

    Args:
        heatmaps: (..., pixels).
        inside: (pixels,); some, and not all.

    Returns:
        (...).
    """
    levels = _levels(heatmaps)
    inner, outer = levels[..., inside], levels[..., ~inside]
    noise = np.sqrt(np.maximum(inner.var(axis=-1) + outer.var(axis=-1), _EPSILON))
    return (inner.mean(axis=-1) - outer.mean(axis=-1)) / noise


def pointing_game(heatmaps: Values, inside: NDArray[np.bool_]) -> Values:
    """Pointing game (Zhang et al. 2018, without their margin): whether the maximum lies in the mask, 0 to 1.

    Of pixels that share the maximum each is as likely to be pointed at: a constant heatmap has the mask's fraction of
    the pixels, which is chance.

    Args:
        heatmaps: (..., pixels).
        inside: (pixels,).

    Returns:
        (...).
    """
    levels = _levels(heatmaps)
    highest = levels >= levels.max(axis=-1, keepdims=True) - _ROUNDING
    return (highest & inside).sum(axis=-1) / highest.sum(axis=-1)


def _levels(heatmaps: Values) -> Values:
    """Each heatmap from 0 to 1; a constant one is 0."""
    low, high = heatmaps.min(axis=-1, keepdims=True), heatmaps.max(axis=-1, keepdims=True)
    span = high - low
    constant = span <= _ROUNDING * np.maximum(np.abs(low), np.abs(high))
    return np.where(constant, 0.0, (heatmaps - low) / np.where(constant, 1.0, span))


def centre_heatmap(width: int, height: int, side: int) -> Values:
    """(side, side): high in the centre of the image, which fills `width` x `height` pixels from the top left."""
    columns, rows = ((np.arange(side) + 0.5) / length - 0.5 for length in (width, height))
    return -np.hypot(rows[:, None], columns[None, :])


@lru_cache(maxsize=1)
def random_heatmaps(grid: tuple[int, int], side: int, first: int, last: int) -> Values:
    """(heatmaps, side, side): independent normal numbers as coarse as a method's `grid`, upsampled.

    They are the same at every call; `first` and `last` are the ends of the visible rows and columns.
    """
    numbers = np.random.default_rng(0).normal(size=(RANDOM_HEATMAPS, *grid))
    return upsample(numbers, side, slice(first, last))
