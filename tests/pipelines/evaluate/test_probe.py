"""The task `probe` by the stage on real shards: scores of known methods, skips, choices, the control, and its cost."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.method import Method
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.stage import evaluate
from pipelines.evaluate.tasks.probe import ProbeConfig
from pipelines.records import ITEMS
from tests.pipelines.evaluate.small_world import WORDS, Collapsed, Matcher, image, levels, tokenizer_of, write_shards

TOKENIZER = tokenizer_of([f"a finding called {word} no an image with a without" for word in WORDS])
CLASSES = {1: ["beta"], 2: ["gamma"], 3: []}


class Looks(Method):
    """Embeds images by their grey level, a little; cannot read text. Counts the images that it saw."""

    max_regions = 0
    normalises_text = True

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.seen = 0

    def embed_images(self, images: Images) -> Tensor:
        self.seen += len(images.pixels)
        level = levels(images.pixels).mean(dim=(1, 2)) / 255
        return nn.functional.normalize(torch.stack([level, 1 - level], dim=1), dim=1)


class Rereader(Matcher):
    """Sees nothing in an image; reads texts."""

    def embed_images(self, images: Images) -> Tensor:
        return self._embed(torch.zeros_like(images.pixels))


class Denier(Matcher):
    """Takes a finding's prompts for its absence, and the other way round."""

    def embed_text(self, tokens: Tokens) -> Tensor:
        return -super().embed_text(tokens)


def some(split: str, counts: dict[int, int], first: int, **changes: Any) -> list[dict[str, Any]]:
    """So many images of each class, each as grey as its class's number says."""
    numbers = [number for number, count in counts.items() for _ in range(count)]
    return [
        image(number, key=f"{first + place:016x}", split=split, **{"labels": CLASSES.get(number), **changes})
        for place, number in enumerate(numbers)
    ]


def world(train: int = 6) -> list[dict[str, Any]]:
    """Three classes that exclude one another; of `beta` there are more training images than of the others."""
    return [
        *some("train", {1: train + 1, 2: train, 3: train}, 100),
        *some("validation", {1: 2, 2: 2, 3: 2}, 200),
        *some("test", {1: 3, 2: 2, 3: 1}, 300),
    ]


def tasks_of(folder: Path, images: list[dict], model: Any, **options: Any) -> dict[str, Any]:
    """The results on test, and those on validation as `validation`."""
    values = {"tasks": {"probe": options}, "batch_size": 4, "bootstrap": {"samples": 50, "seed": 0}}
    shards = write_shards(folder / "shards", images)
    config = parse(EvaluateConfig, values, "here")
    evaluate(config, "probe", model, TOKENIZER, "0" * 64, *shards, folder / "out", folder / "summaries")
    splits = {"": folder / "out", "validation": folder / "out/validation"}
    read = {
        split: json.loads((path / "metrics.json").read_text())["tasks"]["probe"]
        for split, path in splits.items()
        if path.is_dir()
    }
    return {**read.pop(""), **read}


def values(result: dict[str, Any]) -> dict[str, float]:
    return {name: score["value"] for name, score in result["metrics"].items()}


def test_a_method_that_knows_the_answers_and_what_stands_beside_it(tmp_path: Path) -> None:
    result = tasks_of(tmp_path, world(), Matcher(TOKENIZER))
    kinds = [f"{head}{metric}" for head in ("", "blend/") for metric in ("auc_macro", "accuracy")]
    names = [f"{kind}@{k}" for kind in kinds for k in (1, 5, "all")]
    assert values(result) == dict.fromkeys(names, 1.0)
    assert (result["items"], result["excluded"]) == (6, {})
    assert {score["chance"] for name, score in result["metrics"].items() if "auc" in name} == {0.5}
    # Of 7, 6 and 6 training images; half of the test images are of the most frequent class.
    prior = round((3 * 7 + 2 * 6 + 1 * 6) / 19 / 6, 6)
    for k in (1, 5, "all"):
        score = result["metrics"][f"accuracy@{k}"]
        blind = score["baselines"].pop("image-blind")
        assert blind < 1
        assert score["baselines"] == {"majority class": 0.5, "prior of the labels": prior}
        assert score["chance"] == round(1 / 3, 6)
    assert [one["label"] for one in result["details"]["classes"]] == ["beta", "gamma"]
    assert result["details"]["classes"][1] == {
        "source": "one",
        "label": "gamma",
        "positives": 2,
        "negatives": 4,
        "training_images": 6,
        "auc": {head: {"1": 1.0, "5": 1.0, "all": 1.0} for head in ("linear", "blend")},
    }
    assert result["details"]["skipped_classes"] == {"1": [], "5": [], "all": []}
    assert result["verdict"]["headline"] == ["auc_macro@k", "accuracy@k", "blend/auc_macro@k"]
    assert {entry["metric"] for entry in result["definitions"]} == {f"{kind}@k" for kind in kinds}
    assert (tmp_path / "out/probe.svg").is_file()
    rows = [row for row in ITEMS.read(tmp_path / "out/items.parquet") if "accuracy" in row.metric]
    assert len(rows) == 6 * 6
    assert {(row.metric, row.value) for row in rows} == {(name, 1.0) for name in names if "accuracy" in name}


