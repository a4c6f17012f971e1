"""Which pixels of a mask's file belong to a region: the one rule by which masks and label maps are decoded.

- A `mask_value` names the region's grey value, and exactly these pixels are the region. A JPEG, and a lossy WebP or
  JPEG 2000, cannot keep grey values apart, so it is refused.
- Without one, the file must show one region: two grey values, of which the darker is 0, or black and white with soft
  edges, as anti-aliasing, resizing and JPEG leave them. Of soft edges, at least 95 % of the pixels lie within 16 grey
  levels of 0 or of the file's maximum, and every other value lies at an edge between dark and bright; the threshold is
  half the maximum. In a JPEG and the like, values within the 16 levels may lie anywhere, for it leaves noise.
- Everything else is `ambiguous_mask`: a label map without the list of its values, or an image that is no mask.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from models.geometry import Mask
from pipelines.errors import Rejected
from pipelines.images import StoredMask

_TOLERANCE = 16  # grey levels around black and around the maximum
_LEAST_FRACTION = 0.95  # of pixels within the tolerance
_EDGE = 8  # pixels; the side of a JPEG block, as far as its ringing reaches


def region_mask(stored: StoredMask, mask_value: int | None) -> Mask:
    """The pixels of one region.

    Args:
        stored: Grey values of the file.
        mask_value: The region's own value; None where the file shows one region.

    Returns:
        Height x width; empty where no pixel belongs to the region.

    Raises:
        Rejected: ambiguous_mask.
    """
    if mask_value is None:
        return _foreground(stored)
    if stored.lossy:
        raise Rejected(
            "ambiguous_mask", f"a JPEG (or lossy WebP) does not keep the value {mask_value} apart: give a PNG"
        )
    return stored.values == mask_value


def _foreground(stored: StoredMask) -> Mask:
    values = stored.values
    levels = np.unique(values)
    if levels[0] >= 0 and (levels.size == 1 or (levels.size == 2 and levels[0] == 0)):
        return values > 0
    lowest, highest = int(levels[0]), int(levels[-1])
    middle = (values > _TOLERANCE) & (values < highest - _TOLERANCE)
    between = middle if stored.lossy else (values != 0) & (values != highest)
    # Up to twice the tolerance every value is near both ends, which says nothing.
    is_binary = lowest >= 0 and highest > 2 * _TOLERANCE and middle.mean() <= 1 - _LEAST_FRACTION
    if not is_binary or not _lie_at_edges(between, values > highest / 2):
        raise Rejected(
            "ambiguous_mask",
            f"{levels.size} grey values from {lowest} to {highest}: name the region's own (mask_value, mask_classes)",
        )
    return values > highest / 2


def _lie_at_edges(between: NDArray[np.bool_], bright: Mask) -> bool:
    """Whether some pixels lie at edges of the bright area; others are an area, and so a class, of their own."""
    if not between.any():
        return True
    to_edge = np.where(bright, distance_transform_edt(bright), distance_transform_edt(~bright))
    return float(to_edge[between].max()) <= _EDGE
