"""Classes that exclude each other, and the transductive scores, by hand and against scikit-learn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from sklearn.metrics import accuracy_score, roc_auc_score
from torch import Tensor

from models.data.batches import Images, Tokens
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.definitions import definition_of
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.kept import recomputed
from pipelines.evaluate.source_classes import classes_by_source
from pipelines.evaluate.tasks.zero_shot import ZeroShotConfig
from pipelines.evaluate.zero_shot import exclusive
from pipelines.evaluate.zero_shot.classes import macro_auc, z_scores
from pipelines.promotion.paired import check_metric, value_of
from pipelines.records import ITEMS
from tests.pipelines.evaluate.small_world import (
    STEP,
    WORDS,
    Collapsed,
    Matcher,
    image,
    levels,
    task_result,
    tokenizer_of,
)

TOKENIZER = tokenizer_of([f"a finding called {word} no" for word in WORDS])
TEMPLATES = {"templates": ["{label}"], "negatives": ["no {label}"]}
EXCLUSIVE = {**TEMPLATES, "kind": "exclusive"}
QUICK = Bootstrap(samples=50, seed=0)


class Between(Matcher):
    """Its image of a level between two words' levels is as much of each as it is near; and every image is as much
    nearer to alpha: a bias that only a comparison of images takes away."""

    def __init__(self, tokenizer: Any, bias: float = 1.0) -> None:
        super().__init__(tokenizer)
        self.bias = bias

    def embed_images(self, images: Images) -> Tensor:
        steps = levels(images.pixels).mean(dim=(1, 2)) / STEP
        words = torch.arange(len(WORDS) + 2)
        nearness = (1 - (steps[:, None] - words).abs()).clamp(min=0)
        nearness[:, 0] += self.bias
        return nearness / nearness.norm(dim=1, keepdim=True)


def score(folder: Path, images: list[dict[str, Any]], options: dict[str, Any], model: Any = None) -> dict[str, Any]:
    return task_result(folder, images, "zero_shot", options, model or Matcher(TOKENIZER), TOKENIZER)


def labelled(source: str, labels: tuple[str, ...] | None) -> EvaluationImage:
    return EvaluationImage("k", source, labels, "ok", None, False)


def test_a_source_is_exclusive_where_each_labelled_image_has_one_label_or_no_finding() -> None:
    images = [
        labelled("a", ("mass",)),
        labelled("b", ("mass", "effusion")),
        labelled("a", ()),
        labelled("a", None),
        labelled("a", ("cyst",)),
        labelled("b", ("mass",)),
        labelled("c", ("polyp",)),
        labelled("a", ("No Finding",)),
        labelled("d", None),
    ]
    found, left_out, skipped = exclusive.exclusive_sources(
        images, classes_by_source((i.source, i.labels) for i in images)
    )
    (one,) = found
    assert (one.source, one.labels) == ("a", ("No Finding", "cyst", "mass"))
    assert (one.rows.tolist(), one.truth.tolist()) == ([0, 2, 4, 7], [2, 0, 1, 0])
    assert left_out == {"b": "not_exclusive", "c": "no_class_to_tell"}
    assert skipped == [("b", "effusion"), ("b", "mass"), ("c", "polyp")]


def test_classes_are_those_of_all_splits_and_one_image_with_two_labels_is_enough_anywhere() -> None:
    images = [labelled("a", ("mass",)), labelled("a", ()), labelled("b", ("mass",)), labelled("b", ("cyst",))]
    images += [labelled("c", ("mass",)), labelled("c", ("mass",))]
    elsewhere = [("a", ("cyst",)), ("a", None), ("a", ("nodule",)), ("b", ("mass", "cyst")), ("c", ("cyst",))]
    classes = classes_by_source([*((one.source, one.labels) for one in images), *elsewhere])
    (one,), left_out, skipped = exclusive.exclusive_sources(images, classes)
    assert (one.source, one.labels) == ("a", ("No Finding", "cyst", "mass", "nodule"))
    assert (one.truth.tolist(), one.not_shown) == ([2, 0], ["cyst", "nodule"])
    assert left_out == {"b": "not_exclusive", "c": "no_class_to_tell"}
    assert skipped == [("b", "cyst"), ("b", "mass"), ("c", "cyst"), ("c", "mass")]


def random_source(count: int = 90, classes: int = 4) -> tuple[exclusive.ExclusiveSource, np.ndarray]:
    random = np.random.default_rng(7)
    truth = random.integers(0, classes, count)
    cosines = random.normal(0, 0.1, (count, classes)).astype(np.float32)
    cosines[np.arange(count), truth] += 0.08
    labels = tuple("abcdefgh"[:classes])
    return exclusive.ExclusiveSource(source="s", rows=np.arange(count), labels=labels, truth=truth), cosines


@pytest.mark.parametrize("normalise", [False, True])
def test_auc_and_accuracy_are_those_of_scikit_learn(normalise: bool) -> None:
    source, cosines = random_source()
    logits = z_scores(cosines) if normalise else cosines / 0.07
    found = macro_auc(exclusive.one_vs_rest(source, logits), QUICK)
    probabilities = scipy.special.softmax(logits.astype(float), axis=1)
    expected = roc_auc_score(source.truth, probabilities, multi_class="ovr", average="macro")
    assert found.value == pytest.approx(expected, abs=1e-6)
    hits = exclusive.correct(source, logits)
    assert exclusive.accuracy([source], [hits], QUICK).value == pytest.approx(
        accuracy_score(source.truth, probabilities.argmax(axis=1)), abs=1e-6
    )


def test_a_class_without_images_takes_part_in_the_softmax_and_in_the_answer_and_has_no_auc() -> None:
    shown, cosines = random_source()
    source = exclusive.ExclusiveSource(source="s", rows=shown.rows, labels=tuple("abcde"), truth=shown.truth)
    cosines = np.column_stack([cosines, np.random.default_rng(8).normal(0.03, 0.1, len(cosines)).astype(np.float32)])
    probabilities = scipy.special.softmax(cosines.astype(float) / 0.07, axis=1)
    found = exclusive.one_vs_rest(source, cosines / 0.07)
    assert [one.label for one in found] == list("abcd")
    expected = [roc_auc_score(source.truth == number, probabilities[:, number]) for number in range(4)]
    assert macro_auc(found, QUICK).value == pytest.approx(np.mean(expected), abs=1e-6)
    accuracy = exclusive.accuracy([source], [exclusive.correct(source, cosines)], QUICK)
    assert accuracy.value == pytest.approx(accuracy_score(source.truth, probabilities.argmax(axis=1)), abs=1e-6)
    assert accuracy.chance == pytest.approx(1 / 5)


def test_the_order_of_images_and_of_classes_changes_nothing() -> None:
    source, cosines = random_source()
    found = macro_auc(exclusive.one_vs_rest(source, cosines / 0.07), QUICK).value
    images, classes = np.random.default_rng(0).permutation(90), np.array([2, 0, 3, 1])
    number = np.argsort(classes)
    moved = exclusive.ExclusiveSource(
        source="s",
        rows=np.arange(90),
        labels=tuple(source.labels[index] for index in classes),
        truth=number[source.truth[images]],
    )
    logits = cosines[images][:, classes] / 0.07
    assert macro_auc(exclusive.one_vs_rest(moved, logits), QUICK).value == found
    assert exclusive.correct(moved, logits).sum() == exclusive.correct(source, cosines).sum()


def test_a_tie_is_no_hit_and_chance_and_majority_are_those_of_each_source() -> None:
    source, cosines = random_source(4, 2)
    source = exclusive.ExclusiveSource(source="s", rows=source.rows, labels=("a", "b"), truth=np.array([0, 1, 1, 1]))
    cosines = np.array([[0.5, 0.5], [0.2, 0.2 + 1e-8], [0.1, 0.2], [0.3, 0.2]], np.float32)
    hits = exclusive.correct(source, cosines)
    assert hits.tolist() == [False, False, True, False]
    four = exclusive.ExclusiveSource(source="t", rows=np.arange(4), labels=tuple("abcd"), truth=np.arange(4))
    found = exclusive.accuracy([source, four], [hits, np.ones(4, bool)], QUICK)
    assert (found.value, found.chance) == (0.625, 0.375)
    assert found.baselines == {"majority class": 0.5}


def images_of_classes() -> list[dict[str, Any]]:
    """A source of three classes that look like their words, but the last image; two labels; one class alone."""
    images = [image(number, labels=[WORDS[number]]) for number in range(3)]
    images += [image(3, labels=[WORDS[0]], level=0), image(4, labels=[WORDS[1]], level=2 * STEP), image(5)]
    images += [image(6, source="two", labels=[WORDS[1], WORDS[2]]), image(7, source="two", labels=[WORDS[1]])]
    return [*images, image(8, source="three", labels=[WORDS[8]])]


def test_scores_counts_and_items_by_hand(tmp_path: Path) -> None:
    result = score(tmp_path, images_of_classes(), EXCLUSIVE)
    metrics = result["metrics"]
    assert metrics.keys() == {"auc_ovr", "accuracy"}
    # Five images of three classes; the second of beta looks like gamma. It is as far from beta as the three images of
    # other classes, and the first of gamma ties with it.
    assert metrics["accuracy"]["value"] == 0.8
    assert metrics["accuracy"]["chance"] == pytest.approx(1 / 3, abs=1e-6)
    assert metrics["accuracy"]["baselines"]["majority class"] == 0.4
    by_label = {one["label"]: one["auc"]["value"] for one in result["details"]["classes"]}
    assert by_label == {"alpha": 1.0, "beta": 0.75, "gamma": 0.875}
    assert metrics["auc_ovr"]["value"] == 0.875
    assert (metrics["auc_ovr"]["chance"], metrics["auc_ovr"]["baselines"].keys()) == (0.5, {"image-blind"})
    assert result["items"] == 5
    assert result["excluded"] == {"no_class_to_tell": 1, "no_labels": 1, "not_exclusive": 2}
    assert result["details"]["skipped_classes"] == [
        "three: lambda (no_class_to_tell)",
        "two: beta (not_exclusive)",
        "two: gamma (not_exclusive)",
    ]
    assert (
        "3 classes are skipped, of sources that are left out: three (no_class_to_tell), two (not_exclusive)"
        in (result["notes"])
    )
    assert result["verdict"]["headline"] == ["auc_ovr", "accuracy"]
    rows = ITEMS.read(tmp_path / "out" / "items.parquet")
    assert value_of(rows, "accuracy") == 0.8
    check_metric("accuracy", metrics, rows)
    of_beta = {row.image_id: (row.value, row.truth) for row in rows if row.label == "beta"}
    nearest = np.exp(1 / 0.07)
    assert of_beta[image(1)["key"]] == (pytest.approx(np.log(nearest / (nearest + 2)), abs=1e-5), 1)
    assert of_beta[image(4)["key"]] == (pytest.approx(np.log(1 / (nearest + 2)), abs=1e-5), 1)
    assert len(of_beta) == 5


def test_sources_have_classes_of_their_own(tmp_path: Path) -> None:
    images = [image(number, labels=[WORDS[number]]) for number in range(3)]
    # Of the other source's classes alone: beta would be nearer.
    images += [image(3, source="two", labels=["alpha"], level=0), image(4, source="two", labels=[], level=STEP)]
    result = score(tmp_path, images, EXCLUSIVE)
    assert {name: part["items"] for name, part in result["by_source"].items()} == {"one": 3, "two": 2}
    assert result["by_source"]["two"]["metrics"]["accuracy"]["chance"] == 0.5
    assert result["metrics"]["accuracy"]["chance"] == pytest.approx((3 / 3 + 2 / 2) / 5)
    # The image without finding is as far from "no alpha" as from alpha.
    assert result["by_source"]["two"]["metrics"]["accuracy"]["value"] == 0.5


def images_of_four_classes() -> list[dict[str, Any]]:
    """Of four classes each other split shows one that test lacks; the last image of test looks more like gamma."""
    test = [image(0, labels=["alpha"]), image(1, labels=["beta"]), image(2, labels=["alpha"], level=0)]
    test.append(image(3, labels=["beta"], level=int(1.6 * STEP)))
    validation = [image(number, split="validation", labels=[WORDS[number - 4]], level=0) for number in (4, 7)]
    return [*test, *validation, *(image(number, split="train", labels=["gamma"]) for number in (8, 9))]


def test_a_method_chooses_among_all_classes_of_the_source(tmp_path: Path) -> None:
    result = score(tmp_path, images_of_four_classes(), EXCLUSIVE, Between(TOKENIZER, bias=0))
    accuracy = result["metrics"]["accuracy"]
    # Beta has 0.4 of the last image and gamma 0.6.
    assert (accuracy["value"], accuracy["chance"], accuracy["baselines"]["majority class"]) == (0.75, 0.25, 0.5)
    assert [one["label"] for one in result["details"]["classes"]] == ["alpha", "beta"]
    assert result["details"]["skipped_classes"] == [f"one: {label} (no image has it)" for label in ("delta", "gamma")]
    assert (
        "one: 4 images, 4 classes; without an image on this split, and so without an AUC, but possible answers: delta, "
        "gamma" in result["notes"]
    )
    rows = ITEMS.read(tmp_path / "out" / "items.parquet")
    assert recomputed(rows, "auc_ovr") == pytest.approx(result["metrics"]["auc_ovr"]["value"], abs=1e-6)
    named = {row.image_id: row.output for row in rows if row.metric == "accuracy"}
    assert json.loads(named[image(3)["key"]] or "") == {"label": "gamma"}
    # Length of (0.4, 0.6), and its log odds of beta among alpha and delta, of which it has nothing, and gamma.
    length = np.hypot(0.4, 0.6)
    logits = np.array([0, 0.4, 0.6, 0]) / length / 0.07
    of_beta = {row.image_id: row.value for row in rows if row.label == "beta"}
    assert of_beta[image(3)["key"]] == pytest.approx(logits[1] - scipy.special.logsumexp(logits), abs=1e-2)
    validation = json.loads((tmp_path / "out" / "validation" / "metrics.json").read_text())["tasks"]["zero_shot"]
    assert validation["metrics"]["accuracy"]["chance"] == 0.25


def test_an_image_with_two_labels_in_training_makes_its_source_none_of_these(tmp_path: Path) -> None:
    images = [*images_of_four_classes(), image(10, split="train", labels=["alpha", "beta"])]
    result = score(tmp_path, images, EXCLUSIVE)
    assert (result["status"], "one (not_exclusive)" in result["reason"]) == ("skipped", True)


@pytest.mark.parametrize(("kind", "follows"), [("exclusive", True), ("both", True), ("findings", False)])
def test_the_items_digest_follows_the_classes_and_nothing_else_of_the_other_splits(
    tmp_path: Path, kind: str, follows: bool
) -> None:
    def digest(name: str, *more: dict[str, Any]) -> str:
        score(tmp_path / name, [*images_of_four_classes(), *more], {**TEMPLATES, "kind": kind})
        found: str = json.loads((tmp_path / name / "out" / "metrics.json").read_text())["items_sha256"]
        return found

    first = digest("first")
    for split in ("train", "validation"):
        assert digest(f"{split}-same", image(10, split=split, labels=["gamma"])) == first
        assert digest(f"{split}-other-source", image(10, split=split, source="x", labels=["opal"])) == first
        assert (digest(f"{split}-class", image(10, split=split, labels=["opal"])) != first) is follows
        assert (digest(f"{split}-two", image(10, split=split, labels=["alpha", "beta"])) != first) is follows


def test_an_image_without_finding_is_asked_about_by_the_prompts_that_deny_the_findings(tmp_path: Path) -> None:
    images = [image(0, labels=["alpha"]), image(1, labels=["beta"]), image(2, labels=[])]
    images += [image(3, labels=["opal"], source="two", level=0), image(4, labels=[], source="two")]
    options = {**EXCLUSIVE, "templates": ["a {label}"], "negatives": ["no {label}", "without {label}"]}
    score(tmp_path, images, options)
    rows = ITEMS.read(tmp_path / "out" / "items.parquet")
    assert {(row.source, row.prompt) for row in rows if row.label == "No Finding"} == {
        ("one", "no alpha\nwithout alpha\nno beta\nwithout beta"),
        ("two", "no opal\nwithout opal"),
    }
    assert {row.prompt for row in rows if row.label == "opal"} == {"a opal"}


def test_a_collapsed_method_scores_at_or_below_chance(tmp_path: Path) -> None:
    images = [image(number, labels=[WORDS[number % 3]]) for number in range(9)]
    metrics = score(tmp_path, images, {**EXCLUSIVE, "transductive": True}, Collapsed())["metrics"]
    assert {name: metric["value"] for name, metric in metrics.items()} == {
        "auc_ovr": 0.5,
        "accuracy": 0,
        "transductive/auc_ovr": 0.5,
        "transductive/accuracy": 0,
    }


def test_one_that_is_biased_towards_a_class_is_right_among_the_test_images(tmp_path: Path) -> None:
    images = [image(number, labels=[WORDS[number % 3]], level=STEP * (number % 3)) for number in range(9)]
    options = {**EXCLUSIVE, "transductive": True}
    result = score(tmp_path, images, options, Between(TOKENIZER))
    metrics = result["metrics"]
    # Alpha is as near to an image of beta or gamma as their own word: a tie, and no hit.
    assert metrics["accuracy"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert metrics["transductive/accuracy"]["value"] == 1
    assert metrics["transductive/accuracy"]["baselines"].keys() == {"majority class", "image-blind"}
    assert all(definition_of(name, result["definitions"]) for name in metrics)
    assert any(note.startswith("transductive/...") for note in result["notes"])
    alone = score(tmp_path / "alone", images, EXCLUSIVE, Between(TOKENIZER))["metrics"]
    assert alone == {name: metric for name, metric in metrics.items() if not name.startswith("transductive/")}
    rows = ITEMS.read(tmp_path / "out" / "items.parquet")
    with pytest.raises(UserError, match=r"transductive/accuracy cannot be a gate, .* choose from accuracy"):
        check_metric("transductive/accuracy", metrics, rows)


class TwoSided(Matcher):
    """Of a finding's two prompts it knows the image by the first alone; the second grows with the image's number."""

    def embed_images(self, images: Images) -> Tensor:
        steps = levels(images.pixels).mean(dim=(1, 2)) / STEP
        has = (steps.round() % 2).float()
        return torch.nn.functional.normalize(torch.stack([0.17 * has, 0.1 * steps, 2 + 0 * steps], dim=1), dim=1)

    def embed_text(self, tokens: Tokens) -> Tensor:
        negated = torch.tensor([[self.negation in ids] for ids in tokens.ids.tolist()])
        return torch.where(negated, torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]))


def test_of_findings_both_sides_are_normalised_by_hand(tmp_path: Path) -> None:
    images = [image(number, labels=["jade"] if number % 2 else []) for number in range(8)]
    result = score(tmp_path, images, {**TEMPLATES, "transductive": True}, TwoSided(TOKENIZER))
    numbers = np.arange(8)
    vectors = np.stack([0.17 * (numbers % 2), 0.1 * numbers, np.full(8, 2.0)], axis=1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sides = (vectors - vectors.mean(axis=0)) / np.where(vectors.std(axis=0) > 0, vectors.std(axis=0), 1)
    plain = roc_auc_score(numbers % 2, vectors[:, 0] - vectors[:, 1])
    normalised = roc_auc_score(numbers % 2, sides[:, 0] - sides[:, 1])
    assert plain != normalised
    assert result["metrics"]["auc_macro"]["value"] == pytest.approx(plain, abs=1e-6)
    assert result["metrics"]["transductive/auc_macro"]["value"] == pytest.approx(normalised, abs=1e-6)
    assert result["verdict"]["headline"] == ["auc_macro"]


class Trembling(TwoSided):
    """Sees nothing: its embeddings of images with the finding differ from the others by rounding alone."""

    def embed_images(self, images: Images) -> Tensor:
        has = (levels(images.pixels).mean(dim=(1, 2)) / STEP).round() % 2
        return torch.stack([0.6 + 1.8e-7 * has, 0.8 + 0 * has, 0 * has], dim=1)


def test_a_method_that_sees_nothing_but_rounding_is_at_chance(tmp_path: Path) -> None:
    images = [image(number, labels=["jade"] if number % 2 else []) for number in range(8)]
    options = {**TEMPLATES, "kind": "both", "transductive": True}
    metrics = score(tmp_path, images, options, Trembling(TOKENIZER))["metrics"]
    aucs = {name: metric["value"] for name, metric in metrics.items() if "auc" in name}
    assert aucs == dict.fromkeys(("auc_macro", "auc_ovr", "transductive/auc_macro", "transductive/auc_ovr"), 0.5)
    assert (metrics["auc_macro"]["low"], metrics["auc_macro"]["high"]) == (0.5, 0.5)


def test_nothing_exclusive_is_skipped_with_the_reason(tmp_path: Path) -> None:
    result = score(tmp_path, images_of_classes()[5:], EXCLUSIVE)
    assert result["status"] == "skipped"
    assert "three (no_class_to_tell), two (not_exclusive); 1 images without labels" in result["reason"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "exclusiv"}, "kind: Input should be 'findings', 'exclusive' or 'both'"),
        ({"temperature": 0.0}, "temperature is 0.0: choose a number above 0"),
        ({"temperature": float("inf")}, "temperature is inf: choose a number above 0"),
        ({"transductiv": True}, r"unknown key; did you mean 'transductive'\?"),
    ],
)
def test_mistyped_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(ZeroShotConfig, {**TEMPLATES, **options}, "here")
