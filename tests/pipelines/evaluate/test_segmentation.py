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

VALUES = {"tasks": {"segmentation": {}}, "batch_size": 3, "bootstrap": {"samples": 50, "seed": 0}}
CONFIG = parse(EvaluateConfig, VALUES, "here")
TOKENIZER = tokenizer_of(["a spot left right upper alpha beta"])
# 56 of 256 pixels each, and no corner in common.
LEFT, RIGHT = (0, 0, 8, 7), (8, 9, 16, 16)


class Reader(Method):
    """Finds what is white in the halves that the text names, in the whole image where it names none."""

    max_regions = 0
    normalises_text = True
    reads_text = True

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(3))
        self.asked = 0

    def segment(self, images: Images, tokens: Tokens) -> Tensor:
        self.asked += len(images.pixels)
        probability = (levels(images.pixels) > 128).float()
        vocabulary = TOKENIZER.get_vocab()
        for row, ids in enumerate(tokens.ids.tolist()):
            left, right = (vocabulary[word] in ids for word in ("left", "right"))
            if left or right:
                probability[row, :, : SIDE // 2] *= left
                probability[row, :, SIDE // 2 :] *= right
        return probability


class Blind(Reader):
    """Never reads."""

    reads_text = False

    def segment(self, images: Images, tokens: Tokens) -> Tensor:
        self.asked += len(images.pixels)
        return (levels(images.pixels) > 128).float()


class Everything(Reader):
    """Finds every pixel, with the same probability."""

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


def values_of(found: dict, setting: str) -> dict[str, float]:
    named = (name.partition("/") for name in found["metrics"])
    return {name: found["metrics"][f"{setting}/{name}"]["value"] for of, _, name in named if of == setting}


def test_settings_and_scores_by_hand(tmp_path: Path) -> None:
    images = [
        # Something in both halves; the text names one.
        image(0, target=[LEFT, RIGHT], report="Spot left."),
        image(1, target=[RIGHT], report="Spot right."),
        image(2, target=[], report=None, status="unannotated"),
        image(3, report="Spot left."),
        image(
            4,
            target=[LEFT],
            report="Spot left, 25 percent.",
            oracle=True,
            regions=[region(0, LEFT, level=255, position="right")],
        ),
    ]
    found = score(tmp_path, images)
    assert (found["status"], found["items"], found["excluded"]) == ("ok", 4, {"no_target": 1})
    assert found["details"]["items"] == {"given": 2, "shuffled": 2, "none": 4, "from_mask": 1, "one_side": 0}
    # Half of the first is found, all of the second.
    assert values_of(found, "given") == pytest.approx(
        {
            "dice_per_image": (2 / 3 + 1) / 2,
            "dice_pooled": 2 * 112 / (112 + 168),
            "iou_per_image": (1 / 2 + 1) / 2,
            "iou_pooled": 112 / 168,
            "accuracy": 1 - 56 / 512,
        },
        abs=1e-6,
    )
    # The first gets "right" and finds that half; the second "left" and finds nothing.
    assert values_of(found, "shuffled")["dice_per_image"] == pytest.approx(2 / 3 / 2, abs=1e-6)
    assert found["details"]["drop_when_shuffled"]["dice_per_image"]["value"] == pytest.approx(1 / 2)
    # The empty target counts 1 where nothing is found.
    assert values_of(found, "none") == dict.fromkeys(values_of(found, "given"), 1.0)
    # Its region is said to be on the right, where nothing is.
    assert values_of(found, "from_mask")["dice_per_image"] == 0
    # Two images with 112 and 56 of 256 pixels: every pixel, and none.
    chance = {name: value["chance"] for name, value in found["metrics"].items() if name.startswith("given/")}
    assert chance["given/dice_per_image"] == pytest.approx((2 * 112 / 368 + 2 * 56 / 312) / 2, abs=1e-6)
    assert chance["given/accuracy"] == pytest.approx(1 - 168 / 512)
    notes = " | ".join(found["notes"])
    assert "caption from mask, 1 images" in notes
    assert "0 of them keep an equal text" in notes
    assert "one_side is left out" in notes
    # Of all settings alike the pixels; where the text comes from the mask, one image with 56 of 256.
    assert "every pixel for " in notes
    assert "dice_pooled, " in notes
    assert "given/dice_pooled" not in notes
    assert "no pixel for accuracy" in notes


def test_one_side_is_asked_for_by_itself(tmp_path: Path) -> None:
    both = "Spot left. Spot right."
    images = [
        # The patient's left is the image's right, so a method that reads it as the image's takes the wrong side.
        image(0, target=[LEFT, RIGHT], report=both),
        image(1, target=[LEFT, (8, 10, 16, 14)], report=both, view="frontal"),
        image(2, target=[LEFT], report=both),
        image(3, target=[RIGHT], report="Spot right."),
        image(4, target=[LEFT, RIGHT], report="Spot left, alpha right, beta center."),
    ]
    found = score(tmp_path / "reads", images)
    assert found["details"]["items"]["one_side"] == 2
    assert any("of 3 images" in note and "2 tell, target_on_one_side 1" in note for note in found["notes"])
    assert values_of(found, "one_side") == {"kept": 0.5, "gone": 0.5}
    assert [found["metrics"][f"one_side/{name}"]["chance"] for name in ("kept", "gone")] == [1, 0]
    alone = score(tmp_path / "alone", images[:1])
    assert values_of(alone, "one_side") == {"kept": 1, "gone": 1}


def test_a_method_that_ignores_the_text_is_asked_once(tmp_path: Path) -> None:
    images = [image(n, target=[LEFT, RIGHT], report=f"Spot left. {word} right.") for n, word in enumerate(("a", "b"))]
    blind = Blind()
    found = score(tmp_path / "blind", images, blind)
    # Two images; the figure's three columns show both; the cost asks 1 + 3 + 20 times.
    assert blind.asked == 2 + 2 + 24
    assert values_of(found, "given") == values_of(found, "shuffled") == values_of(found, "none")
    assert values_of(found, "one_side") == {"kept": 1, "gone": 0}
    assert found["details"]["drop_when_shuffled"]["dice_per_image"] == {"value": 0, "low": 0, "high": 0, "chance": 0}
    assert found["details"]["reads_text"] is False
    assert found["notes"][0].startswith("the method ignores the text")
    reader = Reader()
    score(tmp_path / "reader", images, reader)
    assert reader.asked == 5 * 2 + 2 + 24


def test_the_padding_of_the_square_does_not_count(tmp_path: Path) -> None:
    # 32 x 16 in a square of 16: the picture is the upper half, of which the target is a quarter.
    images = [image(0, size=(32, 16), target=[(0, 0, 4, 8)])]
    found = score(tmp_path, images, Everything(0.9))
    assert values_of(found, "none") == pytest.approx(
        {"dice_per_image": 0.4, "dice_pooled": 0.4, "iou_per_image": 0.25, "iou_pooled": 0.25, "accuracy": 0.25}
    )
    assert found["metrics"]["none/dice_pooled"] == {"value": 0.4, "low": None, "high": None, "chance": 0.4}
    assert values_of(score(tmp_path / "half", images, Everything(0.5)), "none")["dice_pooled"] == 0


def test_sources_are_also_scored_by_themselves(tmp_path: Path) -> None:
    images = [image(0, target=[LEFT, RIGHT], report="Spot left."), image(1, source="two", target=[], report=None)]
    found = score(tmp_path, images)
    assert list(found["by_source"]) == ["one", "two"]
    assert found["by_source"]["one"]["items"] == 1
    assert found["by_source"]["one"]["metrics"]["given/dice_pooled"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert set(found["by_source"]["two"]["metrics"]) == {f"none/{name}" for name in values_of(found, "none")}
    assert any("no source has two different reports" in note for note in found["notes"])


def test_nothing_to_score_and_diverged_weights(tmp_path: Path) -> None:
    found = score(tmp_path / "none", [image(0), image(1)])
    assert (found["status"], found["reason"]) == ("skipped", "no test image has a target")
    assert found["excluded"] == {"no_target": 2}
    found = score(tmp_path / "nan", [image(0, target=[LEFT])], Everything(float("nan")))
    assert (found["status"], found["excluded"]) == ("failed", {"embedding_not_finite": 1})
    assert "masks are not finite" in found["reason"]


def save_unet(folder: Path) -> Path:
    """A real checkpoint of `unet`, untrained."""
    torch.manual_seed(0)
    model = UNet(UNetConfig(base=2), len(TOKENIZER)).eval()
    folder.mkdir(parents=True)
    curve = {"method": "unet", "steps": [], "phases": [], "validation": []}
    checkpoint.save(folder, "unet", model, model.state_dict(), TOKENIZER, curve)
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
    assert set(first) == {"metrics.json", "segmentation.svg"}
    assert b"latency" not in first["metrics.json"]
    for summary in summaries:
        assert set(summary["timings"]["segmentation"]) == {"latency_cpu_ms"}
        assert summary["timings"]["segmentation"]["latency_cpu_ms"] > 0
    found = json.loads(first["metrics.json"])["tasks"]["segmentation"]
    assert found["status"] == "ok"
    assert found["details"]["cost"]["parameters_total"] == sum(
        int(np.prod(weight.shape)) for weight in UNet(UNetConfig(base=2), 9).parameters()
    )
    assert len(first["segmentation.svg"]) < 400_000
