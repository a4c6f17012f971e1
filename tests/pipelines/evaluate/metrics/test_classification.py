"""ROC AUC of resamples, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipelines.evaluate.metrics import classification
from pipelines.evaluate.metrics.classification import roc_auc


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
