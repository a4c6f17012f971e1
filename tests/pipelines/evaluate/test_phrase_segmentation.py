"""The task on real shards: phrases by hand, what stands beside them, absent labels, and what changes no score."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.data.batches import Images, Tokens
from models.data.shards import ShardSet
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.kept import recomputed
from pipelines.evaluate.metrics.surface import surface_agreement
from pipelines.evaluate.phrase_segmentation.training import best_level
from pipelines.evaluate.task import Result
from pipelines.evaluate.tasks.phrase_segmentation import PhraseSegmentation, PhraseSegmentationConfig
from pipelines.masks import decode
from pipelines.promotion.paired import check_metric
from pipelines.records import ITEMS
from tests.pipelines.evaluate.small_world import (
    SIDE,
    STEP,
    WORDS,
    Matcher,
    image,
    levels,
    region,
    task_result,
    tokenizer_of,
    write_shards,
)

TOKENIZER = tokenizer_of([f"the {word} spot of" for word in WORDS])
# Quarters of the image, in which JPEG keeps a grey level as it is.
UPPER_LEFT, UPPER_RIGHT, LOWER_LEFT = (0, 0, 8, 8), (8, 0, 16, 8), (0, 8, 8, 16)
Box = tuple[int, int, int, int]


class Named(Matcher):
    """Predicts what has the grey level of a word in the text, and all that is drawn where the text names none."""

    reads_text = True

    def segment(self, images: Images, tokens: Tokens) -> Tensor:
        grey = levels(images.pixels)
        masks = torch.zeros_like(grey)
        for mask, values, ids in zip(masks, grey, tokens.ids.tolist(), strict=True):
            words = [self.words[token] for token in ids if token in self.words]
            for word in words:
                mask[(values - word * STEP).abs() < STEP / 2] = 1.0
            if not words:
                mask[values > STEP / 2] = 1.0
        return masks


class Blind(Named):
    """Predicts the upper left quarter, whatever it is asked and sees."""

    reads_text = False

    def segment(self, images: Images, tokens: Tokens) -> Tensor:
        masks = torch.zeros(len(images.pixels), SIDE, SIDE)
        masks[:, :8, :8] = 1.0
        return masks


def outlined(number: int, *parts: tuple[str, Box], **changes: Any) -> dict[str, Any]:
    """An image with regions, each called by a word whose grey level it has; their labels are the image's."""
    regions = [region(WORDS.index(word), box, label=word, **changes.pop(word, {})) for word, box in parts]
    values = {"labels": list(dict.fromkeys(word for word, _ in parts)), "target": [box for _, box in parts]}
    return image(0, key=f"{number:016x}", regions=regions, **values | changes)


def world() -> list[dict[str, Any]]:
    """Four pairs; an image without finding, and one of which nobody said anything."""
    return [
        outlined(1, ("gamma", UPPER_LEFT), ("delta", UPPER_RIGHT)),
        outlined(2, ("gamma", UPPER_LEFT), ("gamma", LOWER_LEFT)),
        outlined(3, ("delta", UPPER_RIGHT)),
        outlined(4),
        image(0, key=f"{5:016x}"),
    ]


def score(folder: Path, images: list[dict], model: Any = None, **options: Any) -> dict[str, Any]:
    return task_result(folder, images, "phrase_segmentation", options, model or Named(TOKENIZER), TOKENIZER)


def quick(folder: Path, images: list[dict], model: Any = None, **options: Any) -> Result:
    """What the task itself gives: without figure, control and files."""
    shards = ShardSet(*write_shards(folder, images), "test")
    test = EvaluationSet(model or Named(TOKENIZER), TOKENIZER, shards.samples, 4, scores_only=True)
    return PhraseSegmentation(PhraseSegmentationConfig(**options)).run(test, Bootstrap(samples=10, seed=0))


def values_of(result: dict[str, Any]) -> dict[str, float]:
    return {name: metric["value"] for name, metric in result["metrics"].items()}


def quick_values(*arguments: Any, **options: Any) -> dict[str, float]:
    return {name: found.value for name, found in quick(*arguments, **options).scores.metrics.items()}


