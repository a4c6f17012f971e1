"""Means over labels, so that a frequent label counts as much as a rare one."""

import numpy as np
from numpy.typing import NDArray


def macro_mean(items: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the labels of the mean over their items; a label without an item, as in a resample, is left out.

    Args:
        items: (..., items, 2): the value of each item, and the number of its label.

    Returns:
        (...).
    """
    values, numbers = items[..., 0], items[..., 1]
    total, labels = np.zeros(items.shape[:-2]), np.zeros(items.shape[:-2])
    for number in np.unique(numbers):
        inside = numbers == number
        counts = inside.sum(axis=-1)
        total += (values * inside).sum(axis=-1) / np.maximum(counts, 1)
        labels += counts > 0
    return total / labels
