"""Which outlines are small, medium and large: thirds of what is scored, or by fractions of the image that are given."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluate.metrics.segmentation import Values

SIZES = ("small", "medium", "large")

# Upper ends of small and of medium, as fractions of the image's area.
Limits = tuple[float, float]


def thirds(areas: Sequence[float] | Values) -> Limits:
    """The areas below which a third and two thirds of the outlines lie; of equal areas all are on one side."""
    low, high = np.quantile(np.asarray(areas), [1 / 3, 2 / 3]).tolist()
    return low, high


def by_size(areas: Sequence[float] | Values, limits: Limits) -> dict[str, NDArray[np.intp]]:
    """Size -> the places of the outlines of this size; a size without any is absent.

    Args:
        areas: (outlines,) fraction of the image that each fills.
        limits: An outline of exactly such an area is of the smaller size.
    """
    sizes = np.searchsorted(np.array(limits), np.asarray(areas), side="left")
    places = {name: np.flatnonzero(sizes == number) for number, name in enumerate(SIZES)}
    return {name: of_size for name, of_size in places.items() if len(of_size)}
