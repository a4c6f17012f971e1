"""Phrase grounding on real shards: which phrases there are, their scores against loops, and what is left out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.data.batches import Images, Tokens
from models.encoders import EncoderConfig, ImageEncoder
from pipelines.config import parse
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.evaluation_set import EvaluationImage, TruthRegion
from pipelines.evaluate.grounding.phrases import phrases_of
from pipelines.evaluate.stage import evaluate, run
from tests.pipelines.evaluate.metrics.slow_localisation import slow_cnr, slow_pointing, slow_resize
from tests.pipelines.evaluate.small_world import (
    SIDE,
    WORDS,
    Collapsed,
    Grounder,
    Matcher,
    image,
    region,
    save_clip,
    tokenizer_of,
    write_shards,
)

VALUES = {"tasks": {"grounding": {}}, "batch_size": 3, "bootstrap": {"samples": 50, "seed": 0}}
CONFIG = parse(EvaluateConfig, VALUES, "here")
RESNET = {"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4], "depths": [1], "layer_type": "basic"}
TOKENIZER = tokenizer_of([f"a finding called {word} spot lump left upper" for word in WORDS])


def score(folder: Path, images: list[dict], model: Any = None) -> dict:
    """The task's part of metrics.json."""
    shards = write_shards(folder / "shards", images)
    model = model or Grounder(TOKENIZER)
    evaluate(CONFIG, "probe", model, TOKENIZER, "0" * 64, *shards, folder / "out", folder / "summaries")
    return json.loads((folder / "out" / "metrics.json").read_text())["tasks"]["grounding"]


def values_of(result: dict) -> dict[str, float]:
    return {name: metric["value"] for name, metric in result["metrics"].items()}


