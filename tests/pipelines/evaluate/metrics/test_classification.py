"""ROC AUC by rank sums, against scikit-learn."""

import numpy as np
from sklearn.metrics import roc_auc_score

from pipelines.evaluate.metrics.classification import roc_auc


def test_rank_sums_equal_scikit_learn_with_ties() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, (50, 30))
    scores = random.integers(0, 6, (50, 30)) / 6
    expected = [roc_auc_score(*rows) for rows in zip(truth, scores, strict=True)]
    np.testing.assert_allclose(roc_auc(truth, scores), expected, atol=1e-12)


def test_rank_sums_of_one_class_are_nan() -> None:
    assert np.isnan(roc_auc(np.array([[1, 1], [0, 0]]), np.array([[0.1, 0.2], [0.1, 0.2]]))).all()
