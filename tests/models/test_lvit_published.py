"""LViT `published` against what the published modules compute of the same weights and inputs (`published.py`)."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from models import checkpoint
from models.data.batches import Tokens
from models.lvit.config import LViTConfig
from models.lvit.losses import balanced_mask_loss
from models.lvit.model import LViT
from models.lvit.text import WORDS, first_words
from tests.models.published import assert_as_published, fill, given, numbers, published
from tests.models.renamed import LVIT

WIDTH = 12
BERT = {"model_type": "bert", "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}

pytestmark = pytest.mark.usefixtures("without_gradients")


@pytest.fixture(scope="module")
def outputs() -> Mapping[str, Any]:
    return published("published_lvit.json")


@pytest.fixture(scope="module")
def model() -> LViT:
    settings = {
        "text_encoder": {"architecture": BERT | {"intermediate_size": 20}},
        "base": 16,
        "image_size": 32,
        "variant": "published",
    }
    model = LViT(checkpoint.build(LViTConfig, settings), 50).eval()
    fill(model, LVIT)
    # Else most probabilities were 0 or 1, whose logarithm published code cuts off.
    model.decoder.out.weight.data *= 0.1
    return model


def target() -> Tensor:
    return numbers("target", 3, 1, 32, 32).squeeze(1) > 0.3


def test_one_layer_and_what_surrounds_it(model: LViT, outputs: Mapping[str, Any]) -> None:
    part = model.transformer
    assert_as_published(part.down[1](given("patches", 2, 4, 32)), outputs["layer"])
    assert_as_published(part.embed[2](given("level 3", 2, 64, 8, 8)), outputs["embedding"])
    maps = given("patches", 2, 4, 32).mT.unflatten(2, (2, 2))
    assert_as_published(part.reconstruct[1](maps), outputs["reconstructed_patches"])
    assert_as_published(model.decoder.up[1].attention(given("plam input", 2, 64, 4, 6)), outputs["plam"])


def test_text_on_its_way_to_the_positions(model: LViT, outputs: Mapping[str, Any]) -> None:
    every = torch.ones(3, WORDS, dtype=torch.long)
    assert_as_published(model.text(given("text", 3, WORDS, WIDTH) * 2, every), outputs["narrowed_text"])
    assert_as_published(model.transformer.text(given("narrow", 3, WORDS, 16), every), outputs["text_at_positions"])


def test_transformers_down_and_up(model: LViT, outputs: Mapping[str, Any]) -> None:
    levels = [given(f"level {n + 1}", 2, 16 << n, 32 >> n, 32 >> n) for n in range(4)]
    every = torch.ones(2, WORDS, dtype=torch.long)
    found = model.transformer(levels, given("narrow", 3, WORDS, 16)[:2], every)
    for number, level in enumerate(found, start=1):
        assert_as_published(level, outputs[f"changed{number}"])


def test_mask_loss(outputs: Mapping[str, Any]) -> None:
    logits = given("mask logits", 3, 1, 32, 32).squeeze(1) * 4
    one_empty = target()
    one_empty[1] = False
    assert_as_published(balanced_mask_loss(logits, target()), outputs["mask_loss"])
    assert_as_published(balanced_mask_loss(logits, one_empty), outputs["mask_loss_empty"])
    nothing = torch.zeros_like(one_empty)
    assert_as_published(balanced_mask_loss(logits, nothing), outputs["mask_loss_all_empty"])


def test_whole_network(model: LViT, outputs: Mapping[str, Any]) -> None:
    pixels = ((numbers("images", 3, 3, 32, 32) + 1) * 127.5).to(torch.uint8)
    text, every = given("text", 3, WORDS, WIDTH) * 2, torch.ones(3, WORDS, dtype=torch.long)
    logits = model.logits_with(pixels, text, every)
    assert_as_published(logits.sigmoid(), outputs["probabilities"])
    assert_as_published(balanced_mask_loss(logits, target()), outputs["whole_loss"])
    other = model.logits_with(pixels, text.flip(0), every)
    assert_as_published(other.sigmoid(), outputs["probabilities_other_text"])


def test_ten_words_are_read_and_no_special_token() -> None:
    features = numbers("tokens", 2, 16, 4)
    # Twelve words, of which the second has two pieces; two words.
    words = torch.tensor([[-1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, -1, -1], [-1, 0, 1] + [-1] * 13])
    mask = (words >= 0).long()
    found, read = first_words(features, Tokens(torch.zeros_like(words), mask, words))
    assert found.shape == (2, WORDS, 4)
    assert read.all()
    torch.testing.assert_close(found[0, 0], features[0, 1])
    torch.testing.assert_close(found[0, 1], (features[0, 2] + features[0, 3]) / 2)
    torch.testing.assert_close(found[0, 2:], features[0, 4:12])
    torch.testing.assert_close(found[1, :2], features[1, 1:3])
    assert not found[1, 2:].any()
