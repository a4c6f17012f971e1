"""Grad-CAM against gradients by finite differences, and on images with a planted patch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from models.clip.model import Clip
from models.data.batches import Images, Tokenise, Tokens
from models.grad_cam import grad_cam, mask_grad_cam
from models.regionmed_clip.model import RegionMedClip
from models.segmentation.method import SegmentationMethod
from models.unet.config import UNetConfig
from models.unet.model import UNet
from tests.models.small import ENCODERS, make_model, teach_phrase
from tests.models.test_pretrained import load
from tests.tiny_clip import make_clip, make_siglip

VIT = ENCODERS["image_encoder"]
TWO_LAYERS = {**VIT["architecture"], "num_hidden_layers": 2}
CONVNEXT = {"model_type": "convnext", "hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "patch_size": 2}
RESNET = {"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
CASES: dict[str, tuple[type, dict[str, Any]]] = {
    "mean": (Clip, {"image_encoder": {**VIT, "architecture": TWO_LAYERS}}),
    "mean, patch projection": (Clip, {"image_encoder": {**VIT, "convolutional_stem": False}}),
    "first token": (
        Clip,
        {"image_encoder": {"architecture": TWO_LAYERS, "pooling": "first"}},
    ),
    "convnext": (Clip, {"image_encoder": {"architecture": CONVNEXT}}),
    "resnet": (Clip, {"image_encoder": {"architecture": RESNET}}),
    "with regions": (RegionMedClip, {"embedding": "mean"}),
}


# Families whose positions each see a part of the image of their own, at 32 pixels: 4 x 4 positions. Not those behind
# strided convolutions (ResNet, the convolutional stem): docs/methods.md.
SMALL_VIT = {**VIT["architecture"], "image_size": 32, "patch_size": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "vit, mean": {"architecture": SMALL_VIT, "pooling": "mean"},
    "vit, first token": {"architecture": {**SMALL_VIT, "num_hidden_layers": 2}, "pooling": "first"},
    "convnext": {"architecture": {**CONVNEXT, "patch_size": 4}},
    "convnext, layer scale 1": {
        "architecture": {**CONVNEXT, "patch_size": 4, "depths": [2, 2], "layer_scale_init_value": 1.0}
    },
    "convnext, four stages": {
        "architecture": {
            "model_type": "convnext",
            "hidden_sizes": [8, 8, 16, 16],
            "depths": [1, 1, 1, 1],
            "num_stages": 4,
            "patch_size": 1,
        }
    },
    "clip vision": {
        "architecture": {
            "model_type": "clip_vision_model",
            "image_size": 32,
            "patch_size": 8,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        },
        "pooling": "first",
    },
}


def build(case: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    method, changes = CASES[case]
    return make_model(tokenizer, method, **changes).double().eval()


def layer_of(model: Any, case: str) -> nn.Module:
    """Where the reference perturbs: named by hand."""
    backbone = model.image_encoder.backbone
    return backbone.layers[-1].layernorm_before if case == "first token" else backbone


def images_of(rows: int, regions: int = 0) -> Images:
    random = torch.Generator().manual_seed(1)
    pixels, crops = (
        255 * torch.rand(count, 3, 16, 16, generator=random, dtype=torch.float64) for count in (rows, regions)
    )
    return Images(pixels, crops, torch.arange(regions) % rows)


def perturbed_cosine(model: Any, layer: nn.Module, images: Images, text: Tensor, change: Tensor | None) -> tuple:
    """Cosine of the one image with the text after `change` was added to the layer's first output, and that output."""
    outputs = []

    def add(module: nn.Module, inputs: Any, output: Any) -> Any:
        found = output if isinstance(output, Tensor) else output.last_hidden_state
        outputs.append(found)
        if change is None or len(outputs) > 1:
            return None
        if isinstance(output, Tensor):
            return output + change
        output.last_hidden_state = found + change
        return output

    handle = layer.register_forward_hook(add)
    with torch.no_grad():
        cosine = (model.embed_images(images)[0] * text).sum()
    handle.remove()
    return float(cosine), outputs[0]


@pytest.mark.parametrize("case", CASES)
def test_maps_equal_finite_differences(case: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = build(case, tokenizer)
    images, tokens = images_of(1, 2 if case == "with regions" else 0), Tokenise(tokenizer, 32)(["round red"])
    text, layer = model.embed_text(tokens)[0].detach(), layer_of(model, case)
    _, features = perturbed_cosine(model, layer, images, text, None)
    gradient, step = torch.zeros_like(features), 1e-4
    for place in range(features.numel()):
        change = torch.zeros_like(features)
        change[np.unravel_index(place, change.shape)] = step
        up, down = (perturbed_cosine(model, layer, images, text, sign * change)[0] for sign in (1, -1))
        gradient[np.unravel_index(place, change.shape)] = (up - down) / (2 * step)
    # (positions, width), rows of the image one after another.
    values, slopes = (one[0].flatten(1).T if one.ndim == 4 else one[0, 1:] for one in (features, gradient))
    sums = [float(sum(slopes.mean(dim=0) * position)) for position in values]
    expected = [max(0.0, one) if max(sums) > 0 else one - min(sums) for one in sums]
    (found,) = grad_cam(model, images, tokens)
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-7)
    assert max(expected) > 1e-4
    assert found.shape[0] == found.shape[1]


