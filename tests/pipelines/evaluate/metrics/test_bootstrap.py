"""Means with their bootstrap intervals, by hand."""

import numpy as np
import pytest

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.metrics.bootstrap import Score, bootstrap_score, mean_score

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
