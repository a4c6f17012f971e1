"""LViT: its text, its transformers, and what reaches what."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from models import checkpoint
from models.data.batches import Images, Tokenise, Tokens
from models.data.shards import ShardSet
from models.lvit.config import LViTConfig
from models.lvit.model import LViT
from models.lvit.text import HEADS, NarrowText, TextAtPositions
from models.lvit.transformers import PatchEmbedding
from models.lvit.variants import VARIANTS
from models.segmentation.batches import SegmentationBatch, SegmentationCollate
from tests.models.small import ENCODERS, write_shards
from tests.shards import INPUT_FORMAT


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> LViT:
    return built(tokenizer, "adapted")


def built(tokenizer: PreTrainedTokenizerFast, variant: str) -> LViT:
    torch.manual_seed(0)
    settings = {"base": 8, "image_size": 32, "text_encoder": ENCODERS["text_encoder"], "variant": variant}
    model = LViT(checkpoint.build(LViTConfig, settings), len(tokenizer))
    # Positions and statistics that do something.
    for name, part in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith((".positions", ".running_mean", "norm.bias")):
            nn.init.uniform_(part, -0.3, 0.3)
    return model


@pytest.fixture(scope="module")
def tokenise(tokenizer: PreTrainedTokenizerFast) -> Tokenise:
    return Tokenise(tokenizer, 64)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory, tokenise: Tokenise) -> SegmentationBatch:
    """Five images of 32 pixels; the last has no text."""
    root: Path = write_shards(tmp_path_factory.mktemp("shards"), 5, size=32)
    shards = ShardSet(root / "images", root / "captions", "train")
    batch = SegmentationCollate(tokenise, None, 0)([shards.sample(place) for place in range(5)])
    assert batch.text.mask.sum(dim=1)[4] == 2
    return batch


def padded(tokens: Tokens, count: int) -> Tokens:
    rows = len(tokens.ids)
    # Anything but 0, which a mistake might not show.
    more = torch.full((rows, count), 5)
    return Tokens(
        torch.cat([tokens.ids, more], dim=1),
        torch.cat([tokens.mask, torch.zeros_like(more)], dim=1),
        torch.cat([tokens.words, -torch.ones_like(more)], dim=1),
    )


@pytest.mark.parametrize(("variant", "count"), [("published", 29_908_033), ("adapted", 29_930_877)])
def test_parameter_count_is_that_of_published_code_without_its_unused_weights(variant: str, count: int) -> None:
    """Of 39,933,345 parameters of published code 29,908,033 get a gradient; attention over all tokens differs."""
    settings = {"text_encoder": {"architecture": {"model_type": "bert"}, "frozen": True}, "variant": variant}
    with torch.device("meta"):
        model = LViT(checkpoint.build(LViTConfig, settings), 30522)
    assert sum(part.numel() for part in model.parameters() if part.requires_grad) == count


def test_segment_returns_one_probability_per_pixel(model: LViT, batch: SegmentationBatch) -> None:
    found = model.eval().segment(batch.images, batch.text)
    assert found.shape == (5, 32, 32)
    assert 0 <= found.min() < found.max() <= 1


def test_padding_changes_nothing(model: LViT, batch: SegmentationBatch) -> None:
    found = model.eval().logits(batch.images, batch.text)
    torch.testing.assert_close(model.logits(batch.images, padded(batch.text, 7)), found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_of_a_batch_do_not_change_each_other(
    tokenizer: PreTrainedTokenizerFast, batch: SegmentationBatch, variant: str
) -> None:
    model = built(tokenizer, variant).eval()
    order = torch.tensor([3, 0, 4, 2, 1])
    images = Images(batch.images.pixels[order], batch.images.crops, batch.images.owner)
    text = Tokens(batch.text.ids[order], batch.text.mask[order], batch.text.words[order])
    expected = model.logits(batch.images, batch.text)[order]
    torch.testing.assert_close(model.logits(images, text), expected, rtol=1e-4, atol=1e-5)


def test_a_late_word_changes_the_mask(model: LViT, batch: SegmentationBatch, tokenise: Tokenise) -> None:
    images = Images(batch.images.pixels[:1], batch.images.crops, batch.images.owner)
    words = ["round"] * 30
    model.eval()
    with torch.no_grad():
        plain = model.logits(images, tokenise([" ".join(words)]))
        for place in (0, 15, 29):
            changed = tokenise([" ".join([*words[:place], "left", *words[place + 1 :]])])
            assert not torch.allclose(model.logits(images, changed), plain, rtol=0, atol=1e-7)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_deterministic_step_reaches_every_weight(
    tokenizer: PreTrainedTokenizerFast, batch: SegmentationBatch, variant: str
) -> None:
    model = built(tokenizer, variant)
    torch.use_deterministic_algorithms(True)
    try:
        (loss,) = model(batch, ("segmentation",)).values()
        loss.backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.isfinite(loss)
    missed = [name for name, part in model.named_parameters() if part.grad is None or not part.grad.any()]
    assert all(name.startswith("text_encoder.backbone.pooler") for name in missed)


def test_frozen_text_encoder_keeps_its_weights(tokenizer: PreTrainedTokenizerFast, batch: SegmentationBatch) -> None:
    settings = {"base": 8, "image_size": 32, "text_encoder": {**ENCODERS["text_encoder"], "frozen": True}}
    model = LViT(checkpoint.build(LViTConfig, settings), len(tokenizer))
    (loss,) = model(batch, ("segmentation",)).values()
    loss.backward()
    assert all(part.grad is None for part in model.text_encoder.parameters())
    assert model.text.steps[0].weight.grad.any()


def slow_convolution(features: np.ndarray, layer: nn.Conv1d) -> np.ndarray:
    """(length, width) -> (length, narrower), with nothing before the first and behind the last token."""
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    out = np.tile(bias, (len(features), 1))
    for place in range(len(features)):
        for tap in range(3):
            if 0 <= place + tap - 1 < len(features):
                out[place] += weight[:, :, tap] @ features[place + tap - 1]
    return out


def test_the_text_is_narrowed_token_by_token() -> None:
    torch.manual_seed(0)
    layer = NarrowText(6, 2).double()
    features, mask = torch.randn(2, 5, 6, dtype=torch.float64), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    found = layer(features, mask)
    for row, length in enumerate((5, 2)):
        expected = features[row, :length].numpy()
        for step in layer.steps:
            expected = slow_convolution(expected, step)
        np.testing.assert_allclose(found[row, :length].detach().numpy(), expected, rtol=1e-10)


def test_each_position_takes_its_own_mean_of_the_tokens() -> None:
    torch.manual_seed(0)
    layer = TextAtPositions(8, 3).double().eval()
    nn.init.uniform_(layer.norm.running_mean, -0.2, 0.2)
    text, mask = torch.randn(2, 4, 8, dtype=torch.float64), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    found = layer(text, mask).detach().numpy()
    attention = layer.attention
    weights = attention.in_proj_weight.detach().numpy().reshape(3, 8, 8)
    biases = attention.in_proj_bias.detach().numpy().reshape(3, 8)
    for row, length in enumerate((4, 2)):
        words = text[row, :length].numpy()
        for position in range(3):
            query = weights[0] @ layer.queries[position].detach().numpy() + biases[0]
            joined = np.zeros(8)
            for head in range(HEADS):  # of one channel each
                scores = [query[head] * (weights[1] @ word + biases[1])[head] for word in words]
                total = sum(math.exp(score) for score in scores)
                for score, word in zip(scores, words, strict=True):
                    joined[head] += math.exp(score) / total * (weights[2] @ word + biases[2])[head]
            mixed = attention.out_proj.weight.detach().numpy() @ joined + attention.out_proj.bias.detach().numpy()
            norm = layer.norm
            mixed = (mixed - norm.running_mean.numpy()) / np.sqrt(norm.running_var.numpy() + norm.eps)
            np.testing.assert_allclose(found[row, position], np.maximum(mixed, 0), rtol=1e-8, atol=1e-12)


def test_the_transformers_go_down_and_up_as_published(model: LViT, batch: SegmentationBatch) -> None:
    part = model.eval().transformer
    torch.manual_seed(0)
    x1, x2, x3, x4 = (torch.randn(5, 8 * times, 32 // times, 32 // times) for times in (1, 2, 4, 8))
    text, mask = torch.randn(5, batch.text.mask.shape[1], 8), batch.text.mask
    down, up, embed = part.down, part.up, part.embed
    y1 = down[0](embed[0](x1) + part.text(text, mask))
    y2 = torch.cat([part.halve[0](down[1](embed[1](x2))), y1], dim=2)
    y3 = torch.cat([part.halve[1](down[2](embed[2](x3))), y2], dim=2)
    y4 = torch.cat([part.halve[2](down[3](embed[3](x4))), y3], dim=2)
    z4 = up[3](y4)
    z3 = up[2](y3) + part.from_below[2](z4)
    z2 = up[1](y2) + part.from_below[1](z3)
    z1 = up[0](y1) + part.from_below[0](z2)

    def rebuilt(patches: Tensor, level: int) -> Tensor:
        """Each of the 2 x 2 patches is one value over its square of pixels."""
        _, *rest = part.reconstruct[level]
        side = 16 >> level
        squares = [patch[:, :, None, None].expand(-1, -1, side, side) for patch in patches.unbind(dim=1)]
        rows = [torch.cat(squares[:2], dim=3), torch.cat(squares[2:], dim=3)]
        return nn.Sequential(*rest)(torch.cat(rows, dim=2))

    expected = [x1 + rebuilt(z1, 0), x2 + rebuilt(z2, 1), x3 + rebuilt(z3, 2), x4 + rebuilt(z4, 3)]
    found = part([x1, x2, x3, x4], text, mask)
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_patch_embedding_is_one_square_of_pixels_and_its_position() -> None:
    torch.manual_seed(0)
    layer = PatchEmbedding(2, 4, 6).double().eval()
    assert not layer.positions.any()
    nn.init.normal_(layer.positions)
    features = torch.randn(1, 2, 8, 12, dtype=torch.float64)
    found = layer(features)[0]
    for row in range(2):
        for column in range(3):
            square = features[0, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            expected = (layer.project.weight * square).sum(dim=(1, 2, 3)) + layer.project.bias
            torch.testing.assert_close(found[3 * row + column], expected + layer.positions[3 * row + column])


def test_an_image_of_another_size_is_refused(model: LViT, batch: SegmentationBatch) -> None:
    pixels = torch.zeros(1, 3, 48, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"images of 32 x 32 pixels, and these have 48 x 32: set image_size"):
        model.logits(Images(pixels, pixels[:0], torch.zeros(0, dtype=torch.long)), batch.text)


@pytest.mark.parametrize(("setting", "value"), [("base", 12), ("image_size", 100)])
def test_settings_that_do_not_divide_are_refused(setting: str, value: int) -> None:
    settings = {"text_encoder": ENCODERS["text_encoder"], setting: value}
    with pytest.raises(ValueError, match=f"{setting} {value} must be a multiple"):
        checkpoint.build(LViTConfig, settings)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="variant 'paper' is not one of: adapted, published"):
        checkpoint.build(LViTConfig, {"text_encoder": ENCODERS["text_encoder"], "variant": "paper"})


def test_a_checkpoint_gives_the_same_answer(
    model: LViT, batch: SegmentationBatch, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    checkpoint.save(tmp_path, "lvit", model, model.state_dict(), tokenizer, {}, INPUT_FORMAT)
    again, _ = checkpoint.load(tmp_path, LViT)
    assert torch.equal(again.segment(batch.images, batch.text), model.eval().segment(batch.images, batch.text))