def test_rows_do_not_depend_on_one_another_and_weights_may_be_frozen(tokenizer: PreTrainedTokenizerFast) -> None:
    model = build("mean", tokenizer)
    images, tokens = images_of(3), Tokenise(tokenizer, 32)(["round red", "oval blue", "flat green"])
    maps = grad_cam(model, images, tokens)
    order = torch.tensor([2, 0, 1])
    turned = grad_cam(
        model,
        Images(images.pixels[order], images.crops, images.owner),
        type(tokens)(tokens.ids[order], tokens.mask[order], tokens.words[order]),
    )
    torch.testing.assert_close(turned, maps[order])
    assert not torch.allclose(maps[0], maps[1])
    model.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(grad_cam(model, images, tokens), maps)
    assert not [hook for part in model.modules() for hook in part._forward_hooks.values()]


def test_a_method_without_an_image_model_has_no_backbone(tokenizer: PreTrainedTokenizerFast) -> None:
    model = build("mean", tokenizer)
    assert model.image_backbone is model.image_encoder.backbone
    assert UNet(UNetConfig(base=2), len(tokenizer)).image_backbone is None


@pytest.mark.parametrize("case", ["mean", "mean, patch projection", "first token", "convnext"])
def test_it_finds_the_patch_that_the_phrase_is_about(case: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = build(case, tokenizer)
    # A grey image, and the same with a patch, redder than bytes can be, at each of 16 places.
    pixels = torch.full((17, 3, 16, 16), 190.0, dtype=torch.float64)
    for place in range(16):
        y, x = place // 4 * 4, place % 4 * 4
        pixels[place, :, y : y + 4, x : x + 4] = torch.tensor([380.0, -130.0, -130.0]).view(3, 1, 1)
    images = Images(pixels, torch.zeros(0, 3, 1, 1), torch.zeros(0, dtype=torch.long))
    tokens = Tokenise(tokenizer, 32)(["round red"] * 17)
    teach_phrase(model, images, tokens)
    maps = grad_cam(model, images, tokens)[:16]
    assert maps.flatten(1).argmax(dim=1).tolist() == list(range(16))


def hits(maps: Tensor) -> float:
    """Fraction of 16 maps, of a patch at each place in turn, whose highest position is that place."""
    flat = maps.flatten(1)
    assert flat.shape == (16, 16)
    # A constant map names no place, whatever argmax says.
    named = flat.max(dim=1).values > flat.median(dim=1).values
    return float(((flat.argmax(dim=1) == torch.arange(16)) & named).double().mean())


def test_a_constant_map_names_no_place() -> None:
    assert hits(torch.zeros(16, 4, 4)) == 0
    assert hits(torch.eye(16).view(16, 4, 4)) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_it_finds_what_was_planted_in_most_seeds(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    pixels = torch.full((17, 3, 32, 32), 190.0, dtype=torch.float64)
    for place in range(16):
        y, x = place // 4 * 8, place % 4 * 8
        pixels[place, :, y : y + 8, x : x + 8] = torch.tensor([255.0, 60.0, 60.0]).view(3, 1, 1)
    images = Images(pixels, torch.zeros(0, 3, 1, 1), torch.zeros(0, dtype=torch.long))
    tokens = Tokenise(tokenizer, 32)(["round red"] * 17)
    found, blind = [], []
    for seed in range(5):
        model: Any = make_model(tokenizer, Clip, seed, image_encoder=FAMILIES[family]).double().eval()
        teach_phrase(model, images, tokens)
        maps = grad_cam(model, images, tokens)
        found.append(hits(maps[:16]))
        # Who sees the image without its patch cannot know the place.
        blind.append(hits(maps[16:].expand(16, -1, -1)))
    assert sum(one > 0.9 for one in found) >= 4, found
    assert max(blind) <= 1 / 16


def test_where_every_position_speaks_against_the_score_the_map_keeps_their_order() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]], dtype=torch.float64)
    images = Images(features, torch.zeros(0, 3, 1, 1), torch.zeros(0, dtype=torch.long))
    (found,) = mask_grad_cam(Squares([-1.0], 0.0), images, no_tokens(1))
    # No pixel is predicted, so all are asked: alpha = -2 (1 + 2 + 3 + 4) / 4 / 4 = -1.25; sums -1.25, ..., -5.
    assert found.tolist() == [[3.75, 2.5], [1.25, 0.0]]


