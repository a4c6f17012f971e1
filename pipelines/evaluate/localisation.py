"""How well a map of an image agrees with a mask: contrast-to-noise ratio and pointing game.

Both look at the valid pixels alone: what the encoder saw, without the padding of images that are no squares. Neither
changes when a map is multiplied by a positive number or shifted.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Random maps on which the chance of the absolute ratio is estimated.
SMOOTH_MAPS = 16
# Differences within a map smaller than this share of its values are float32's rounding.
_ROUNDING = 1e-6
# Least sum of both variances, of a map from 0 to 1: one that is flat in and out of its mask has a ratio all the same.
_EPSILON = 1e-6


def on_pixels(grids: NDArray[np.float32] | Values, side: int, seen: slice) -> Values:
    """Maps at the resolution of the image.

    Args:
        grids: (maps, rows, columns).
        side: Pixels of the image.
        seen: Rows, and columns, of the image that the maps cover.

    Returns:
        (maps, side, side), bilinear between the middles of the patches; NaN outside of `seen`.
    """
    pixels = np.full((len(grids), side, side), np.nan)
    shown = seen.stop - seen.start
    patches = torch.from_numpy(grids.astype(np.float64)).unsqueeze(1)
    pixels[:, seen, seen] = (
        F.interpolate(patches, (shown, shown), mode="bilinear", align_corners=False).squeeze(1).numpy()
    )
    return pixels


def cnr(maps: Values, inside: Mask) -> Values:
    """Contrast-to-noise ratio, signed: (mean inside - mean outside) / sqrt(variance inside + variance outside).

    Variances are of the population. A constant map has 0.

    Args:
        maps: (..., pixels).
        inside: (pixels,); some, and not all.

    Returns:
        (...).
    """
    levels = _levels(maps)
    inner, outer = levels[..., inside], levels[..., ~inside]
    noise = np.sqrt(np.maximum(inner.var(axis=-1) + outer.var(axis=-1), _EPSILON))
    return (inner.mean(axis=-1) - outer.mean(axis=-1)) / noise


def pointing(maps: Values, inside: Mask) -> Values:
    """Pointing game (Zhang et al. 2018, without their margin): whether the maximum lies in the mask, 0 to 1.

    Of pixels that share the maximum each is as likely to be pointed at: a constant map has the mask's share of the
    pixels, which is chance.

    Args:
        maps: (..., pixels).
        inside: (pixels,).

    Returns:
        (...).
    """
    levels = _levels(maps)
    highest = levels >= levels.max(axis=-1, keepdims=True) - _ROUNDING
    return (highest & inside).sum(axis=-1) / highest.sum(axis=-1)


def _levels(maps: Values) -> Values:
    """Each map from 0 to 1; a constant one is 0."""
    low, high = maps.min(axis=-1, keepdims=True), maps.max(axis=-1, keepdims=True)
    span = high - low
    constant = span <= _ROUNDING * np.maximum(np.abs(low), np.abs(high))
    return np.where(constant, 0.0, (maps - low) / np.where(constant, 1.0, span))


def centre_map(width: int, height: int, side: int) -> Values:
    """(side, side): high in the centre of the picture, which fills `width` x `height` pixels from the top left."""
    columns, rows = ((np.arange(side) + 0.5) / length - 0.5 for length in (width, height))
    return -np.hypot(rows[:, None], columns[None, :])


@lru_cache(maxsize=1)
def smooth_maps(grid: tuple[int, int], side: int, first: int, last: int) -> Values:
    """(maps, side, side): maps that know nothing, of independent normal numbers as coarse as a method's `grid`.

    Always the same ones; `first` and `last` are the ends of what is seen.
    """
    numbers = np.random.default_rng(0).normal(size=(SMOOTH_MAPS, *grid))
    return on_pixels(numbers, side, slice(first, last))
