"""Means with their bootstrap intervals, by hand."""

import numpy as np
import pytest

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.metrics.bootstrap import Score, bootstrap_score, clustered_score, mean_score

BOOTSTRAP = Bootstrap(samples=500, seed=3)


def test_the_interval_of_a_mean_holds_the_percentiles_of_the_resampled_means() -> None:
    values = np.array([0.0, 1.0, 4.0, 7.0])
    drawn = np.random.default_rng(3).integers(4, size=(500, 4))
    low, high = np.percentile([sum(values[index] for index in row) / 4 for row in drawn], [2.5, 97.5])
    score = mean_score(values, 0.25, BOOTSTRAP)
    assert (score.value, score.chance) == (3.0, 0.25)
    assert (score.low, score.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


def test_the_mean_of_booleans_is_the_fraction_that_is_true() -> None:
    assert mean_score(np.array([True, False, False, True, True]), 0.5, BOOTSTRAP).value == 0.6


def test_one_item_has_no_interval_and_its_bounds_are_its_value() -> None:
    score = mean_score(np.array([0.75]), 0.5, BOOTSTRAP)
    assert score == Score(0.75, None, None, 0.5)
    assert score.bounds == (0.75, 0.75)


def test_resamples_without_a_value_do_not_count() -> None:
    def first_or_nan(index: np.ndarray) -> np.ndarray:
        return np.where(index[:, 0] == 0, np.nan, 2.0)

    assert bootstrap_score([3], first_or_nan, 2.0, 0.0, BOOTSTRAP) == Score(2.0, 2.0, 2.0, 0.0)
    assert bootstrap_score([3], lambda index: np.full(len(index), np.nan), 2.0, 0.0, BOOTSTRAP).low is None


def test_clusters_are_drawn_whole() -> None:
    values, clusters = np.array([1.0, 0.0, 2.0, 0.0, 1.0, 5.0]), np.array([7, 3, 7, 3, 7, 9])
    # In the order of their first items: three items with 4 together, two with 0, one with 5.
    sums, sizes = np.array([4.0, 0.0, 5.0]), np.array([3, 2, 1])
    drawn = np.random.default_rng(3).integers(3, size=(500, 3))
    expected = np.percentile([sums[row].sum() / sizes[row].sum() for row in drawn], [2.5, 97.5])
    score = mean_score(values, 0.5, BOOTSTRAP, clusters=clusters)
    assert (score.value, score.chance) == (1.5, 0.5)
    assert (score.low, score.high) == pytest.approx(tuple(expected), abs=1e-6)
    highest = clustered_score(clusters, lambda index: values[index].max(axis=-1), 5.0, 0.0, BOOTSTRAP)
    expected = np.percentile([max([2, 0, 5][cluster] for cluster in row) for row in drawn], [2.5, 97.5])
    assert (highest.low, highest.high) == pytest.approx(tuple(expected), abs=1e-6)


def test_clusters_of_one_item_are_the_plain_bootstrap_and_one_cluster_has_no_interval() -> None:
    values = np.random.default_rng(0).normal(size=40)
    assert mean_score(values, 0.0, BOOTSTRAP, clusters=np.arange(40)) == mean_score(values, 0.0, BOOTSTRAP)
    alone = mean_score(values, 0.0, BOOTSTRAP, clusters=np.zeros(40, int))
    assert (alone.low, alone.high) == (None, None)
