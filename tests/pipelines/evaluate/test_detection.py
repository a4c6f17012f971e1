"""Detection: planted methods with values by hand, and each score against scikit-learn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score
from torch import Tensor
from torch.nn.functional import avg_pool2d

from models.data.batches import Images
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.detection.config import DetectionConfig
from pipelines.evaluate.detection.measure import drawn_findings
from pipelines.evaluate.detection.presence import Presence, accuracy, best_cut, findings_told, told_rightly
from pipelines.evaluate.metrics import localisation
from pipelines.promotion.paired import check_metric, value_of
from pipelines.records import ITEMS
from tests.pipelines.evaluate.small_world import (
    SIDE,
    STEP,
    WORDS,
    Collapsed,
    Grounder,
    Matcher,
    image,
    levels,
    region,
    task_result,
    tokenizer_of,
)

TOKENIZER = tokenizer_of([f"a finding called {word}" for word in WORDS])
QUADRANT, OTHER = (0, 0, 8, 8), (8, 8, 16, 16)
FINDING = 5
METRICS = ("iou", "dice", "pointing", "accuracy")


class Sees(Grounder):
    """Its image embedding has every grey level that it sees somewhere, each alike."""

    def embed_images(self, images: Images) -> Tensor:
        blocks = avg_pool2d(levels(images.pixels), 4).flatten(1)
        numbers = torch.arange(len(WORDS) + 2) * STEP
        seen = ((blocks[:, :, None] - numbers).abs() < STEP / 2).any(dim=1).float()
        return seen / seen.norm(dim=1, keepdim=True).clamp(min=1)


def shown(number: int, *boxes: tuple[int, int, int, int], split: str = "test", **changes: Any) -> dict[str, Any]:
    """An image of level 0 with a finding in some boxes; without a box one that lacks it."""
    role = "input" if split == "train" else "truth"
    regions = [region(FINDING, box, role=role, label=WORDS[FINDING].title()) for box in boxes]
    values = {"regions": regions, "labels": [WORDS[FINDING].title()] if boxes else [], "level": 0, "split": split}
    return {**image(number % len(WORDS)), "key": f"{number:016x}", **values, **changes}


def split_of(split: str, first: int, box: tuple[int, int, int, int] = QUADRANT) -> list[dict[str, Any]]:
    """Three images with the finding and two without."""
    return [shown(first + n, *([box] if n < 3 else []), split=split) for n in range(5)]


def score(
    folder: Path, images: list[dict[str, Any]], options: dict[str, Any] | None = None, model: Any = None
) -> dict[str, Any]:
    return task_result(folder, images, "detection", options or {}, model or Sees(TOKENIZER), TOKENIZER)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The result of a method that sees, thresholds chosen on training images."""
    folder = tmp_path_factory.mktemp("planted")
    images = [*split_of("train", 0), *split_of("validation", 100), *split_of("test", 200)]
    return folder, score(folder, images)


def test_values_by_hand(planted: tuple[Path, dict[str, Any]]) -> None:
    _, result = planted
    assert (result["status"], result["items"]) == ("ok", 3)
    metrics = result["metrics"]
    # Bilinear between patches of 1 and 0: from 0.4 on (as from 0.5) all 64 pixels but the corner, 0.625 squared.
    iou = 63 / 64
    found = {name: metric["value"] for name, metric in metrics.items()}
    assert found == pytest.approx({"iou": iou, "dice": 2 * iou / (1 + iou), "pointing": 1, "accuracy": 1}, abs=1e-6)
    # A quarter of the image; five images, three of which have it.
    chances = {name: metric["chance"] for name, metric in metrics.items()}
    assert chances == pytest.approx({"iou": 0.25, "dice": 0.4, "pointing": 0.25, "accuracy": 0.6})
    assert set(metrics["dice"]["baselines"]) == {"centre heatmap", "mean training box", "image-blind"}
    assert metrics["pointing"]["baselines"]["mean training box"] == 1
    assert set(metrics["accuracy"]["baselines"]) == {"image-blind"}
    assert metrics["accuracy"]["baselines"]["image-blind"] < 1
    (chosen,) = result["chosen"]["one"].values()
    assert (chosen["on"], chosen["images"], chosen["thresholds"]["method"]) == ("train", 3, 0.4)
    # Images with it have a cosine of the root of a half, those without have 0.
    assert chosen["cut"] == pytest.approx(np.sqrt(0.5) / 2, abs=1e-3)
    assert any("the prompt is 'zeta'" in note and "images of the split train" in note for note in result["notes"])
    assert result["details"]["items"] == {"accuracy": 5}