def score_world(folder: Path) -> dict[str, Any]:
    """What a method scores that knows the words, beside one training image."""
    training = outlined(9, ("gamma", UPPER_LEFT), split="train", gamma={"role": "input"})
    options = {"template": "the {label}", "rewordings": ["{label} of gamma", "spot {label}"]}
    return score(folder, [*world(), training], **options)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The scores, and the folder of the results."""
    folder = tmp_path_factory.mktemp("scored")
    return score_world(folder), folder / "out"


def test_scores_by_hand(scored: tuple[dict[str, Any], Path]) -> None:
    result, _ = scored
    assert (result["status"], result["items"], result["excluded"]) == ("ok", 4, {"unannotated": 1})
    found = values_of(result)
    assert {found[name] for name in ("dice", "iou", "nsd", "macro_dice", "macro_nsd")} == {1.0}
    assert found["hd95"] == found["macro_hd95"] == 0
    # Without a text all that is drawn: of the first image both quarters, twice.
    assert found["empty/dice"] == pytest.approx((2 / 3 + 2 / 3 + 1 + 1) / 4, abs=1e-6)
    assert found["empty/iou"] == pytest.approx((1 / 2 + 1 / 2 + 1 + 1) / 4, abs=1e-6)
    # "delta of gamma" adds the other quarter of the first image; "spot ..." changes nothing.
    assert found["reworded/dice"] == found["reworded/agreement"] == pytest.approx((1 + (2 / 3 + 1) / 2 + 1 + 1) / 4)
    # A quarter of the image, and once a half.
    assert {name for name in found if name.endswith("/dice")} == {
        *("empty/dice", "reworded/dice", "small/dice", "large/dice")
    }
    assert result["details"]["items"] == {"sentence": 0, "absent": 4, "small": 3, "large": 1}
    assert result["details"]["sizes"] == [0.25, 0.25]
    assert result["details"]["labels"]["gamma"]["pairs"] == result["details"]["labels"]["delta"]["pairs"] == 2
    assert result["details"]["labels"]["delta"]["dice of empty text"] == pytest.approx(5 / 6, abs=1e-6)
    assert result["details"]["rewordings"][0] == {
        "template": "{label} of gamma",
        "dice": pytest.approx((1 + 2 / 3 + 1 + 1) / 4, abs=1e-6),
        "agreement": pytest.approx((1 + 2 / 3 + 1 + 1) / 4, abs=1e-6),
    }


def test_chance_and_baselines_by_hand(scored: tuple[dict[str, Any], Path]) -> None:
    metrics = scored[0]["metrics"]
    areas = np.array([0.25, 0.25, 0.5, 0.25])
    assert metrics["dice"]["chance"] == pytest.approx(float(np.mean(2 * areas / (1 + areas))), abs=1e-6)
    assert metrics["iou"]["chance"] == pytest.approx(float(areas.mean()), abs=1e-6)
    # Labels: gamma fills a quarter and a half, delta a quarter twice.
    assert metrics["macro_dice"]["chance"] == pytest.approx(((0.4 + 2 / 3) / 2 + 0.4) / 2, abs=1e-6)
    quarter, every = np.zeros((SIDE, SIDE), bool), np.ones((SIDE, SIDE), bool)
    quarter[:8, :8] = True
    half = quarter | np.roll(quarter, 8, axis=0)
    distances = [surface_agreement(every, mask, 2.0)[0] for mask in (quarter, quarter, half, quarter)]
    assert metrics["hd95"]["chance"] == pytest.approx(float(np.mean(distances)), abs=1e-5)
    # The training split has gamma in the upper left; where it has no mask of a label, that of all labels is taken.
    expected = {"empty text": (2 / 3 + 2 / 3 + 1 + 1) / 4, "mean training mask": (1 + 0 + 2 / 3 + 0) / 4}
    found = {name: metrics["dice"]["baselines"][name] for name in expected}
    assert found == pytest.approx(expected, abs=1e-6)
    # The other images of the source show what is asked less often.
    assert metrics["dice"]["baselines"]["image-blind"] < 0.8


def test_labels_that_an_image_lacks(scored: tuple[dict[str, Any], Path]) -> None:
    metrics = scored[0]["metrics"]
    # delta of the second image, gamma of the third, both of the fourth, which has no finding.
    for name in ("specificity", "pixel_specificity"):
        assert metrics[f"absent/{name}"]["value"] == 1.0
        assert metrics[f"absent/{name}"]["chance"] == 0.0
    assert metrics["absent/specificity"]["baselines"]["empty text"] == 0.5
    assert metrics["absent/pixel_specificity"]["baselines"]["empty text"] == pytest.approx((0.5 + 0.75 + 1 + 1) / 4)
    assert metrics["absent/specificity"]["baselines"]["mean training mask"] == 0
    assert scored[0]["details"]["labels"]["gamma"]["absent"] == 2


def test_the_items_are_what_the_metrics_are_the_means_of(scored: tuple[dict[str, Any], Path]) -> None:
    result, folder = scored
    rows = list(ITEMS.rows(folder / "items.parquet"))
    values = {metric: recomputed(rows, metric) for metric in result["metrics"]}
    assert values == pytest.approx(values_of(result), abs=1e-6)
    # What was asked and answered: of the second image both quarters on the left.
    asked = {(row.metric, row.item): row for row in rows}
    gamma = asked["dice", f"{2:016x} gamma"]
    output = json.loads(gamma.output)
    assert (gamma.prompt, gamma.label, output["true_positive"], output["size"]) == ("the gamma", "gamma", 128, [16, 16])
    assert decode(output["mask"], SIDE, SIDE)[:, :8].all()
    assert asked["iou", gamma.item].output is None
    assert asked["empty/dice", gamma.item].prompt == ""
    assert asked["reworded/dice", gamma.item].prompt is None
    assert not decode(json.loads(asked["absent/specificity", f"{2:016x} delta"].output)["mask"], SIDE, SIDE).any()
    check_metric("dice", result["metrics"], rows)
    with pytest.raises(UserError, match="hd95 cannot be a gate, for less is better"):
        check_metric("hd95", result["metrics"], rows)
    assert (folder / "phrase_segmentation.svg").stat().st_size < 400_000


def test_what_a_reader_is_told(scored: tuple[dict[str, Any], Path]) -> None:
    notes = " | ".join(scored[0]["notes"])
    for part in (
        "4 pairs of 2 labels on 3 images, asked as 'the {label}'",
        "mean training mask is the place of the label",
        "hd95, of which less is better, and nsd (within 2) are in pixels",
        "small masks fill up to 25 % of their image",
        "reworded: the mean over 2 other templates",
        "absent: 4 labels",
    ):
        assert part in notes
    defined = {entry["metric"] for entry in scored[0]["definitions"]}
    assert {"macro_dice", "hd95", "nsd", "absent/specificity", "reworded/agreement", "small/dice"} <= defined


def test_a_method_that_ignores_the_text_gives_every_phrase_the_same_mask(tmp_path: Path) -> None:
    result = score(tmp_path, world(), Blind(TOKENIZER), absences=0, surface=False, sizes=[0.3, 0.6])
    found = values_of(result)
    assert found["dice"] == found["empty/dice"] == pytest.approx((1 + 0 + 2 / 3 + 0) / 4, abs=1e-6)
    assert found["macro_dice"] == pytest.approx(((1 + 2 / 3) / 2 + 0) / 2, abs=1e-6)
    assert found["small/dice"] == pytest.approx(1 / 3, abs=1e-6)
    assert found["medium/dice"] == pytest.approx(2 / 3, abs=1e-6)
    assert not any("hd95" in name or name.startswith(("absent", "reworded")) for name in found)
    assert result["notes"][0] == "the method ignores the text: its mask is the same for every phrase"
    assert result["metrics"]["dice"]["baselines"] == pytest.approx(
        {"empty text": found["dice"], "image-blind": found["dice"]}, abs=1e-6
    )


def test_sentences_are_asked_as_they_are_written(tmp_path: Path) -> None:
    images = [
        outlined(
            1,
            ("gamma", UPPER_LEFT),
            ("delta", UPPER_RIGHT),
            gamma={"phrase": "Spot of gamma, the delta beside it."},
        ),
        outlined(2, ("delta", UPPER_RIGHT), source="two", delta={"phrase": "A delta spot."}),
    ]
    result = quick(tmp_path, images, surface=False)
    found = {name: metric.value for name, metric in result.scores.metrics.items()}
    # Of the first sentence both quarters are predicted, where it means one.
    assert found["sentence/dice"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-6)
    assert found["dice"] == 1
    assert result.by_source["one"].metrics["sentence/dice"].value == pytest.approx(2 / 3, abs=1e-6)
    assert result.by_source["one"].items == 2
    assert result.by_source["two"].metrics["sentence/dice"].value == 1


def flipped(one: dict[str, Any]) -> dict[str, Any]:
    def across(box: Box) -> Box:
        return (SIDE - box[2], box[1], SIDE - box[0], box[3])

    regions = [found | {"box": across(found["box"])} for found in one["regions"]]
    return one | {"regions": regions, "target": one["target"] and [across(box) for box in one["target"]]}


def test_flips_and_the_order_of_regions_change_no_score(tmp_path: Path) -> None:
    plain = world()[:4]
    # An answer that is not right, so that there is something to change.
    options = {"template": "{label} of gamma"}
    expected = quick_values(tmp_path / "plain", plain, **options)
    assert 0 < expected["dice"] < 1
    assert quick_values(tmp_path / "flipped", list(map(flipped, plain)), **options) == pytest.approx(expected)
    turned = [one | {"regions": one["regions"][::-1]} for one in plain]
    assert quick_values(tmp_path / "turned", turned, **options) == pytest.approx(expected)


def test_nothing_to_ask_and_masks_without_a_pixel(tmp_path: Path) -> None:
    boxes = outlined(1, ("gamma", UPPER_LEFT), gamma={"mask": False}, target=None)
    unnamed = image(0, key=f"{2:016x}", regions=[region(2, UPPER_LEFT)], target=[UPPER_LEFT])
    result = score(tmp_path / "none", [boxes, unnamed])
    assert (result["status"], result["excluded"]) == ("skipped", {"no_class_to_tell": 1, "no_labels": 1})
    assert "with a mask" in result["reason"]
    gone = outlined(3, ("gamma", (3, 3, 3, 3)), target=[])
    result = score(tmp_path / "gone", [gone])
    assert (result["status"], result["excluded"]) == ("skipped", {"mask_empty_or_full": 1})


def test_outlines_that_no_region_holds_are_told(tmp_path: Path) -> None:
    whole = [UPPER_LEFT, UPPER_RIGHT, LOWER_LEFT]
    images = [outlined(1, ("gamma", UPPER_LEFT), ("delta", UPPER_RIGHT), target=whole), *world()[1:3]]
    result = quick(tmp_path, images, surface=False)
    assert next(note for note in result.notes if "in no stored region" in note).startswith("of 1 images more than")
    assert result.scores.metrics["dice"].value == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "a spot"}, "template 'a spot' needs {label} in it"),
        ({"rewordings": ["{label}", "spot"]}, "template 'spot' needs {label}"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
        ({"sizes": [0.2, 0.1]}, "two fractions of the image that ascend"),
        ({"absences": -1}, "absences is -1"),
        ({"templates": []}, "unknown key; did you mean 'template'?"),
    ],
)
def test_mistaken_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(PhraseSegmentationConfig, options, "here")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_best_level_of_a_mean_mask_by_trying_each() -> None:
    random = np.random.default_rng(0)
    for _ in range(5):
        masks = random.random((6, 5, 5)) < random.random((5, 5)) ** 2
        mean = masks.mean(axis=0)

        def pooled(level: float, masks: np.ndarray = masks, mean: np.ndarray = mean) -> float:
            common = 2 * (masks & (mean >= level)).sum()
            return float(common / (masks.sum() + len(masks) * (mean >= level).sum()))

        assert pooled(best_level(mean)) == max(pooled(level) for level in np.unique(mean[mean > 0]))


def test_the_same_bytes_twice(scored: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    score_world(tmp_path)
    first, second = (
        {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
        for folder in (scored[1], tmp_path / "out")
    )
    assert first == second


def test_of_many_absent_labels_some_are_drawn(tmp_path: Path) -> None:
    # Two images lack a label, and the third two, of which one is asked.
    assert quick(tmp_path, world(), absences=1, surface=False).details["items"]["absent"] == 3
