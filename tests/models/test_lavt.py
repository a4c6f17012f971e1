"""LAVT: pixel-word attention and gate against the paper's equations, and what must change nothing."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.data.batches import Tokenise, Tokens
from models.encoders import EncoderConfig
from models.lavt.config import LavtConfig
from models.lavt.fusion import LanguageGate, PixelWordAttention, TopDownDecoder, enlarged
from models.lavt.model import Lavt
from models.segmentation.batches import SegmentationBatch
from tests.models.test_language_decoder import TEXTS, encoders, padded, pictures

SWIN = {"model_type": "swin", "embed_dim": 8, "depths": [2, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 4}


def settings(**image_encoder: Any) -> LavtConfig:
    text_encoder = encoders()["text_encoder"]
    return LavtConfig(image_encoder=EncoderConfig(architecture=SWIN, **image_encoder), text_encoder=text_encoder)


@pytest.fixture
def model(tokenizer: Any) -> Lavt:
    torch.manual_seed(0)
    model = Lavt(settings(), len(tokenizer)).eval()
    # Gates that let something through.
    for gate in model.gates:
        for weight in gate.parameters():
            nn.init.normal_(weight, std=0.5)
    return model


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return torch.stack([(row * x).sum() for row in layer.weight]) + layer.bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def instance_norm(rows: list[Tensor]) -> list[Tensor]:
    """Of each feature over the positions."""
    mean = sum(rows) / len(rows)
    variance = sum((row - mean) ** 2 for row in rows) / len(rows)
    return [(row - mean) / (variance + 1e-5).sqrt() for row in rows]


@torch.no_grad()
def test_pixel_word_attention_is_the_papers_equations() -> None:
    torch.manual_seed(1)
    width, positions, lengths = 4, 5, (3, 1)
    pwam = PixelWordAttention(width, 6).double()
    pixels, words = torch.randn(2, positions, width).double(), torch.randn(2, 3, 6).double()
    found = pwam(pixels, words, torch.tensor([[1, 1, 1], [1, 0, 0]]))
    for image, length in enumerate(lengths):
        query = instance_norm([linear(pwam.query, pixel) for pixel in pixels[image]])
        keys = [linear(pwam.key, word) for word in words[image, :length]]
        values = [linear(pwam.value, word) for word in words[image, :length]]
        attended = []
        for one in query:
            scores = [math.exp(float(one @ key) / math.sqrt(width)) for key in keys]
            mean = sum(score / sum(scores) * value for score, value in zip(scores, values, strict=True))
            attended.append(linear(pwam.attended, mean))
        attended = instance_norm(attended)
        for position in range(positions):
            product = gelu(linear(pwam.visual[0], pixels[image, position])) * attended[position]
            torch.testing.assert_close(found[image, position], gelu(linear(pwam.mixed[0], product)))


@torch.no_grad()
def test_the_gate_weighs_what_enters_the_next_stage() -> None:
    torch.manual_seed(2)
    gate = LanguageGate(4).double()
    features, fused = torch.randn(2, 1, 3, 4).double()
    for weight in gate.parameters():
        nn.init.normal_(weight)
    weighed = torch.tanh((fused @ gate.first.weight.T).clamp(min=0) @ gate.second.weight.T)
    torch.testing.assert_close(gate(features, fused), features + weighed * fused)
    gate.second.weight.zero_()
    assert torch.equal(gate(features, fused), features)


@torch.no_grad()
def test_with_closed_gates_the_stages_are_those_of_the_library(model: Lavt, tokenizer: Any) -> None:
    """And with open ones the words change what the later stages see."""
    tokens = Tokenise(tokenizer, 32)(["red left upper"])
    _, words = model.text_encoder(tokens)
    pixels = torch.randn(1, 3, 64, 96)
    opened = model.encoded(pixels, words, tokens.mask)
    for gate in model.gates:
        gate.second.weight.zero_()
    found = model.encoded(pixels, words, tokens.mask)
    swin = model.image_encoder.backbone(
        pixels,
        output_hidden_states=True,
        output_hidden_states_before_downsampling=True,
        always_partition=True,
        interpolate_pos_encoding=True,
    )
    _, *stages = swin.reshaped_hidden_states
    assert [tuple(stage.shape[1:]) for stage in found] == [(8, 16, 24), (16, 8, 12), (32, 4, 6), (64, 2, 3)]
    for stage, fuse, norm, level in zip(stages, model.fusions, model.norms, found, strict=True):
        fused = norm(fuse(stage.flatten(2).transpose(1, 2), words, tokens.mask))
        expected = fused.transpose(1, 2).reshape(level.shape)
        torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(opened[0], found[0])
    for before, after in zip(opened[1:], found[1:], strict=True):
        assert not torch.allclose(before, after, atol=1e-3)


@torch.no_grad()
def test_padding_order_and_images_of_other_sizes_before_change_nothing(model: Lavt, tokenizer: Any) -> None:
    tokens, images = Tokenise(tokenizer, 32)(TEXTS), pictures(3)
    found = model.segment(images, tokens)
    assert found.shape == (3, 64, 64)
    assert 0 <= found.min() < found.max() <= 1
    torch.testing.assert_close(model.segment(images, padded(tokens)), found, rtol=1e-4, atol=1e-6)
    assert model.segment(pictures(1, 96, 64), Tokenise(tokenizer, 32)(["red"])).shape == (1, 96, 64)
    order = torch.tensor([2, 0, 1])
    turned = model.segment(
        dataclasses.replace(images, pixels=images.pixels[order]),
        Tokens(tokens.ids[order], tokens.mask[order], tokens.words[order]),
    )
    torch.testing.assert_close(turned, found[order], rtol=1e-4, atol=1e-6)
    other = model.segment(images, Tokenise(tokenizer, 32)(["oval number 3", "blue", "flat"]))
    assert (other - found).abs().amax(dim=(1, 2)).min() > 1e-6


def test_a_training_step_reaches_every_parameter(model: Lavt, tokenizer: Any) -> None:
    target = torch.zeros(3, 64, 64, dtype=torch.bool)
    target[0, :32] = True
    tokens = Tokenise(tokenizer, 32)(TEXTS)
    batch = SegmentationBatch(keys=list("abc"), images=pictures(3), text=tokens, target=target)
    losses = model.train()(batch, model.losses)
    assert list(losses) == ["segmentation"]
    losses["segmentation"].backward()
    missed = [name for name, part in model.named_parameters() if part.grad is None or not part.grad.any()]
    # What nothing reads, and biases of keys, which a softmax takes away.
    idle = ("image_encoder.backbone.layernorm.", "text_encoder.backbone.pooler.")
    keys = ("key.bias", "k_proj.bias")
    assert [name for name in missed if not name.startswith(idle) and not name.endswith(keys)] == []


@torch.no_grad()
def test_the_decoder_goes_from_the_coarsest_features_up() -> None:
    torch.manual_seed(3)
    decoder = TopDownDecoder([2, 4, 6, 8]).eval()
    levels = [torch.randn(1, width, side, side) for width, side in ((2, 16), (4, 8), (6, 4), (8, 2))]
    y = decoder.blocks[0](torch.cat([enlarged(levels[3], 4, 4), levels[2]], dim=1))
    y = decoder.blocks[1](torch.cat([enlarged(y, 8, 8), levels[1]], dim=1))
    y = decoder.blocks[2](torch.cat([enlarged(y, 16, 16), levels[0]], dim=1))
    torch.testing.assert_close(decoder(levels), decoder.out(y)[:, 0])
    # Corners stay, and what lies between two positions is their weighed mean.
    row = enlarged(torch.tensor([[[[0.0, 3.0]]]]), 1, 4)
    torch.testing.assert_close(row, torch.tensor([[[[0.0, 1.0, 2.0, 3.0]]]]))


def test_other_image_encoders_and_frozen_ones_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="image_encoder convnext: lavt reads words between the four stages of a swin"):
        Lavt(LavtConfig(**encoders()), len(tokenizer))
    with pytest.raises(ValueError, match=r"image_encoder\.frozen keeps features of the image alone"):
        Lavt(settings(frozen=True), len(tokenizer))
    with pytest.raises(ValueError, match=r"image_encoder\.crop"):
        Lavt(settings(crop=32), len(tokenizer))


@pytest.mark.parametrize(("side", "says"), [(48, "multiples of 32"), (32, "64 pixels or more")])
def test_images_that_cannot_be_halved_are_refused(model: Lavt, tokenizer: Any, side: int, says: str) -> None:
    with pytest.raises(ValueError, match=f"lavt needs .*{says}.*have {side} x 64"):
        model.logits(pictures(1, side, 64), Tokenise(tokenizer, 32)(["red"]))
