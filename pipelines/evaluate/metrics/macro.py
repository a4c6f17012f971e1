"""Means over labels, so that a frequent label counts as much as a rare one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.metrics.bootstrap import Score, bootstrap_score


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


def mean_of_means(by_label: Sequence[NDArray[np.float64]], chance: float, bootstrap: Bootstrap) -> Score:
    """The mean over the labels of the mean over their items, with its interval: items are resampled within each label.

    Args:
        by_label: (items,) the values of each label.
        chance: The mean of guessing.
        bootstrap: Resamples and seed.
    """

    def resampled(*drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        means = [of_label[index].mean(axis=-1) for of_label, index in zip(by_label, drawn, strict=True)]
        return np.asarray(np.mean(means, axis=0))

    value = float(np.mean([of_label.mean() for of_label in by_label]))
    return bootstrap_score([len(of_label) for of_label in by_label], resampled, value, chance, bootstrap)
