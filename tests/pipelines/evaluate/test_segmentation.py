"""The task on real shards: settings, scores by hand, what the text changes, padding, and a real checkpoint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import checkpoint
from models.data.batches import Images, Tokens
from models.method import Method
from models.unet.config import UNetConfig
from models.unet.model import UNet
from pipelines.config import parse
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.stage import evaluate, run
from tests.pipelines.evaluate.small_world import SIDE, image, levels, region, tokenizer_of, write_shards
from tests.shards import INPUT_FORMAT

VALUES = {"tasks": {"segmentation": {}}, "batch_size": 3, "bootstrap": {"samples": 50, "seed": 0}, "image_blind": False}
CONFIG = parse(EvaluateConfig, VALUES, "here")
TOKENIZER = tokenizer_of(["a spot left right upper alpha beta"])
# 56 of 256 pixels each, and no corner in common.
LEFT, RIGHT = (0, 0, 8, 7), (8, 9, 16, 16)


class Reader(Method):
    """Predicts the white pixels of the halves that the text names, of the whole image where it names none."""

    max_regions = 0
    normalises_text = True
    reads_text = True

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(3))
        self.segmented = 0

    def segment(self, images: Images, tokens: Tokens) -> Tensor:
        self.segmented += len(images.pixels)
        probability = (levels(images.pixels) > 128).float()
        vocabulary = TOKENIZER.get_vocab()
        for row, ids in enumerate(tokens.ids.tolist()):
            left, right = (vocabulary[word] in ids for word in ("left", "right"))
            if left or right:
                probability[row, :, : SIDE // 2] *= left
                probability[row, :, SIDE // 2 :] *= right
        return probability


class Blind(Reader):
    """Ignores the text."""

    reads_text = False

    def segment(self, images: Images, tokens: Tokens) -> Tensor:
        self.segmented += len(images.pixels)
        return (levels(images.pixels) > 128).float()


class Everything(Reader):
    """Predicts every pixel, with the same probability."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def segment(self, images: Images, tokens: Tokens) -> Tensor:
        return torch.full((len(images.pixels), SIDE, SIDE), self.probability)


def score(folder: Path, images: list[dict], model: Any = None) -> dict:
    """The task's part of metrics.json."""
    shards = write_shards(folder / "shards", images)
    evaluate(CONFIG, "probe", model or Reader(), TOKENIZER, "0" * 64, *shards, folder / "out", folder / "summaries")
    return json.loads((folder / "out" / "metrics.json").read_text())["tasks"]["segmentation"]


def values_of(result: dict, setting: str) -> dict[str, float]:
    named = (name.partition("/") for name in result["metrics"])
    return {name: result["metrics"][f"{setting}/{name}"]["value"] for of, _, name in named if of == setting}