def expected(boxes: list[tuple[int, int, int, int]], width: int = SIDE, height: int = SIDE) -> tuple[float, float]:
    """CNR and pointing of `Grounder`'s map of one word, painted at `boxes`, by loops over the picture."""
    mask = np.zeros((SIDE, SIDE), bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    values = slow_resize(mask.reshape(4, 4, 4, 4).mean(axis=(1, 3)), SIDE)[:height, :width].ravel().tolist()
    inside = mask[:height, :width].ravel().tolist()
    return slow_cnr(values, inside), slow_pointing(values, inside)


def test_scores_are_those_of_the_loops(tmp_path: Path) -> None:
    boxes = [(0, 0, 8, 8), (8, 0, 16, 8), (8, 8, 16, 16)]
    result = score(tmp_path, [image(n, regions=[region(n + 3, box)]) for n, box in enumerate(boxes)])
    ratios, hits = zip(*(expected([box]) for box in boxes), strict=True)
    assert result["status"] == "ok"
    # Bilinear between patches of 1 and 0 it is above 0.5 up to the mask's edge, except on its corner: 63 pixels of 64.
    expected_values = {
        "cnr_signed": np.mean(ratios),
        "cnr_absolute": np.mean(ratios),
        "pointing": np.mean(hits),
        "iou": 63 / 64,
    }
    # The map finds the word of the phrase, with its position or without; nothing else is drawn.
    without = {f"without_position/{name}": value for name, value in expected_values.items()}
    assert values_of(result) == pytest.approx(expected_values | without, abs=1e-6)
    assert min(ratios) > 1
    assert values_of(result)["pointing"] == 1
    assert result["metrics"]["pointing"]["chance"] == 0.25
    assert result["metrics"]["cnr_signed"]["chance"] == 0
    assert 0.1 < result["metrics"]["cnr_absolute"]["chance"] < 1
    assert result["details"]["map"] == "ground"
    # A quarter of the picture: the centre map is as high in it as in the others.
    assert [result["metrics"][name]["baselines"]["centre heatmap"] for name in ("cnr_signed", "pointing")] == [0, 0.25]
    # Any other image lacks the phrase's word: the map is constant.
    assert result["metrics"]["pointing"]["baselines"]["image-blind"] == 0.25


def test_an_anti_correlated_heatmap_differs_in_the_sign_alone(tmp_path: Path) -> None:
    images = [image(0, regions=[region(5, (0, 0, 8, 8))])]
    right, wrong = (values_of(score(tmp_path / str(sign), images, Grounder(TOKENIZER, sign))) for sign in (1.0, -1.0))
    assert wrong["cnr_signed"] == pytest.approx(-right["cnr_signed"])
    assert wrong["cnr_absolute"] == right["cnr_absolute"] > 1
    assert (right["pointing"], wrong["pointing"]) == (1, 0)


def test_a_constant_heatmap_scores_no_more_than_chance(tmp_path: Path) -> None:
    result = score(tmp_path, [image(0, regions=[region(5, (0, 0, 8, 4))])], Collapsed(3.0))
    own = {"cnr_signed": 0, "cnr_absolute": 0, "pointing": 0.125, "iou": 0}
    assert values_of(result) == own | {f"without_position/{name}": value for name, value in own.items()}
    assert result["metrics"]["pointing"]["chance"] == 0.125


def test_overlapping_regions_of_one_phrase_are_one_mask(tmp_path: Path) -> None:
    boxes = [(0, 0, 8, 8), (4, 0, 12, 8)]
    result = score(tmp_path, [image(0, regions=[region(5, box) for box in boxes])])
    assert result["items"] == 1
    assert result["metrics"]["pointing"]["chance"] == pytest.approx(12 * 8 / SIDE**2)
    assert result["metrics"]["cnr_signed"]["value"] == pytest.approx(expected(boxes)[0], abs=1e-6)


def test_the_padding_of_an_oblong_image_does_not_count(tmp_path: Path) -> None:
    # 32 x 16 in a square of 16: the lower half is padding, on which a lesser mask would be a better one.
    result = score(tmp_path, [image(0, size=(32, 16), regions=[region(5, (0, 0, 8, 4))])])
    assert result["metrics"]["cnr_signed"]["value"] == pytest.approx(expected([(0, 0, 8, 4)], 16, 8)[0], abs=1e-6)
    assert result["metrics"]["pointing"]["chance"] == 0.25


class Cropped(Grounder):
    """A method whose encoder crops to the middle 8 x 8 pixels."""

    def visible_crop(self, side: int) -> slice:
        return slice(4, 12)

    def ground(self, images: Images, tokens: Tokens) -> torch.Tensor:
        return super().ground(replace(images, pixels=images.pixels[..., 4:12, 4:12]), tokens)


def test_pixels_outside_the_visible_crop_do_not_count(tmp_path: Path) -> None:
    images = [image(0, regions=[region(5, (0, 0, 8, 8))]), image(1, regions=[region(5, (12, 0, 16, 16))])]
    result = score(tmp_path, images, Cropped(TOKENIZER))
    assert (result["items"], result["excluded"]) == (1, {"mask_empty_or_full": 1})
    # A quarter of what is seen, where the map is highest.
    mask = np.zeros((8, 8), bool)
    mask[:4, :4] = True
    values = slow_resize(np.array([[1.0, 0], [0, 0]]), 8)
    pointing = result["metrics"]["pointing"]
    assert [pointing[name] for name in ("value", "low", "high", "chance")] == [1, None, None, 0.25]
    ratio = slow_cnr(values.ravel().tolist(), mask.ravel().tolist())
    assert result["metrics"]["cnr_signed"]["value"] == pytest.approx(ratio, abs=1e-6)


def test_means_over_phrases_and_over_terms(tmp_path: Path) -> None:
    images = [
        image(0, regions=[region(3, (0, 0, 8, 8)), region(4, (8, 8, 16, 16))]),
        # Painted as 6, said to be 5: the map of 5 is constant.
        image(1, source="two", regions=[region(6, (0, 0, 4, 4), adjective=WORDS[5], term="Lump")]),
    ]
    result = score(tmp_path, images)
    ratio = expected([(0, 0, 8, 8)])[0]
    assert result["items"] == 3
    assert result["metrics"]["cnr_signed"]["value"] == pytest.approx(2 / 3 * ratio, abs=1e-6)
    terms = result["details"]["terms"]
    assert {term: values["phrases"] for term, values in terms.items()} == {"lump": 1, "spot": 2}
    assert terms["spot"]["cnr_signed"] == pytest.approx(ratio, abs=1e-6)
    assert result["details"]["macro"]["cnr_signed"] == pytest.approx(ratio / 2, abs=1e-6)
    assert result["details"]["macro"]["pointing"] == pytest.approx((1 + 1 / 16) / 2)
    assert result["by_source"]["one"]["items"] == 2
    pointing = result["by_source"]["two"]["metrics"]["pointing"]
    assert [pointing[name] for name in ("value", "low", "high", "chance")] == [0.0625, None, None, 0.0625]


def test_images_that_cannot_be_scored_are_counted_by_reason(tmp_path: Path) -> None:
    images = [
        image(0, regions=[region(3, (0, 0, 8, 8))]),
        image(1),
        image(2, regions=[region(4, status="failed")]),
        image(3, regions=[region(4, (0, 0, 16, 16), mask=False)]),
        image(4, regions=[region(4, (0, 0, 16, 16))]),
        image(5, regions=[region(4, role="input")]),
    ]
    result = score(tmp_path, images)
    assert result["items"] == 1
    assert result["excluded"] == {
        "mask_empty_or_full": 2,
        "no_region_caption": 1,
        "no_truth_region": 2,
    }
    assert any(note.startswith("2 phrases are left out") for note in result["notes"])
    assert score(tmp_path / "none", images[1:])["status"] == "skipped"


def test_diverged_weights_and_methods_without_a_heatmap(tmp_path: Path) -> None:
    images = [image(0, regions=[region(3, (0, 0, 8, 8))])]
    result = score(tmp_path / "nan", images, Collapsed(float("nan")))
    assert (result["status"], result["reason"]) == ("failed", "1 of 1 heatmaps are not finite: the weights diverged")
    result = score(tmp_path / "none", images, Matcher(TOKENIZER))
    assert (result["status"], result["excluded"]) == ("skipped", {"method_lacks_capability": 1})
    assert "Grad-CAM" in result["reason"]


def test_grad_cam_of_a_real_checkpoint_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    images = [image(n, regions=[region(n + 2, (0, 0, 8, 8)), region(n + 4, (8, 8, 12, 12))]) for n in range(4)]
    shards = write_shards(tmp_path / "shards", images)
    folder = save_clip(tmp_path / "checkpoint", seed=0)
    for output in ("first", "second"):
        run(CONFIG, "clip", folder, *shards, tmp_path / output, tmp_path)
    first, second = (
        {file.name: file.read_bytes() for file in (tmp_path / output).iterdir()} for output in ("first", "second")
    )
    assert first == second
    assert set(first) == {"SHA256SUMS", "items.parquet", "metrics.json", "grounding.svg"}
    result = json.loads(first["metrics.json"])["tasks"]["grounding"]
    assert (result["status"], result["items"], result["details"]["map"]) == ("ok", 8, "grad_cam")
    assert len(first["grounding.svg"]) < 400_000


def test_equal_captions_of_an_image_are_one_phrase() -> None:
    def truth(number: int, caption: str, term: str = "t") -> TruthRegion:
        return TruthRegion(
            number=number,
            region_id=f"k-{number}",
            adjective="a",
            term=term,
            position="p",
            caption=caption,
            negatives=(),
            oracle=True,
        )

    images = [
        EvaluationImage("a", "s", None, "ok", None, False, 3, (truth(1, "x"), truth(2, "y"), truth(4, "x"))),
        EvaluationImage("b", "s", None, "ok", None, False, 2, (truth(0, "X."), truth(1, "x", "u"))),
    ]
    found = phrases_of(images)
    phrases = [(phrase.index, phrase.text, phrase.regions) for phrase in found]
    assert phrases == [(0, "x", (1, 4)), (0, "y", (2,)), (1, "X.", (0, 1))]
    # A phrase that stands for two terms is counted under both.
    assert [phrase.term for phrase in found] == ["t", "t", "t or u"]


@pytest.mark.parametrize(("side", "crop"), [(16, 12), (16, 9), (15, 8), (8, 12)])
def test_the_visible_crop_is_the_crop_of_the_encoder(side: int, crop: int) -> None:
    encoder = ImageEncoder(EncoderConfig(architecture=RESNET, crop=crop)).eval()
    pixels = torch.randint(256, (2, 3, side, side), dtype=torch.uint8)
    visible = encoder.visible_crop(side)
    assert torch.equal(encoder(pixels)[1], encoder(pixels[..., visible, visible])[1])
    assert visible.stop - visible.start == min(side, crop)
