"""Scores with their 95 % bootstrap intervals by the percentile method (Efron and Tibshirani 1993, chapter 13)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluate.config import Bootstrap

# Indices resampled at a time: bounds the memory of the resamples, not their number.
_BATCH_INDICES = 1 << 21


@dataclass(frozen=True)
class Score:
    """A value with its interval and the value that guessing gives.

    Attributes:
        value: The score on the test items.
        low: 2.5th percentile over the resamples; null where there are fewer than two items, or clusters of them.
        high: 97.5th percentile.
        chance: Expected score of a method that guesses; the task's notes say how.
        baselines: Name of a trivial baseline -> its score on the same items; empty where the task has none.
    """

    value: float
    low: float | None
    high: float | None
    chance: float
    baselines: dict[str, float] = field(default_factory=dict)

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval, or the value itself twice where there is none; for plots."""
        return (self.value if self.low is None else self.low, self.value if self.high is None else self.high)


def bootstrap_score(
    strata: Sequence[int], statistic: Callable[..., np.ndarray], value: float, chance: float, bootstrap: Bootstrap
) -> Score:
    """A score with its interval; the items of each stratum are resampled by themselves.

    Args:
        strata: Number of items of each stratum (one number for a plain bootstrap).
        statistic: Gets an array of item indices (resamples, items) for each stratum, gives (resamples,).
        value: The score on all items.
        chance: The score of guessing.
        bootstrap: Resamples and seed; every score starts from the same seed, so scores of the same items share
            their resamples.
    """
    if min(strata) < 2:
        return Score(round(value, 6), None, None, round(chance, 6))
    random = np.random.default_rng(bootstrap.seed)
    batch = max(1, _BATCH_INDICES // sum(strata))
    values = []
    for start in range(0, bootstrap.samples, batch):
        resamples = min(batch, bootstrap.samples - start)
        values.append(statistic(*(random.integers(count, size=(resamples, count)) for count in strata)))
    distribution = np.concatenate(values)
    # Resamples that drew no item of one class have no AUC; the others give the interval.
    distribution = distribution[np.isfinite(distribution)]
    if not distribution.size:
        return Score(round(value, 6), None, None, round(chance, 6))
    low, high = np.percentile(distribution, [2.5, 97.5]).tolist()
    return Score(round(value, 6), round(low, 6), round(high, 6), round(chance, 6))


def clustered_score(
    clusters: np.ndarray,
    statistic: Callable[..., np.ndarray],
    value: float,
    chance: float,
    bootstrap: Bootstrap,
) -> Score:
    """A score with its interval where some items are one observation: whole clusters are resampled.

    A resample takes as many clusters as there are, with replacement, each with all of its items (Davison and Hinkley
    1997, section 3.8). Where each item is a cluster of its own, it is the plain bootstrap.

    Args:
        clusters: (items,) equal numbers for the items of one cluster.
        statistic: Gets an array of item indices (resamples, items), gives (resamples,).
        value: As of `bootstrap_score`.
        chance: As of `bootstrap_score`.
        bootstrap: Resamples and seed.
    """
    of_item, sizes = _by_appearance(clusters)
    if len(sizes) == len(clusters):
        return bootstrap_score([len(clusters)], statistic, value, chance, bootstrap)
    order, ends = np.argsort(of_item, kind="stable"), sizes.cumsum()

    def of_clusters(drawn: np.ndarray) -> np.ndarray:
        # Resamples differ in their number of items, so each is computed by itself.
        return np.concatenate([statistic(order[_members(row, sizes, ends)][None]) for row in drawn])

    return bootstrap_score([len(sizes)], of_clusters, value, chance, bootstrap)


def _by_appearance(clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(items,) number of each item's cluster in the order of their first items; (clusters,) number of their items.

    So that what has the same clusters by other numbers is resampled alike.
    """
    _, first, of_item, sizes = np.unique(clusters, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    return np.argsort(order)[of_item], sizes[order]


def _members(drawn: np.ndarray, sizes: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Places of the items of the drawn clusters, in an order in which clusters stand one after another."""
    of_drawn = sizes[drawn]
    shifts = ends[drawn] - of_drawn.cumsum()
    return np.asarray(np.repeat(shifts, of_drawn) + np.arange(of_drawn.sum()))


def mean_score(
    values: NDArray[np.generic],
    chance: float,
    bootstrap: Bootstrap,
    baselines: Mapping[str, float] | None = None,
    clusters: np.ndarray | None = None,
) -> Score:
    """The mean over the items, with its interval.

    Args:
        values: (items,) numbers, or bool for the fraction of items that are true.
        chance: The mean of guessing.
        bootstrap: Resamples of the items, and seed.
        baselines: Trivial baseline -> its mean over the same items.
        clusters: As of `clustered_score`; None: each item is an observation.
    """
    of_item, sizes = _by_appearance(np.arange(len(values)) if clusters is None else clusters)
    # As of `clustered_score`, from the sums of the clusters.
    sums = np.bincount(of_item, weights=values)
    score = bootstrap_score(
        [len(sizes)],
        lambda drawn: sums[drawn].sum(axis=-1) / sizes[drawn].sum(axis=-1),
        float(values.mean()),
        chance,
        bootstrap,
    )
    return replace(score, baselines={name: round(value, 6) for name, value in (baselines or {}).items()})
