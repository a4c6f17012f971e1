"""AUC by rank sums against scikit-learn, and which images and classes count."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import Item
from pipelines.evaluate.tasks.zero_shot import ZeroShotConfig, _aucs, _Class, _macro_auc, _truths


def item(source: str, labels: tuple[str, ...] | None) -> Item:
    return Item("k", source, labels, "ok", None, False)


def test_rank_sums_equal_scikit_learn_with_ties() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, (50, 30))
    scores = random.integers(0, 6, (50, 30)) / 6
    expected = [roc_auc_score(one, score) for one, score in zip(truth, scores, strict=True)]
    np.testing.assert_allclose(_aucs(truth, scores), expected, atol=1e-12)


def test_rank_sums_of_one_class_are_nan() -> None:
    assert np.isnan(_aucs(np.array([[1, 1], [0, 0]]), np.array([[0.1, 0.2], [0.1, 0.2]]))).all()


def test_classes_are_told_apart_within_their_own_source() -> None:
    items = [
        item("a", ("mass",)),
        item("a", ()),
        item("a", None),
        item("b", ("polyp",)),
        item("b", ("polyp", "blood")),
        item("c", ("No Finding",)),
    ]
    truths, one_sided = _truths(items)
    assert {key: value.tolist() for key, value in truths.items()} == {("a", "mass"): [1, 0], ("b", "blood"): [0, 1]}
    assert one_sided == [("b", "polyp")]


def test_macro_is_the_mean_over_classes_and_a_constant_score_is_chance() -> None:
    truth = np.repeat([1, 0], 15)
    perfect = _Class("a", "mass", truth, -np.arange(30.0))
    constant = _Class("b", "blood", truth, np.zeros(30))
    score = _macro_auc([perfect, constant], Bootstrap(samples=100, seed=0))
    assert score.value == 0.75
    assert (score.low, score.high, score.chance) == (0.75, 0.75, 0.5)


def test_interval_covers_the_known_auc() -> None:
    # Scores N(1, 1) against N(0, 1): AUC = Phi(1 / sqrt(2)) = 0.760.
    random = np.random.default_rng(1)
    truth = np.repeat([0, 1], 400)
    score = _macro_auc([_Class("a", "x", truth, random.normal(size=800) + truth)], Bootstrap(samples=1000, seed=0))
    assert score.low < 0.760 < score.high
    # Hanley and McNeil (1982): standard error about 0.0167 for this AUC and these numbers.
    assert score.high - score.low == pytest.approx(2 * 1.96 * 0.0167, rel=0.12)


@pytest.mark.parametrize("templates", [[], ["a finding"]])
def test_a_template_without_a_place_for_the_label_is_refused(templates: list[str]) -> None:
    with pytest.raises(ValueError, match=r"\{label\}"):
        ZeroShotConfig(templates=templates, negatives=["no {label}"])
