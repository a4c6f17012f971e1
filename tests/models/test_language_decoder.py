"""The decoder that Ariadne and TMCA share, against slow references, and what must change nothing."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

from models.data.batches import Images, Tokenise, Tokens
from models.encoders import EncoderConfig, ImageEncoder
from models.segmentation.language_decoder import (
    GuidedAttention,
    LanguageDecoder,
    SubpixelHead,
    grid_sinusoids,
    mean_of_words,
    sinusoids,
)
from models.segmentation.pretrained import Pyramid

WIDTHS = [4, 8, 12, 16]
TEXTS = ["the picture is red left upper", "", "green"]


def encoders(**changes: Any) -> dict[str, EncoderConfig]:
    """A ConvNeXt of `WIDTHS` and a BERT, both small."""
    convnext = {"model_type": "convnext", "hidden_sizes": WIDTHS, "depths": [1, 1, 1, 1]} | changes
    bert = {
        "model_type": "bert",
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    return {
        "image_encoder": EncoderConfig(architecture=convnext),
        "text_encoder": EncoderConfig(architecture=bert, last_layers=3),
    }


def pictures(count: int, height: int = 64, width: int = 64) -> Images:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (count, 3, height, width), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.zeros(0, 3, 1, 1, dtype=torch.uint8), torch.zeros(0, dtype=torch.long))


def padded(tokens: Tokens, columns: int = 4) -> Tokens:
    """The same texts with more padding, of a token that means something."""
    more = nn.functional.pad
    return Tokens(
        more(tokens.ids, (0, columns), value=7),
        more(tokens.mask, (0, columns)),
        more(tokens.words, (0, columns), value=-1),
    )


def check_invariances(model: nn.Module, tokenizer: Any) -> None:
    """Any size of image, any order of the batch, and any padding; a text without words gives finite logits."""
    model.eval()
    tokens = Tokenise(tokenizer, 32)(TEXTS)
    with torch.no_grad():
        images = pictures(3)
        found = model.segment(images, tokens)
        assert found.shape == (3, 64, 64)
        assert torch.isfinite(found).all()
        torch.testing.assert_close(model.segment(images, padded(tokens)), found, rtol=1e-4, atol=1e-6)
        order = torch.tensor([2, 0, 1])
        turned = model.segment(
            dataclasses.replace(images, pixels=images.pixels[order]),
            Tokens(tokens.ids[order], tokens.mask[order], tokens.words[order]),
        )
        torch.testing.assert_close(turned, found[order], rtol=1e-4, atol=1e-6)
        assert model.segment(pictures(3, 32, 96), tokens).shape == (3, 32, 96)
        # The text counts: another one gives another mask.
        other = model.segment(images, Tokenise(tokenizer, 32)(["oval number 3", "blue", "flat"]))
        assert (other - found).abs().amax(dim=(1, 2)).min() > 1e-6


def check_gradients(loss: torch.Tensor, model: nn.Module) -> None:
    """Every parameter has a gradient that is not 0, but for what encoders have beyond the features that are read."""
    loss.backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    unread = ("image_encoder.backbone.layernorm.", "text_encoder.backbone.pooler.")
    assert [name for name in idle if not name.startswith(unread)] == []


def test_the_positional_embedding_is_the_formula() -> None:
    found = sinusoids(5, 6, like=torch.zeros(1, dtype=torch.float64))
    for place in range(5):
        for number in range(3):
            angle = place / 10000 ** (2 * number / 6)
            assert float(found[place, number]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(found[place, 3 + number]) == pytest.approx(math.cos(angle), abs=1e-6)
    grid = grid_sinusoids(2, 3, 12, like=torch.zeros(1, dtype=torch.float64))
    for row in range(2):
        for column in range(3):
            assert torch.equal(grid[3 * row + column], torch.cat([found[row], found[column]]))


def attention_by_hand(layer: nn.MultiheadAttention, query: list, key: list, value: list) -> list:
    """Vaswani et al. 2017, eq. 1 and section 3.2.2, of lists of vectors."""
    width, size = layer.embed_dim, layer.head_dim
    parts = [
        (layer.in_proj_weight[n * width : (n + 1) * width], layer.in_proj_bias[n * width : (n + 1) * width])
        for n in range(3)
    ]
    q, k, v = (
        [weight @ x + bias for x in side] for (weight, bias), side in zip(parts, (query, key, value), strict=True)
    )
    rows = []
    for one in q:
        heads = []
        for first in range(0, width, size):
            part = slice(first, first + size)
            scores = [math.exp(float(one[part] @ other[part]) / math.sqrt(size)) for other in k]
            heads.append(sum(score / sum(scores) * other[part] for score, other in zip(scores, v, strict=True)))
        rows.append(layer.out_proj.weight @ torch.cat(heads) + layer.out_proj.bias)
    return rows


def norm_by_hand(layer: nn.LayerNorm, rows: list) -> list:
    return [(x - x.mean()) / (x.var(correction=0) + layer.eps).sqrt() * layer.weight + layer.bias for x in rows]


@torch.no_grad()
def test_guided_attention_is_the_description() -> None:
    torch.manual_seed(3)
    module = GuidedAttention(8, self_heads=1, heads=2).double()
    for parameter in module.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    features, words = torch.randn(1, 8, 2, 3).double(), torch.randn(1, 4, 8).double()
    found = module(features, words, torch.tensor([[1, 1, 1, 0]]))
    rows = [features[0, :, place // 3, place % 3] for place in range(6)]
    place = list(grid_sinusoids(2, 3, 8, like=features))
    value = norm_by_hand(module.self_norms[0], rows)
    key = [x + p for x, p in zip(value, place, strict=True)]
    told = norm_by_hand(module.self_norms[1], attention_by_hand(module.self_attention, key, key, value))
    rows = [x + y for x, y in zip(rows, told, strict=True)]
    query = [x + p for x, p in zip(norm_by_hand(module.cross_norms[0], rows), place, strict=True)]
    text = list(words[0, :3])
    key = [x + p for x, p in zip(text, sinusoids(3, 8, like=words), strict=True)]
    told = norm_by_hand(module.cross_norms[1], attention_by_hand(module.cross_attention, query, key, text))
    for number, (x, y) in enumerate(zip(rows, told, strict=True)):
        torch.testing.assert_close(found[0, :, number // 3, number % 3], x + module.scale * y)


@torch.no_grad()
def test_the_head_is_the_mean_of_subpixels() -> None:
    torch.manual_seed(4)
    head = SubpixelHead(8).double()
    features = torch.randn(1, 8, 2, 3).double()
    channels = head.subpixels(features)[0]
    weight, bias = head.out.weight.flatten(), head.out.bias
    found = head(features)
    assert found.shape == (1, 8, 12)
    for y in range(8):
        for x in range(12):
            total = torch.zeros(2).double()
            for v in range(max(0, y - 3), y + 1):
                for u in range(max(0, x - 3), x + 1):
                    first = 4 * (v % 4) + u % 4
                    total += channels[[first, 16 + first], v // 4, u // 4] / 16
            torch.testing.assert_close(found[0, y, x], (weight * total).sum() + bias[0])


def test_the_mean_of_words_leaves_out_padding() -> None:
    words = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
    assert mean_of_words(words, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 4.0]]


@pytest.mark.parametrize(
    ("image_encoder", "heads", "message"),
    [
        (
            EncoderConfig(architecture={"model_type": "convnext", "hidden_sizes": WIDTHS, "depths": [1] * 4}, crop=32),
            4,
            "crop",
        ),
        (
            EncoderConfig(architecture={"model_type": "convnext", "hidden_sizes": WIDTHS, "depths": [1] * 4}),
            3,
            "multiples of 4 and",
        ),
        (
            EncoderConfig(architecture={"model_type": "convnext", "hidden_sizes": [6, 8, 8, 8], "depths": [1] * 4}),
            2,
            "multiples of 4 and",
        ),
        (
            EncoderConfig(
                architecture={"model_type": "vit", "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
            ),
            4,
            "choose convnext",
        ),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(image_encoder: EncoderConfig, heads: int, message: str) -> None:
    encoder = ImageEncoder(image_encoder)
    with pytest.raises(ValueError, match=message):
        LanguageDecoder(Pyramid(encoder).widths, 16, self_heads=1, heads=heads, activation=True)


def test_images_whose_sides_are_no_multiple_of_32_are_refused() -> None:
    encoder = ImageEncoder(encoders()["image_encoder"])
    for height, width in ((33, 32), (64, 48)):
        with pytest.raises(ValueError, match=f"images of {width} x {height} pixels: set shards.image_size"):
            Pyramid(encoder)(encoder, pictures(1, height, width).pixels)