def test_each_metric_is_the_mean_of_its_items(planted: tuple[Path, dict[str, Any]]) -> None:
    folder, result = planted
    rows = ITEMS.read(folder / "out/items.parquet")
    for name, metric in result["metrics"].items():
        check_metric(name, result["metrics"], rows)
        assert value_of(rows, name) == pytest.approx(metric["value"], abs=1e-6)
    # What was asked and answered: of the mask's heatmap the first pixel of the highest, of the image its cosine.
    assert {row.prompt for row in rows} == {"zeta"}
    answers = {metric: [json.loads(row.output or "null") for row in rows if row.metric == metric] for metric in METRICS}
    assert answers["iou"] == [pytest.approx({"x": 0.5 / SIDE, "y": 0.5 / SIDE}, abs=1e-4)] * 3
    assert answers["dice"] == answers["pointing"] == [None] * 3
    assert sorted(one["cosine"] for one in answers["accuracy"]) == pytest.approx([0, 0, *[np.sqrt(0.5)] * 3], abs=1e-6)


def test_a_fixed_threshold_and_where_the_chosen_ones_come_from(tmp_path: Path) -> None:
    # Chosen on training images of another shape, whose best threshold is another one.
    train, validation = split_of("train", 0, (4, 4, 8, 8)), split_of("validation", 100)
    test = split_of("test", 200)
    fixed = score(tmp_path / "fixed", [*validation, *test], {"threshold": 0.3})
    # 14 more pixels outside.
    assert fixed["metrics"]["iou"]["value"] == pytest.approx(64 / 78, abs=1e-6)
    assert fixed["metrics"]["accuracy"]["value"] == 1
    on_validation = score(tmp_path / "validation", [*train, *validation, *test], {"choose_on": "validation"})
    assert on_validation["chosen"]["one"]["zeta"]["on"] == "validation"
    assert on_validation["metrics"]["iou"]["value"] == pytest.approx(63 / 64, abs=1e-6)
    alone = score(tmp_path / "alone", test)
    assert (alone["chosen"], set(alone["metrics"])) == ({}, {"iou", "dice", "pointing"})
    assert any("the threshold is 0.5, the default" in note for note in alone["notes"])
    assert any("accuracy leaves out" in note and "one: zeta" in note for note in alone["notes"])
    # Without a validation split the training images are there still.
    trained = score(tmp_path / "trained", [*train, *test])
    assert trained["chosen"]["one"]["zeta"]["on"] == "train"


def test_a_collapsed_method_scores_no_more_than_chance(tmp_path: Path) -> None:
    images = [*split_of("train", 0), *split_of("test", 200)]
    result = score(tmp_path, images, model=Collapsed(1.0))
    metrics = result["metrics"]
    assert any("it counts as there in every image" in note for note in result["notes"])
    assert {name: metric["value"] for name, metric in metrics.items()} == {
        "iou": 0,
        "dice": 0,
        "pointing": 0.25,
        "accuracy": 0.6,
    }
    assert all(metric["value"] <= metric["chance"] for metric in metrics.values())


def test_all_regions_of_a_finding_are_one_target_and_boxes_count_as_masks(tmp_path: Path) -> None:
    both = shown(1, QUADRANT, OTHER)
    both["regions"][1]["mask"] = False
    # A region of another finding, and a proposal that has the label: neither is part of it.
    both["regions"] += [
        region(7, (8, 0, 16, 8), label=WORDS[7]),
        region(FINDING, (0, 8, 8, 16), role="input", basis="proposal", label=WORDS[FINDING]),
    ]
    result = score(tmp_path, [both, shown(2)], {"prompts": {"ZETA": "a finding called zeta", "mumps": "mumps"}})
    by_name = {one["finding"]: one for one in result["details"]["findings"]}
    assert {name: one["images"] for name, one in by_name.items()} == {"kappa": 1, "zeta": 1}
    chance = result["metrics"]["pointing"]["chance"]
    assert chance == pytest.approx((0.5 + 0.25) / 2)
    assert any("1 of 2 findings are boxes" in note for note in result["notes"])
    assert any("prompts names what no finding is called here: mumps" in note for note in result["notes"])


def test_images_that_cannot_be_scored_are_counted_by_reason(tmp_path: Path) -> None:
    images = [
        shown(1, QUADRANT),
        shown(2, (0, 0, 16, 16), labels=None),
        shown(3, labels=None),
        image(4, regions=[region(4)]),
        shown(5, source="two"),
    ]
    result = score(tmp_path, images)
    assert result["excluded"] == {
        "mask_empty_or_full": 1,
        "no_truth_region": 1,
        "unnamed_region": 1,
        "no_class_to_tell": 1,
    }
    assert any(note.startswith("left out, ") and note.endswith(": 1 findings") for note in result["notes"])
    none = score(tmp_path / "none", images[1:])
    assert (none["status"], none["metrics"]) == ("skipped", {})
    lacks = score(tmp_path / "lacks", images[:1], model=Matcher(TOKENIZER))
    assert (lacks["status"], lacks["excluded"]) == ("skipped", {"method_lacks_capability": 1})


def test_scores_of_sources_stand_by_themselves(tmp_path: Path) -> None:
    images = [*split_of("train", 0), *split_of("test", 200)]
    others = [
        shown(300, OTHER, source="two"),
        shown(301, OTHER, source="two", regions=[region(9, OTHER, label="zeta")]),
    ]
    result = score(tmp_path, [*images, *others])
    one, two = (result["by_source"][name] for name in ("one", "two"))
    assert (one["items"], one["metrics"]["accuracy"]["value"]) == (3, 1)
    # Of the second image the map finds nothing; all images of the source have the finding: there is nothing to tell.
    assert (two["items"], two["metrics"]["pointing"]["value"]) == (2, pytest.approx((1 + 0.25) / 2))
    assert "accuracy" not in two["metrics"]