def test_settings_and_scores_by_hand(tmp_path: Path) -> None:
    images = [
        # Something in both halves; the text names one.
        image(0, target=[LEFT, RIGHT], report="Spot left."),
        image(1, target=[RIGHT], report="Spot right.", other_reports=("Spot left.",)),
        image(2, target=[], report=None, status="unannotated"),
        image(3, report="Spot left.", other_reports=("No target.",)),
        image(
            4,
            target=[LEFT],
            report="Spot left, 25 percent.",
            oracle=True,
            regions=[region(0, LEFT, level=255, position="right")],
        ),
    ]
    result = score(tmp_path, images)
    assert (result["status"], result["items"], result["excluded"]) == ("ok", 4, {"no_target": 1})
    assert result["details"]["items"] == {"own": 2, "shuffled": 2, "empty": 4, "mask_derived": 1, "laterality": 0}
    # Half of the first target is predicted, all of the second.
    assert values_of(result, "own") == pytest.approx(
        {
            "dice_per_image": (2 / 3 + 1) / 2,
            "dice_pooled": 2 * 112 / (112 + 168),
            "iou_per_image": (1 / 2 + 1) / 2,
            "iou_pooled": 112 / 168,
            "accuracy": 1 - 56 / 512,
        },
        abs=1e-6,
    )
    # The first gets "right" and its right half is predicted; the second gets "left", where nothing is.
    assert values_of(result, "shuffled")["dice_per_image"] == pytest.approx(2 / 3 / 2, abs=1e-6)
    assert result["details"]["drop_when_shuffled"]["dice_per_image"]["value"] == pytest.approx(1 / 2)
    # The empty target counts 1 with an empty prediction.
    assert values_of(result, "empty") == dict.fromkeys(values_of(result, "own"), 1.0)
    # Its region is said to be on the right, where nothing is.
    assert values_of(result, "mask_derived")["dice_per_image"] == 0
    # Two images with 112 and 56 of 256 pixels: every pixel, and none.
    chance = {name: value["chance"] for name, value in result["metrics"].items() if name.startswith("own/")}
    assert chance["own/dice_per_image"] == pytest.approx((2 * 112 / 368 + 2 * 56 / 312) / 2, abs=1e-6)
    assert chance["own/accuracy"] == pytest.approx(1 - 168 / 512)
    notes = " | ".join(result["notes"])
    assert "the caption made from the mask, 1 images" in notes
    assert "2 images, of which 0 get a text equal to their own" in notes
    assert "1 of 2 images have more than one report: the first that the source lists is read" in notes
    assert "laterality is left out" in notes
    # The metrics of all settings alike are named once; the setting mask_derived has one image with 56 of 256.
    assert "every pixel for " in notes
    assert "dice_pooled, " in notes
    assert "own/dice_pooled" not in notes
    assert "no pixel for accuracy" in notes


def test_reports_of_both_sides_are_cut_to_each_side(tmp_path: Path) -> None:
    both = "Spot left. Spot right."
    images = [
        # The patient's left is the image's right, so a method that reads it as the image's takes the wrong side.
        image(0, target=[LEFT, RIGHT], report=both),
        image(1, target=[LEFT, (8, 10, 16, 14)], report=both, view="frontal"),
        image(2, target=[LEFT], report=both),
        image(3, target=[RIGHT], report="Spot right."),
        image(4, target=[LEFT, RIGHT], report="Spot left, alpha right, beta center."),
    ]
    result = score(tmp_path / "reads", images)
    assert result["details"]["items"]["laterality"] == 2
    assert any(
        "of 3 images" in note and "2 of these images are scored, target_on_one_side 1" in note
        for note in result["notes"]
    )
    assert values_of(result, "laterality") == {"retention": 0.5, "suppression": 0.5}
    assert [result["metrics"][f"laterality/{name}"]["chance"] for name in ("retention", "suppression")] == [1, 0]
    # Where the source means the image's sides on a frontal view too, it is right.
    declared = [images[0], images[1] | {"sides": "image"}, *images[2:]]
    result = score(tmp_path / "declared", declared)
    assert values_of(result, "laterality") == {"retention": 1, "suppression": 1}
    assert "left and right in the reports of one, frontal views, are the image's" in result["notes"]
    alone = score(tmp_path / "alone", images[:1])
    assert values_of(alone, "laterality") == {"retention": 1, "suppression": 1}


def test_a_method_that_ignores_the_text_segments_each_image_once(tmp_path: Path) -> None:
    images = [image(n, target=[LEFT, RIGHT], report=f"Spot left. {word} right.") for n, word in enumerate(("a", "b"))]
    blind = Blind()
    result = score(tmp_path / "blind", images, blind)
    # Two images; the figure's three columns show both; the cost needs 1 + 3 + 20 masks.
    assert blind.segmented == 2 + 2 + 24
    assert values_of(result, "own") == values_of(result, "shuffled") == values_of(result, "empty")
    assert values_of(result, "laterality") == {"retention": 1, "suppression": 0}
    assert result["details"]["drop_when_shuffled"]["dice_per_image"] == {
        "value": 0,
        "low": 0,
        "high": 0,
        "chance": 0,
        "baselines": {},
    }
    assert result["details"]["reads_text"] is False
    assert result["notes"][0].startswith("the method ignores the text")
    reader = Reader()
    score(tmp_path / "reader", images, reader)
    assert reader.segmented == 5 * 2 + 2 + 24


