"""RecLMIS `published` against what the published modules compute of the same weights and inputs (`published.py`)."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models import checkpoint
from models.data.batches import Images, Tokens
from models.reclmis.config import RecLMISConfig
from models.reclmis.interaction import Interest
from models.reclmis.losses import contrastive_loss, halved_mask_loss, softmax_again
from models.reclmis.model import RecLMIS
from models.reclmis.sequences import Sequences
from models.reclmis.variants import VARIANTS, Variant
from models.segmentation.batches import SegmentationBatch
from tests.models.published import assert_as_published, fill, given, numbers, published
from tests.models.renamed import RECLMIS

LENGTHS = (15, 11, 5)
PLACES, VOCABULARY = 18, 40
CLIP = {
    "model_type": "clip_text_model",
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "max_position_embeddings": 24,
    "projection_dim": 32,
    "hidden_act": "quick_gelu",
}
INSIDE = torch.arange(PLACES) < torch.tensor(LENGTHS).unsqueeze(1)

pytestmark = pytest.mark.usefixtures("without_gradients")


@pytest.fixture(scope="module")
def outputs() -> Mapping[str, Any]:
    return published("published_reclmis.json")


@pytest.fixture(scope="module", params=[False, True], ids=["trained text", "frozen text"])
def model(request: pytest.FixtureRequest) -> RecLMIS:
    return built(frozen=request.param)


def built(*, frozen: bool) -> RecLMIS:
    settings = {
        "text_encoder": {"architecture": CLIP, "pooling": "mean", "frozen": frozen},
        "base": 4,
        "grid": 4,
        "layers": 2,
        "variant": "published",
        # All is hidden, whatever is drawn.
        "vision_mask_ratio": 1.0,
        "text_mask_ratio": 1.0,
    }
    model = RecLMIS(checkpoint.build(RecLMISConfig, settings), VOCABULARY).eval()
    fill(model, RECLMIS)
    return model


def texts() -> Tokens:
    """Padded to the longest of the three, with a token that is not 0."""
    longest = max(LENGTHS)
    ids = torch.full((len(LENGTHS), longest), VOCABULARY - 1)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = 1 + (numbers(f"text {row}", length) * 0.5 + 0.5).mul(38).long()
    mask = INSIDE[:, :longest].long()
    return Tokens(ids, mask, torch.where(mask == 1, torch.arange(longest), -1))


def batch() -> SegmentationBatch:
    pixels = ((numbers("images", 3, 3, 64, 64) + 1) * 127.5).to(torch.uint8)
    target = numbers("target", 3, 1, 64, 64).squeeze(1) > 0.3
    images = Images(pixels, torch.zeros(0, 3, 1, 1), torch.zeros(0, dtype=torch.long))
    return SegmentationBatch(["a", "b", "c"], images, texts(), target)


def words(name: str) -> Sequences:
    weights = given("word weights", 3, PLACES).masked_fill(~INSIDE, -torch.inf).softmax(dim=-1)
    return Sequences(features=given(name, 3, PLACES, 32), weights=weights, mask=INSIDE, read=torch.ones_like(INSIDE))


def patches(features: Tensor) -> Sequences:
    every = torch.ones(3, 16, dtype=torch.bool)
    weights = given("patch weights", 3, 16).softmax(dim=-1)
    return Sequences(features=features, weights=weights, mask=every, read=every)


def test_convolutions_down_and_up_with_attention_over_pixels(model: RecLMIS, outputs: Mapping[str, Any]) -> None:
    encoder, up = model.encoder, model.decoder.up[0]
    assert_as_published(encoder.first(batch().images.pixels.float() / 255), outputs["inc"])
    assert_as_published(encoder.down[0](given("down1 input", 2, 4, 8, 8)), outputs["down1"])
    assert_as_published(up.attention(given("plam input", 2, 32, 4, 6)), outputs["plam"])
    found = up(given("up4 below", 2, 32, 2, 2), given("up4 beside", 2, 32, 4, 4))
    assert_as_published(found, outputs["up4"])


def test_words_are_those_of_clip_with_its_projection_and_padding(model: RecLMIS, outputs: Mapping[str, Any]) -> None:
    _, text = model.text_encoder(texts())
    assert_as_published(text, outputs["clip_text"])
    assert_as_published(model.word_convolution(text, torch.ones_like(INSIDE)), outputs["words"])


def test_interaction(model: RecLMIS, outputs: Mapping[str, Any]) -> None:
    maps, every = given("patches", 3, 32, 4, 4), torch.ones_like(INSIDE)
    attended_patches, attended_words = model.interaction(
        maps.flatten(2).mT, given("words", 3, PLACES, 32), every, attends_words=True
    )
    assert_as_published(attended_patches, outputs["interaction_patches"])
    assert_as_published(model.read_words(attended_words, every), outputs["interaction_words"])


def test_interest_in_words(model: RecLMIS, outputs: Mapping[str, Any]) -> None:
    assert isinstance(model.word_interest, Interest)
    assert_as_published(model.word_interest(given("interest words", 3, PLACES, 32), INSIDE), outputs["interest"])


def test_reconstructors(model: RecLMIS, outputs: Mapping[str, Any]) -> None:
    rebuilt = model.reconstruction.vision(patches(given("hidden patches", 3, 16, 32)), words("words"), conditioned=True)
    assert_as_published(rebuilt, outputs["reconstructed_patches"])
    rebuilt = model.reconstruction.language(
        words("hidden words"), patches(given("patch source", 3, 16, 32)), conditioned=True
    )
    assert_as_published(rebuilt, outputs["reconstructed_words"])


def test_contrast(outputs: Mapping[str, Any]) -> None:
    maps = patches(given("patches", 3, 32, 4, 4).flatten(2).mT)
    found = contrastive_loss(softmax_again(maps), softmax_again(words("words")), 0.01)
    assert_as_published(found, outputs["contrast"])


def test_mask_loss(outputs: Mapping[str, Any]) -> None:
    logits, target = given("mask logits", 3, 1, 64, 64).squeeze(1) * 4, batch().target
    assert_as_published(halved_mask_loss(logits, target), outputs["mask_loss"])
    target[1] = False
    assert_as_published(halved_mask_loss(logits, target), outputs["mask_loss_empty"])


def test_whole_network(model: RecLMIS, outputs: Mapping[str, Any]) -> None:
    whole = batch()
    assert_as_published(model.segment(whole.images, whole.text), outputs["probabilities"])
    assert_as_published(model.attention(whole.images, whole.text).flatten(1), outputs["patch_interest"])
    features = model._features(whole.images, whole.text, attends_words=True)
    assert_as_published(model._words(features).weights, outputs["word_interest"])


def test_losses_of_the_whole_network(model: RecLMIS, outputs: Mapping[str, Any]) -> None:
    losses = model(batch(), model.losses)
    assert_as_published(losses["segmentation"] / 5, outputs["loss_criterion"])
    assert_as_published(losses["contrastive"] / 0.2, outputs["loss_ccl"])
    assert_as_published(losses["vision_reconstruction"], outputs["loss_img_rec"])
    assert_as_published(losses["language_reconstruction"], outputs["loss_text_rec"])
    assert_as_published(torch.stack(list(losses.values())).sum(), outputs["total"])


@pytest.mark.parametrize("name", [field.name for field in fields(Variant)])
def test_each_difference_is_needed(name: str, outputs: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    variant = VARIANTS["published"]
    monkeypatch.setitem(VARIANTS, "published", replace(variant, **{name: not getattr(variant, name)}))
    model = built(frozen=True)
    total = torch.stack(list(model(batch(), model.losses).values())).sum()
    assert abs(total.item() - outputs["total"]["mean"]) > 1e-3


def test_a_text_longer_than_what_is_filled_up_has_more_places(model: RecLMIS) -> None:
    ids = torch.full((2, 20), 7)
    mask = torch.arange(20) < torch.tensor([[20], [6]])
    images = batch().images
    images = replace(images, pixels=images.pixels[:2])
    both = model._features(images, Tokens(ids, mask.long(), ids), attends_words=True)
    assert both.read.sum(dim=1).tolist() == [20, PLACES]
    short = Tokens(ids[1:, :6], mask[1:, :6].long(), ids[1:, :6])
    alone = model._features(replace(images, pixels=images.pixels[1:]), short, attends_words=True)
    torch.testing.assert_close(both.attended_patches[1:], alone.attended_patches, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("layers", "count"), [(4, 60_677_951), (3, 50_163_519)])
def test_parameters_are_those_of_published_code_that_get_a_gradient(layers: int, count: int) -> None:
    clip = {"model_type": "clip_text_model", "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12}
    settings = {
        "text_encoder": {"architecture": clip | {"num_attention_heads": 8}, "pooling": "mean", "frozen": True},
        "variant": "published",
        "layers": layers,
    }
    with torch.device("meta"):
        model = RecLMIS(checkpoint.build(RecLMISConfig, settings), 49408)
    # Biases that cancel in a softmax: of the keys, three attentions a layer in each of two, and of both interests.
    cancelling = 2 * layers * 3 * 512 + 2
    assert sum(part.numel() for part in model.parameters() if part.requires_grad) == count - cancelling
    # Of published code 63,428,097: with CLIP's temperature, which is a setting here.
    assert sum(part.numel() for part in model.text_encoder.parameters()) == 63_428_096