@pytest.mark.parametrize("make", [make_clip, make_siglip])
def test_maps_of_pretrained_checkpoints_equal_their_last_block_put_together_again(make: Any, tmp_path: Path) -> None:
    make(tmp_path)
    model, tokenizer = load(tmp_path)
    images, tokens = images_of(2), Tokenise(tokenizer, 20, normalises=False)(["a red", "green"])
    images = Images(images.pixels.to(torch.uint8), images.crops.to(torch.uint8), images.owner)
    captured: list[Any] = []
    handle = model.model.vision_model.register_forward_pre_hook(
        lambda module, inputs, values: captured.append(values["pixel_values"]), with_kwargs=True
    )
    found = grad_cam(model, images, tokens)
    handle.remove()
    vision = model.model.vision_model
    hidden = vision(pixel_values=captured[0], output_hidden_states=True).hidden_states
    if make is make_clip:
        block = vision.encoder.layers[-1]
        features = block.layer_norm1(hidden[-2]).detach().requires_grad_()
        tokens_after = hidden[-2] + block.self_attn(features)[0]
        tokens_after = tokens_after + block.mlp(block.layer_norm2(tokens_after))
        embeddings = model.model.visual_projection(vision.post_layernorm(tokens_after[:, 0]))
        patches = slice(1, None)
    else:
        features = vision.post_layernorm(hidden[-1]).detach().requires_grad_()
        embeddings = vision.head(features)
        patches = slice(0, None)
    cosines = torch.nn.functional.cosine_similarity(embeddings, model.embed_text(tokens).detach())
    (gradient,) = torch.autograd.grad(cosines.sum(), features)
    weights = gradient[:, patches].mean(dim=1, keepdim=True)
    expected = (weights * features[:, patches]).sum(dim=-1).clamp(min=0).detach()
    torch.testing.assert_close(found.flatten(1), expected, atol=1e-6, rtol=1e-4)
    assert expected.max() > 1e-4


class Squares(SegmentationMethod):
    """Logits that are easy to differentiate by hand: sum_k w_k A_k^2 - shift, each position as 2 x 2 pixels."""

    reads_text = False

    def __init__(self, weights: list[float], shift: float) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.shift = shift

    @property
    def first_decoder(self) -> nn.Module:
        return self.features

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        squares = self.features(images.pixels) ** 2
        coarse = (self.weights.view(1, -1, 1, 1) * squares).sum(dim=1) - self.shift
        return coarse.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)


def no_tokens(rows: int) -> Tokens:
    return Tokens(*(torch.ones(rows, 1, dtype=torch.long) for _ in range(3)))


@pytest.mark.parametrize("shift", [0.3, 100.0])
def test_maps_of_masks_equal_the_equations_by_loops(shift: float) -> None:
    weights = [1.0, -0.5, 0.25]
    random = torch.Generator().manual_seed(1)
    features = torch.randn(2, 3, 2, 3, generator=random, dtype=torch.float64)
    images = Images(features, torch.zeros(0, 3, 1, 1), torch.zeros(0, dtype=torch.long))
    maps = mask_grad_cam(Squares(weights, shift), images, no_tokens(2))
    assert maps.shape == (2, 2, 3)
    places = [(y, x) for y in range(2) for x in range(3)]
    for values, found in zip(features.tolist(), maps.tolist(), strict=True):
        logits = {(y, x): sum(w * values[k][y][x] ** 2 for k, w in enumerate(weights)) - shift for y, x in places}
        asked = [place for place in places if logits[place] > 0] or places
        assert (len(asked) == len(places)) == (shift > 1)
        alpha = [
            sum(2 * w * values[k][y][x] / len(asked) for y, x in asked) / len(places) for k, w in enumerate(weights)
        ]
        for y, x in places:
            expected = max(0.0, sum(alpha[k] * values[k][y][x] for k in range(3)))
            assert found[y][x] == pytest.approx(expected, abs=1e-12)
    assert maps.max() > 1e-3


def test_maps_of_masks_of_a_real_method() -> None:
    torch.manual_seed(0)
    model = UNet(UNetConfig(base=4), 9).eval()
    images = images_of(3)
    maps = mask_grad_cam(model, images, no_tokens(3))
    order = torch.tensor([2, 0, 1])
    turned = mask_grad_cam(model, Images(images.pixels[order], images.crops, images.owner), no_tokens(3))
    torch.testing.assert_close(turned, maps[order])
    assert maps.shape == (3, 2, 2)
    assert maps.min() >= 0
    assert maps.max() > 0
    model.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(mask_grad_cam(model, images, no_tokens(3)), maps)
    assert not [hook for part in model.modules() for hook in part._forward_hooks.values()]
