"""ROC AUC of resamples, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipelines.evaluate.metrics import classification
from pipelines.evaluate.metrics.classification import roc_auc, with_ties


@pytest.mark.parametrize("held", [1, 100, 1 << 19])
def test_auc_of_each_resample_equals_scikit_learn_with_ties(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classification, "_COUNTS", held)
    random = np.random.default_rng(0)
    truth, scores = random.integers(0, 2, 30), random.integers(0, 6, 30) / 6
    drawn = random.integers(0, 30, (50, 30))
    expected = [roc_auc_score(truth[row], scores[row]) for row in drawn]
    np.testing.assert_allclose(roc_auc(truth, scores, drawn), expected, atol=1e-12)


def test_auc_by_hand_and_none_of_one_class() -> None:
    truth, scores = np.array([1, 0, 0, 1]), np.array([0.2, 0.1, 0.2, 0.3])
    # Of the pairs of the whole, the first positive beats one negative and half of the other.
    drawn = np.array([[0, 1, 2, 3], [1, 1, 3, 3], [2, 2, 0, 0], [0, 0, 3, 3], [1, 1, 2, 2]])
    np.testing.assert_array_equal(roc_auc(truth, scores, drawn), [7 / 8, 1.0, 0.5, np.nan, np.nan])


def test_scores_that_differ_by_rounding_are_ties_and_others_stay() -> None:
    scores = np.array([0.3, 0.1 + 5e-8, 0.1, 0.5, 0.1 + 9e-7, 0.1 + 1.5e-6])
    np.testing.assert_array_equal(with_ties(scores), [0.3, 0.1, 0.1, 0.5, 0.1, 0.1 + 1.5e-6])
    apart = np.array([0.25, -0.5, 0.125], np.float32)
    np.testing.assert_array_equal(with_ties(apart), apart)
    assert with_ties(apart[:0]).shape == (0,)
    # The same similarity everywhere, but for the last digit of the positives.
    alike = np.full(10, 0.3, np.float32)
    alike[7:] = np.nextafter(alike[7:], np.float32(1))
    truth, everything = (np.arange(10) >= 7).astype(np.int8), np.arange(10)[None]
    assert roc_auc(truth, alike, everything) == 1
    assert roc_auc(truth, with_ties(alike), everything) == 0.5