def test_the_padding_of_the_square_does_not_count(tmp_path: Path) -> None:
    # 32 x 16 in a square of 16: the image is the upper half, of which the target is a quarter.
    images = [image(0, size=(32, 16), target=[(0, 0, 4, 8)])]
    result = score(tmp_path, images, Everything(0.9))
    assert values_of(result, "empty") == pytest.approx(
        {"dice_per_image": 0.4, "dice_pooled": 0.4, "iou_per_image": 0.25, "iou_pooled": 0.25, "accuracy": 0.25}
    )
    assert result["metrics"]["empty/dice_pooled"] == {
        "value": 0.4,
        "low": None,
        "high": None,
        "chance": 0.4,
        "baselines": {},
    }
    assert values_of(score(tmp_path / "half", images, Everything(0.5)), "empty")["dice_pooled"] == 0


def test_sources_are_also_scored_by_themselves(tmp_path: Path) -> None:
    images = [image(0, target=[LEFT, RIGHT], report="Spot left."), image(1, source="two", target=[], report=None)]
    result = score(tmp_path, images)
    assert list(result["by_source"]) == ["one", "two"]
    assert result["by_source"]["one"]["items"] == 1
    assert result["by_source"]["one"]["metrics"]["own/dice_pooled"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert set(result["by_source"]["two"]["metrics"]) == {f"empty/{name}" for name in values_of(result, "empty")}
    assert any("no source has two different reports" in note for note in result["notes"])


def test_nothing_to_score_and_diverged_weights(tmp_path: Path) -> None:
    result = score(tmp_path / "none", [image(0), image(1)])
    assert (result["status"], result["reason"]) == ("skipped", "no test image has a target")
    assert result["excluded"] == {"no_target": 2}
    result = score(tmp_path / "nan", [image(0, target=[LEFT])], Everything(float("nan")))
    assert (result["status"], result["excluded"]) == ("failed", {"embedding_not_finite": 1})
    assert "masks are not finite" in result["reason"]


def save_unet(folder: Path) -> Path:
    """A real checkpoint of `unet`, untrained."""
    torch.manual_seed(0)
    model = UNet(UNetConfig(base=2), len(TOKENIZER)).eval()
    folder.mkdir(parents=True)
    curve = {"method": "unet", "steps": [], "phases": [], "validation": []}
    checkpoint.save(folder, "unet", model, model.state_dict(), TOKENIZER, curve, INPUT_FORMAT)
    return folder


def test_a_real_checkpoint_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    report = "Costs $5 & <b>more</b> than_$x^2; " + "a very long report " * 20
    images = [image(n, target=[LEFT, RIGHT][: n % 3], report=f"{report} {n}") for n in range(4)]
    shards = write_shards(tmp_path / "shards", images)
    folder = save_unet(tmp_path / "checkpoint")
    summaries = [run(CONFIG, "unet", folder, *shards, tmp_path / output, tmp_path) for output in ("first", "second")]
    first, second = (
        {file.name: file.read_bytes() for file in (tmp_path / output).iterdir()} for output in ("first", "second")
    )
    assert first == second
    assert set(first) == {"SHA256SUMS", "items.parquet", "metrics.json", "segmentation.svg"}
    assert b"latency" not in first["metrics.json"]
    for summary in summaries:
        assert set(summary["timings"]["segmentation"]) == {"latency_cpu_ms"}
        assert summary["timings"]["segmentation"]["latency_cpu_ms"] > 0
    result = json.loads(first["metrics.json"])["tasks"]["segmentation"]
    assert result["status"] == "ok"
    assert result["details"]["cost"]["parameters_total"] == sum(
        int(np.prod(weight.shape)) for weight in UNet(UNetConfig(base=2), 9).parameters()
    )
    assert len(first["segmentation.svg"]) < 400_000
