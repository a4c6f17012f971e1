"""Ariadne: what it is made of, and what must change nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.ariadne.config import AriadneConfig
from models.ariadne.model import Ariadne
from models.data.batches import Tokenise
from models.data.shards import ShardSet
from models.encoders import EncoderConfig
from models.segmentation.losses import dice_loss, mask_loss
from models.segmentation.method import SegmentationMethod
from tests.models.small import write_shards
from tests.models.test_language_decoder import check_gradients, check_invariances, encoders


def small(tokenizer: Any, **changes: Any) -> Ariadne:
    torch.manual_seed(0)
    return Ariadne(AriadneConfig(**encoders(), **changes), len(tokenizer))


def shard_batch(folder: Path, model: SegmentationMethod, tokenizer: Any, count: int = 6) -> Any:
    """Images of 64 x 64 pixels with their masks and texts; one has no text, and one nothing to find."""
    split = ShardSet(folder / "images", folder / "captions", "train")
    usable = [sample for sample in split.samples() if model.skip_reason(sample) is None]
    return model.collate(Tokenise(tokenizer, 32), None, 0)(usable[:count], None)


def full_size() -> dict[str, EncoderConfig]:
    """The encoders of the papers' size."""
    convnext = {"model_type": "convnext", "hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3]}
    return {
        "image_encoder": EncoderConfig(architecture=convnext),
        "text_encoder": EncoderConfig(architecture={"model_type": "bert"}, frozen=True),
    }


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def test_padding_order_and_size(tokenizer: Any) -> None:
    check_invariances(small(tokenizer), tokenizer)


def test_a_training_step_reaches_every_parameter(tokenizer: Any, tmp_path: Path) -> None:
    model = small(tokenizer).train()
    batch = shard_batch(write_shards(tmp_path, 12, size=64), model, tokenizer)
    losses = model(batch, model.losses)
    assert list(losses) == ["segmentation"]
    check_gradients(losses["segmentation"], model)


@torch.no_grad()
def test_configured_loss_is_returned(tokenizer: Any, tmp_path: Path) -> None:
    model = small(tokenizer).eval()
    batch = shard_batch(write_shards(tmp_path, 12, size=64), model, tokenizer)
    logits = model.logits(batch.images, batch.text)
    assert model(batch, model.losses)["segmentation"] == mask_loss(logits, batch.target)
    model = small(tokenizer, loss="dice").eval()
    assert model(batch, model.losses)["segmentation"] == dice_loss(logits.sigmoid(), batch.target)
    assert dice_loss(logits.sigmoid(), batch.target) != mask_loss(logits, batch.target)


def test_parameters_are_those_of_the_published_code() -> None:
    """segmentation_methods.md, section 3: 14.36 M in the decoders; 43.95 M trainable, 1.77 M of them in a branch that
    nothing reads: three matrices of 768 x 768 with their biases, which is not built here.
    """
    with torch.device("meta"):
        model = Ariadne(AriadneConfig(**full_size()), 30522)
    convolutions_over_words = sum(24 * out + out for out in (24, 12, 9))
    assert count(model.image_encoder) == 27_820_128
    assert count(model.decoder) + convolutions_over_words == pytest.approx(14.36e6, abs=0.005e6)
    assert count(model) + convolutions_over_words + 3 * (768 * 768 + 768) == pytest.approx(43.95e6, abs=0.005e6)


@pytest.mark.parametrize(("changes", "message"), [({"loss": "focal"}, "loss 'focal'"), ({"heads": 0}, "heads")])
def test_invalid_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AriadneConfig(**encoders(), **changes)