def test_overlap_and_dice_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(3)
    maps = localisation.scaled(random.normal(size=(4, 200)))
    inside = random.random(200) < 0.3
    thresholds = np.array([0.2, 0.5, 0.7])
    iou = localisation.overlap(maps, inside, thresholds)
    dice = localisation.dice_of(iou)
    for row, values in enumerate(maps):
        for column, threshold in enumerate(thresholds):
            marked = values >= threshold
            assert iou[row, column] == pytest.approx(jaccard_score(inside, marked))
            assert dice[row, column] == pytest.approx(f1_score(inside, marked))


def presence(truth: list[bool], similarity: list[float]) -> Presence:
    return Presence(
        rows=np.arange(len(truth)), truth=np.array(truth), similarity=np.array(similarity, dtype=np.float32)
    )


def test_no_cut_tells_more_images_rightly_and_their_order_changes_nothing() -> None:
    random = np.random.default_rng(5)
    for _ in range(6):
        truth = random.random(40) < 0.4
        similarity = np.round(random.normal(0.1 * truth, 0.1), 2)
        found = presence(truth.tolist(), similarity.tolist())
        cut = best_cut(found)
        right = told_rightly(found, cut)
        best = max(accuracy_score(truth, similarity >= level) for level in [*similarity - 1e-4, 3])
        assert right.mean() == pytest.approx(best)
        value = accuracy([found], [right], Bootstrap(samples=20, seed=0)).value
        assert value == pytest.approx(accuracy_score(truth, similarity >= cut), abs=1e-6)
        order = random.permutation(40)
        assert best_cut(presence(truth[order].tolist(), similarity[order].tolist())) == cut


@pytest.mark.parametrize(
    ("truth", "cut"),
    [
        ([False, False, True, True], 0.25),
        # Alike: all or none, whichever is right more often; the lower one where both are.
        ([True, True, True, False], -2),
        ([False, False, False, True], 0.35),
        ([True, False, True, False], -2),
    ],
)
def test_the_cut_lies_in_the_middle_of_two_images(truth: list[bool], cut: float) -> None:
    assert best_cut(presence(truth, [0.1, 0.2, 0.3, 0.4])) == pytest.approx(cut)


def test_images_that_are_alike_are_told_alike() -> None:
    assert best_cut(presence([True, False, False], [0.5, 0.5, 0.5])) == 2
    assert best_cut(presence([True, True, False], [0.5, 0.5, 0.5])) == -2


def test_a_finding_is_told_among_the_images_that_its_source_labelled() -> None:
    embeddings = np.eye(6, dtype=np.float32)
    sources = ["a", "a", "a", "b", "b", "a"]
    labels = [("Lung Opacity",), (), None, ("lung opacity",), ("lung opacity",), ("mass",)]
    found = findings_told(
        sources, labels, embeddings, {("a", "lung opacity"), ("b", "lung opacity")}, lambda _: embeddings[0]
    )
    assert list(found) == [("a", "lung opacity")]
    one = found["a", "lung opacity"]
    assert (one.rows.tolist(), one.truth.tolist()) == ([0, 1, 5], [True, False, False])
    assert one.similarity.tolist() == [1, 0, 0]


def test_findings_of_an_image_are_its_regions_by_label() -> None:
    found = drawn_findings(["a", "b"], [{0: "mass", 2: "cyst", 3: "mass"}, {}])
    assert [(one.index, one.key, one.regions) for one in found] == [
        (0, ("a", "mass"), (0, 3)),
        (0, ("a", "cyst"), (2,)),
    ]


def test_the_prompt_of_a_finding_is_its_name_or_the_words_that_stand_for_it() -> None:
    config = DetectionConfig(template="a {label}", prompts={"Lung Opacity": "pneumonia"})
    assert (config.prompt("lung opacity"), config.prompt("mass")) == ("pneumonia", "a mass")
    assert config.unused({"mass"}) == ["Lung Opacity"]
    assert config.unused({"lung opacity"}) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "a finding"}, "template must have {label} in it"),
        ({"threshold": 1.0}, "threshold is 1.0: choose one above 0 and below 1, or null"),
        ({"prompts": {"mass": " "}}, "prompts of 'mass' is empty"),
        (
            {"prompts": {"Lung Opacity": "a", "mass": "b", "lung-opacity": "c"}},
            "prompts has 'Lung Opacity' and 'lung-opacity', which are one finding: keep one of them",
        ),
        ({"choose_on": "test"}, "choose_on: Input should be 'train' or 'validation'"),
        ({"training_images": 0}, "training_images must be at least 1"),
        ({"treshold": 0.5}, "treshold: unknown key; did you mean 'threshold'"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(DetectionConfig, options, "detection")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
