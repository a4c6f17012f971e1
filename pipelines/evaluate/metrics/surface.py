"""How far the outlines of two masks are apart: HD95 and NSD, as MONAI computes them.

Both are in pixels of the image as the shards hold it, whatever its size in the original. The outline of a mask are its
pixels with a neighbour, above, below, left or right, that is not in it; the image's edge is such a neighbour.
"""

import math
import warnings

import torch

from models.geometry import Mask

# Of NSD: how far an outline may be off, in pixels.
DEFAULT_TOLERANCE = 2.0


def check_tolerance(tolerance: float) -> None:
    """Refuse a tolerance that is no number of pixels.

    Raises:
        ValueError: It is negative, or not finite.
    """
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance is {tolerance}; give a number of pixels, 0 or more")


def surface_agreement(predicted: Mask, target: Mask, tolerance: float) -> tuple[float, float]:
    """HD95 and NSD of two masks (height, width).

    HD95 (Huttenlocher et al. 1993, with a percentile in the place of the maximum): of the distances from each pixel of
    one outline to the other outline the 95th percentile, the larger one of both directions, 0 or more. NSD, the
    normalised surface Dice (Nikolov et al. 2021, arXiv:1809.04430): the fraction of the pixels of both outlines that
    lie within `tolerance` of the other one, 0 to 1.

    Where both masks are empty, HD95 is 0 and NSD is 1. Where one is, HD95 is the diagonal of the image, which no two
    pixels exceed (so did BraTS: 373.13, that of its volumes), and NSD is 0.
    """
    # Importing MONAI takes seconds, and only those who ask for outlines should wait.
    from monai.metrics.utils import get_edge_surface_distance

    if not predicted.any() or not target.any():
        agree = predicted.any() == target.any()
        return (0.0, 1.0) if agree else (math.hypot(*target.shape), 0.0)
    one, other = (torch.from_numpy(mask.copy()) for mask in (predicted, target))
    with warnings.catch_warnings():
        # Of an argument that MONAI itself gives.
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        # Once for both measures: what MONAI's own functions of the two find out twice.
        _, distances, _ = get_edge_surface_distance(one, other, symmetric=True)
    percentiles = [torch.quantile(each, 0.95) for each in distances]
    return float(torch.stack(percentiles).max()), float((torch.cat(distances) <= tolerance).double().mean())
