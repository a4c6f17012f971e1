"""Which images and classes count, and the macro AUC with its interval."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.source_classes import classes_by_source
from pipelines.evaluate.tasks.zero_shot import ZeroShotConfig
from pipelines.evaluate.zero_shot.classes import FindingClass, class_truths, macro_auc, z_scores
from tests.pipelines.evaluate.small_world import WORDS, Matcher, image, task_result, tokenizer_of


def labelled(source: str, labels: tuple[str, ...] | None) -> EvaluationImage:
    return EvaluationImage("k", source, labels, "ok", None, False)


def test_a_class_has_the_labelled_images_of_its_own_source() -> None:
    images = [
        labelled("a", ("mass",)),
        labelled("a", ()),
        labelled("a", None),
        labelled("b", ("polyp",)),
        labelled("b", ("polyp", "blood")),
        labelled("c", ("No Finding",)),
    ]
    truths, skipped = class_truths(images, classes_by_source((one.source, one.labels) for one in images))
    assert {key: value.tolist() for key, value in truths.items()} == {("a", "mass"): [1, 0], ("b", "blood"): [0, 1]}
    assert skipped == {("b", "polyp"): "all images have it"}


def test_a_class_of_other_splits_that_no_test_image_has_is_named(tmp_path: Path) -> None:
    images = [image(0, labels=["alpha", "beta"]), image(1, labels=["beta", "No Finding"])]
    images += [
        image(2, split="train", labels=["alpha", "gamma"]),
        image(3, split="train", labels=["No Finding"]),
        image(4, split="validation", labels=["epsilon"]),
        # Of a source that is not tested.
        image(5, split="train", source="two", labels=["delta"]),
    ]
    tokenizer = tokenizer_of([*WORDS, "no alpha"])
    options = {"templates": ["{label}"], "negatives": ["no {label}"]}
    skipped = [
        f"one: {why}" for why in ("beta (all images have it)", "epsilon (no image has it)", "gamma (no image has it)")
    ]
    result = task_result(tmp_path / "some", images, "zero_shot", options, Matcher(tokenizer), tokenizer)
    assert [one["label"] for one in result["details"]["classes"]] == ["alpha"]
    assert result["details"]["skipped_classes"] == skipped
    assert f"3 classes are skipped: {'; '.join(skipped)}" in result["notes"]
    none = task_result(tmp_path / "none", images[1:], "zero_shot", options, Matcher(tokenizer), tokenizer)
    assert none["status"] == "skipped"
    assert "one: alpha (no image has it); one: beta (all images have it); one: epsilon (no image" in none["reason"]


def test_macro_is_the_mean_over_classes_and_a_constant_score_is_chance() -> None:
    truth = np.repeat([1, 0], 15)
    perfect = FindingClass("a", "mass", truth, -np.arange(30.0))
    constant = FindingClass("b", "blood", truth, np.zeros(30))
    score = macro_auc([perfect, constant], Bootstrap(samples=100, seed=0))
    assert score.value == 0.75
    assert (score.low, score.high, score.chance) == (0.75, 0.75, 0.5)


def test_interval_covers_the_known_auc() -> None:
    # Scores N(1, 1) against N(0, 1): AUC = Phi(1 / sqrt(2)) = 0.760.
    random = np.random.default_rng(1)
    truth = np.repeat([0, 1], 400)
    score = macro_auc([FindingClass("a", "x", truth, random.normal(size=800) + truth)], Bootstrap(samples=1000, seed=0))
    assert score.low < 0.760 < score.high
    # Hanley and McNeil (1982): standard error about 0.0167 for this AUC and these numbers.
    assert score.high - score.low == pytest.approx(2 * 1.96 * 0.0167, rel=0.12)


def test_z_scores_by_hand_and_none_of_what_is_equally_near_to_all() -> None:
    cosines = np.array([[0.1, 0.5], [0.3, 0.5 + 1e-7], [0.5, 0.5]], np.float32)
    # Mean 0.3 and standard deviation 0.2 * sqrt(2 / 3).
    np.testing.assert_allclose(z_scores(cosines)[:, 0], [-np.sqrt(1.5), 0, np.sqrt(1.5)], atol=1e-6)
    assert (z_scores(cosines)[:, 1] == 0).all()


@pytest.mark.parametrize("templates", [[], ["a finding"]])
def test_a_template_without_a_place_for_the_label_is_refused(templates: list[str]) -> None:
    with pytest.raises(ValueError, match=r"\{label\}"):
        ZeroShotConfig(templates=templates, negatives=["no {label}"])
