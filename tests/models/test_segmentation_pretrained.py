"""Methods that segment on the patches of an image encoder: the patches land where they come from, and are read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from models import checkpoint
from models.data.batches import Tokenise
from models.encoders import EncoderConfig, ImageEncoder, encoding_anew, keep_features
from models.segmentation.batches import SegmentationBatch
from models.segmentation.method import SegmentationMethod
from models.segmentation.pretrained import PatchFusion, Pyramid, Reassemble, patch_map
from pipelines.evaluate.latency import latency
from pipelines.registry import plugin
from tests.models.small import ENCODERS
from tests.models.test_frozen_images import VIT
from tests.models.test_language_decoder import pictures
from tests.shards import INPUT_FORMAT

SIDE = 64
TEXT = {"text_encoder": ENCODERS["text_encoder"]}
# 16 x 16 patches, as DINOv2 of images of 224 pixels.
ENCODER: dict[str, Any] = {"architecture": VIT | {"image_size": SIDE, "patch_size": 4}, "frozen": True}
METHODS: dict[str, dict[str, Any]] = {
    "unet": {"base": 4},
    "reclmis": {**TEXT, "base": 4, "grid": SIDE // 16, "layers": 2},
    "tmca": {**TEXT, "pyramid_widths": [8, 8, 16, 16]},
    "ariadne": {**TEXT, "pyramid_widths": [8, 8, 16, 16]},
}


def build(method: str, tokenizer: Any, **encoder: Any) -> SegmentationMethod:
    torch.manual_seed(0)
    cls = plugin("methods", method)
    return cls(checkpoint.build(cls.Config, METHODS[method] | {"image_encoder": ENCODER | encoder}), len(tokenizer))


def batch_of(tokenizer: Any) -> SegmentationBatch:
    target = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
    target[:, 8:24, 40:60] = True
    text = Tokenise(tokenizer, 32)(["red left upper", "green", "blue picture"])
    return SegmentationBatch(["a", "b", "c"], pictures(3), text, target)


def test_patches_are_resampled_in_their_places() -> None:
    patches = torch.tensor([[[1.0], [2.0], [3.0], [5.0]]])
    assert patch_map(patches, 2, 2).tolist() == [[[[1.0, 2.0], [3.0, 5.0]]]]
    rows = patch_map(patches, 4, 4)[0, 0]
    assert rows[0].tolist() == [1.0, 1.25, 1.75, 2.0]
    # A quarter of the way down and across: .75 (.75 1 + .25 2) + .25 (.75 3 + .25 5).
    assert rows[1, 1].item() == pytest.approx(0.75 * 1.25 + 0.25 * 3.5)
    # All count where there are fewer places.
    assert patch_map(patches, 1, 1).item() == pytest.approx(11 / 4)


@pytest.mark.parametrize("cell", [(2, 3), (9, 14), (13, 1)])
@torch.no_grad()
def test_a_patch_changes_the_features_of_its_place_and_no_others(cell: tuple[int, int]) -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(checkpoint.build(EncoderConfig, ENCODER))
    pyramid, fusion = Pyramid(encoder, [8] * 4).eval(), PatchFusion(encoder, 8).eval()
    patches, (row, column) = torch.randn(1, 256, 16), cell
    changed = patches.clone()
    changed[0, 16 * row + column] += torch.randn(16)
    for levels in (
        [[reassemble(given, side, side) for given in (patches, changed)] for reassemble, side in levels_of(pyramid)],
        [[fusion([torch.zeros(1, 8, 4, 4)], given)[-1] for given in (patches, changed)]],
    ):
        for before, after in levels:
            moved, side = (after - before).abs().amax(dim=(0, 1)), before.shape[-1]
            assert moved.any()
            for y, x in moved.nonzero().tolist():
                # The middle of a position, in cells; bilinear reach of a cell, and of the convolution of 3 x 3.
                reach = 1 + 2 * 16 / side
                assert abs((y + 0.5) * 16 / side - row - 0.5) <= reach
                assert abs((x + 0.5) * 16 / side - column - 0.5) <= reach


def levels_of(pyramid: Pyramid) -> Iterator[tuple[Reassemble, int]]:
    assert pyramid.patches is not None
    return zip(pyramid.patches, (16, 8, 4, 2), strict=True)


@pytest.mark.parametrize("method", METHODS)
def test_all_but_the_frozen_encoder_is_trained(method: str, tokenizer: Any) -> None:
    model, batch = build(method, tokenizer).train(), batch_of(tokenizer)
    torch.stack(list(model(batch, model.losses).values())).sum().backward()
    idle = {
        name
        for name, parameter in model.named_parameters()
        if (parameter.grad is None or not parameter.grad.any()) and not name.startswith("text_encoder")
    }
    assert idle == {name for name, _ in model.named_parameters() if name.startswith("image_encoder.backbone")}


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_features_from_the_store_give_the_same_mask(method: str, tokenizer: Any, tmp_path: Path) -> None:
    model, batch = build(method, tokenizer).eval(), batch_of(tokenizer)
    expected = model.segment(batch.images, batch.text)
    keep_features(model, tmp_path)
    for _ in range(2):
        torch.testing.assert_close(model.segment(batch.images, batch.text), expected)
    store = model.image_encoder.store
    assert store.computed == 3
    with encoding_anew(model):
        torch.testing.assert_close(model.segment(batch.images, batch.text), expected)
    assert model.image_encoder.features_folder == tmp_path


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_a_checkpoint_rebuilds_it_without_the_origin_of_its_weights(
    method: str, tokenizer: Any, tmp_path: Path
) -> None:
    model, batch = build(method, tokenizer), batch_of(tokenizer)
    model.image_encoder.backbone.save_pretrained(tmp_path / "weights")
    statistics = {
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.2, 0.2, 0.3],
        "image_processor_type": "ViTImageProcessor",
    }
    (tmp_path / "weights" / "preprocessor_config.json").write_text(json.dumps(statistics))
    architecture = {"architecture": {}, "pretrained": str(tmp_path / "weights")}
    model, folder = build(method, tokenizer, **architecture).eval(), tmp_path / "checkpoint"
    expected = model.segment(batch.images, batch.text)
    folder.mkdir()
    checkpoint.save(folder, method, model, model.state_dict(), tokenizer, {}, INPUT_FORMAT)
    for file in (tmp_path / "weights").iterdir():
        file.unlink()
    loaded, _ = checkpoint.load(folder, type(model))
    assert torch.equal(loaded.segment(batch.images, batch.text), expected)


def test_what_a_mask_takes_is_measured_without_the_store(tokenizer: Any, tmp_path: Path) -> None:
    model = build("unet", tokenizer).eval()
    keep_features(model, tmp_path)
    assert latency(model, pictures(1), Tokenise(tokenizer, 32)(["red"])) > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", METHODS)
def test_an_encoder_that_cuts_images_is_refused(method: str, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="crop cuts the image, but not its mask"):
        build(method, tokenizer, crop=32, frozen=False)


def test_settings_that_do_not_fit_are_refused() -> None:
    encoder = ImageEncoder(checkpoint.build(EncoderConfig, ENCODER))
    with pytest.raises(ValueError, match="vit has no four stages of features: choose convnext, or set pyramid_widths"):
        Pyramid(encoder)
    for widths in ([8, 8, 8], [8, 8, 8, 0]):
        with pytest.raises(ValueError, match="give four widths"):
            Pyramid(encoder, widths)
    convnext = {"model_type": "convnext", "hidden_sizes": [4, 8, 12, 16], "depths": [1] * 4}
    with pytest.raises(ValueError, match="frozen keeps patches and no stages: remove it, or set pyramid_widths"):
        Pyramid(ImageEncoder(EncoderConfig(architecture=convnext, frozen=True)))