def test_a_collapsed_method_is_at_chance_and_names_the_majority_where_it_learns_from_all(tmp_path: Path) -> None:
    result = tasks_of(tmp_path, world(), Collapsed())
    found = values(result)
    assert {value for name, value in found.items() if "auc" in name} == {0.5}
    third = round(1 / 3, 6)
    assert {found[f"{head}accuracy@{k}"] for head in ("", "blend/") for k in (1, 5)} == {third}
    assert (found["accuracy@all"], found["blend/accuracy@all"]) == (0.5, third)


def test_diverged_weights_are_a_failed_task(tmp_path: Path) -> None:
    result = tasks_of(tmp_path, world(), Collapsed(float("nan")))
    assert (result["status"], result["excluded"]) == ("failed", {"embedding_not_finite": 6})


def test_a_method_without_texts_has_the_linear_head_and_embeds_each_image_once(tmp_path: Path) -> None:
    model = Looks()
    result = tasks_of(tmp_path, world(), model)
    assert set(result["metrics"]) == {f"{name}@{k}" for name in ("accuracy", "auc_macro") for k in (1, 5, "all")}
    # Training images once for both splits and for the control.
    assert model.seen == len(world())
    assert values(result)["accuracy@all"] == 1.0
    # Its one dimension is the grey level: gamma lies between beta and no finding.
    assert values(result)["auc_macro@5"] == 1.0


def test_a_method_that_reads_the_image_beats_its_control_and_one_that_does_not_equals_it(tmp_path: Path) -> None:
    images = [*world()[:-6], *some("test", {1: 8, 2: 8, 3: 8}, 300)]
    for metric, score in tasks_of(tmp_path / "reads", images, Matcher(TOKENIZER))["metrics"].items():
        assert score["low"] > score["baselines"]["image-blind"], metric
    for score in tasks_of(tmp_path / "blind", images, Rereader(TOKENIZER))["metrics"].values():
        assert score["value"] == score["baselines"]["image-blind"]


def test_options_are_chosen_on_validation_and_given_to_test(tmp_path: Path) -> None:
    right = tasks_of(tmp_path / "right", world(), Matcher(TOKENIZER))
    assert right["chosen"] == right["validation"]["chosen"]
    assert right["chosen"]["one"]["blend"] == {"1": 0.0, "5": 0.0, "all": 0.0}
    # No image looks like its training images, and all are told by their texts.
    turned = [{**one, "level": 0} if one["split"] == "train" else one for one in world()]
    told = tasks_of(tmp_path / "told", turned, Matcher(TOKENIZER))
    assert told["chosen"]["one"]["blend"]["1"] > 0
    assert values(told)["blend/auc_macro@1"] == 1.0
    assert values(told)["auc_macro@1"] == 0.5
    # Texts that mislead are left out.
    misled = tasks_of(tmp_path / "misled", world(), Denier(TOKENIZER))
    assert misled["chosen"]["one"]["blend"]["all"] < 1
    assert values(misled)["blend/auc_macro@all"] == 1.0


def test_without_validation_images_the_defaults_are_used_and_told(tmp_path: Path) -> None:
    result = tasks_of(tmp_path, [one for one in world() if one["split"] != "validation"], Matcher(TOKENIZER))
    assert result["chosen"] == {}
    (note,) = [note for note in result["notes"] if note.startswith("validation has no finding")]
    assert "C is 1 and the blend's weight 0.5: one (linear@1), one (linear@5)" in note
    assert values(result)["accuracy@all"] == 1.0


def test_findings_of_images_with_several_labels_have_no_accuracy_and_skipped_ones_are_named(tmp_path: Path) -> None:
    images = [
        *some("train", {1: 3, 3: 3}, 100),
        *some("train", {2: 1}, 110, labels=["beta", "gamma"]),
        *some("test", {1: 2, 3: 2}, 300),
        *some("test", {2: 2}, 310, labels=["beta", "gamma"]),
        *some("test", {4: 1}, 320, labels=["opal"]),
    ]
    result = tasks_of(tmp_path, images, Matcher(TOKENIZER), shots=[1, 2, "all"])
    assert not [name for name in result["metrics"] if "accuracy" in name]
    assert result["details"]["skipped_classes"] == {
        "1": ["one: opal (too few training images have it)"],
        "2": ["one: gamma (too few training images have it)", "one: opal (too few training images have it)"],
        "all": ["one: opal (too few training images have it)"],
    }
    assert [note for note in result["notes"] if note.startswith("@2: 2 classes are skipped: one: gamma (too few")]
    assert [note for note in result["notes"] if note.startswith("images of one have several labels")]
    # beta: 3 of 7 test images lack it, one of them looks like none of the training images; gamma: known by its level.
    by_class = {one["label"]: one["auc"]["linear"] for one in result["details"]["classes"]}
    assert by_class["gamma"]["all"] == 1.0
    assert result["metrics"]["auc_macro@2"]["value"] == by_class["beta"]["2"]
    assert result["metrics"]["auc_macro@all"]["value"] == pytest.approx(
        (by_class["beta"]["all"] + by_class["gamma"]["all"]) / 2, abs=1e-6
    )


def test_an_image_of_a_class_without_shots_counts_as_wrong(tmp_path: Path) -> None:
    images = [*some("train", {1: 5, 2: 5, 3: 2}, 100), *some("test", {1: 3, 2: 2, 3: 1}, 300)]
    result = tasks_of(tmp_path, images, Matcher(TOKENIZER))
    accuracy = result["metrics"]["accuracy@5"]
    assert accuracy["value"] == round(5 / 6, 6)
    # One of two classes is named, which is never the sixth image's.
    assert accuracy["chance"] == round(5 / 6 / 2, 6)
    assert result["metrics"]["accuracy@all"]["value"] == 1.0


def test_each_source_is_scored_by_itself_and_its_labels_say_nothing_of_the_others(tmp_path: Path) -> None:
    two = [
        *some("train", {2: 6, 3: 6}, 500, source="two"),
        *some("test", {2: 2, 3: 2}, 600, source="two"),
    ]
    # `three` has no training images, of `four` all test images have the finding, and `five` says nothing.
    rest = [
        *some("test", {1: 1, 3: 2}, 700, source="three"),
        *some("train", {1: 2, 3: 2}, 800, source="four"),
        *some("test", {1: 2}, 810, source="four", labels=["omega"]),
        *some("test", {1: 1}, 900, source="five", labels=None),
    ]
    result = tasks_of(tmp_path, [*world(), *two, *rest], Matcher(TOKENIZER), shots=["all"])
    assert {source: part["items"] for source, part in result["by_source"].items()} == {"one": 6, "two": 4}
    assert result["items"] == 10
    assert result["excluded"] == {"no_training_shots": 3, "no_class_to_tell": 2, "no_labels": 1}
    assert [(one["source"], one["label"]) for one in result["details"]["classes"]] == [
        ("one", "beta"),
        ("one", "gamma"),
        ("two", "gamma"),
    ]
    assert result["by_source"]["two"]["metrics"]["accuracy@all"]["chance"] == 0.5
    assert result["metrics"]["accuracy@all"]["chance"] == round((6 / 3 + 4 / 2) / 10, 6)


def test_nothing_to_score_is_skipped_with_the_reason(tmp_path: Path) -> None:
    test = some("test", {1: 2, 3: 2}, 300)
    result = tasks_of(tmp_path / "training", test, Matcher(TOKENIZER))
    assert (result["reason"], result["excluded"]) == ("there are no training images", {"no_training_shots": 4})
    result = tasks_of(tmp_path / "labels", some("test", {1: 2}, 300, labels=None), Matcher(TOKENIZER))
    assert (result["reason"], result["excluded"]) == ("no test image has labels", {"no_labels": 2})
    result = tasks_of(tmp_path / "few", [*test, *some("train", {1: 2, 3: 2}, 100)], Matcher(TOKENIZER), shots=[3])
    assert result["status"] == "skipped"
    assert "(one: beta (too few training images have it))" in result["reason"]
    # Of training the labels of a source alone count.
    other = some("train", {1: 2, 3: 2}, 100, source="other")
    assert tasks_of(tmp_path / "other", [*test, *other], Matcher(TOKENIZER))["excluded"] == {"no_training_shots": 4}


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        tasks_of(tmp_path / name, world(), Looks())
    first, second = (
        {file.name: file.read_bytes() for file in (tmp_path / name / "out").iterdir() if file.is_file()}
        for name in ("first", "second")
    )
    assert first == second


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": []}, r"shots must hold different numbers of at least 1, or all, such as \[1, 5, all\]"),
        ({"shots": [0]}, "shots must hold"),
        ({"shots": ["every"]}, "shots must hold"),
        ({"shots": [1, 1]}, "shots must hold"),
        ({"draws": 4}, "draws must be at least 5"),
        ({"draws": 501}, "draws must be at most 500"),
        ({"shot": [1]}, "shot: unknown key; did you mean 'shots'"),
        ({"prompts": {"templates": ["a finding"], "negatives": ["no {label}"]}}, "templates must hold"),
    ],
)
def test_mistakes_in_the_options_are_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        parse(ProbeConfig, options, "here")
    assert "\n" not in str(error.value)


def test_the_defaults_are_one_five_and_all_shots_in_five_draws() -> None:
    config = parse(ProbeConfig, {}, "here")
    assert (config.shots, config.draws, config.seed) == ([1, 5, "all"], 5, 0)
