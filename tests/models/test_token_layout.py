"""Every declared family of image models: its patches are where the layout says they are."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedTokenizerFast
from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

from models.clip.model import Clip
from models.data.batches import Images, Tokenise
from models.encoders import EncoderConfig, ImageEncoder
from models.grad_cam import grad_cam
from models.token_layout import LAYOUTS, as_grid
from tests.models.small import make_model, teach_phrase

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VIT = {"image_size": 32, "patch_size": 8, **SMALL}
DINOV2 = {"image_size": 32, "patch_size": 8, **SMALL, "mlp_ratio": 2}
del DINOV2["intermediate_size"]
SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
CONVNEXT = {"patch_size": 4, "num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1]}
PVT = {
    "image_size": 32,
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "hidden_sizes": [8, 16],
    "num_attention_heads": [1, 2],
    "mlp_ratios": [2, 2],
}
# Each with 4 x 4 patches of 8 pixels at 32 pixels.
FAMILIES: dict[str, dict[str, Any]] = {
    "vit": VIT,
    "deit": VIT,
    "clip_vision_model": VIT,
    "siglip_vision_model": VIT,
    "siglip2_vision_model": {"num_patches": 16, "patch_size": 8, **SMALL},
    "dinov2": DINOV2,
    "dinov2_with_registers": {**DINOV2, "num_register_tokens": 4},
    # 16 patches and 9 tokens before them are a square, too: no size tells them apart.
    "dinov3_vit": {**VIT, "num_register_tokens": 8},
    "dinov3_convnext": {"hidden_sizes": [8, 16], "depths": [1, 1]},
    "swin": SWIN,
    "swinv2": SWIN,
    "convnext": CONVNEXT,
    "convnextv2": CONVNEXT,
    "resnet": {"embedding_size": 4, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    "efficientnet": {
        "kernel_sizes": [3, 3],
        "in_channels": [32, 32],
        "out_channels": [32, 64],
        "depthwise_padding": [],
        "strides": [2, 2],
        "num_block_repeats": [1, 1],
        "expand_ratios": [1, 2],
        "width_coefficient": 0.25,
        "depth_coefficient": 1.0,
        "hidden_dim": 320,
    },
    "pvt": {**PVT, "patch_sizes": [4, 2], "strides": [4, 2], "sequence_reduction_ratios": [2, 1]},
    "pvt_v2": {**PVT, "patch_sizes": [7, 3], "strides": [4, 2], "sr_ratios": [2, 1]},
}
# Class and register tokens.
PREFIX = {
    "vit": 1,
    "deit": 2,
    "clip_vision_model": 1,
    "dinov2": 1,
    "dinov2_with_registers": 5,
    "dinov3_vit": 9,
    "pvt": 1,
}
PREFIX |= {"dinov3_convnext": 1}


def encoder_of(family: str, seed: int = 0, **settings: Any) -> ImageEncoder:
    torch.manual_seed(seed)
    return ImageEncoder(EncoderConfig(architecture={"model_type": family, **FAMILIES[family]}, **settings)).eval()


def planted(family: str, pattern: Tensor, background: Tensor) -> Tensor:
    """17 images of 32 pixels: the background with the pattern around the centre of each position in turn, and alone."""
    centre = LAYOUTS[family].centre
    pixels = background.expand(17, 3, 32, 32).clone()
    for place in range(16):
        y, x = (int(8 * (number + centre)) - 4 for number in divmod(place, 4))
        window = (..., slice(max(0, y), y + 8), slice(max(0, x), x + 8))
        pixels[place][window] = pattern.expand(3, 32, 32)[window]
    return pixels


def noise(seed: int, rows: int = 1) -> Tensor:
    return 255 * torch.rand(rows, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def right(maps: list[Tensor]) -> float:
    """Fraction of 16 images whose own position is highest in the mean over seeds of maps (16, 16), each of sum 1."""
    mean = torch.stack([one / one.sum(dim=1, keepdim=True).clamp(min=1e-12) for one in maps]).mean(dim=0)
    return float((mean.argmax(dim=1) == torch.arange(16)).double().mean())


def test_every_family_is_tested() -> None:
    assert FAMILIES.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_planted_in_a_cell_moves_the_feature_of_that_cell(family: str) -> None:
    moved = []
    for seed in range(20):
        given = planted(family, noise(100 + seed)[0], noise(seed)[0])
        with torch.no_grad():
            whole, patches = encoder_of(family, seed)(given)
        assert patches.shape[1] == 16
        assert whole.shape == (17, patches.shape[2])
        moved.append((patches[:16] - patches[16:]).norm(dim=-1))
    assert right(moved) == 1
    # Read one position late, as a class token too many or too few would.
    assert right([one.roll(1, dims=1) for one in moved]) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_patches_are_the_last_of_its_tokens(family: str) -> None:
    encoder = encoder_of(family)
    with torch.no_grad():
        given = noise(0, rows=2)
        _, patches = encoder(given)
        if family == "siglip2_vision_model":
            return
        values = given / 127.5 - 1
        options = {} if family.startswith(("dino", "conv", "res", "eff", "pvt")) else {"interpolate_pos_encoding": True}
        hidden = encoder.backbone(pixel_values=values, **options).last_hidden_state
    if hidden.ndim == 4:
        assert family not in PREFIX
        for y in range(4):
            for x in range(4):
                torch.testing.assert_close(patches[:, 4 * y + x], hidden[:, :, y, x])
    else:
        assert hidden.shape[1] - 16 == PREFIX.get(family, 0)
        torch.testing.assert_close(patches, hidden[:, -16:], rtol=1e-4, atol=1e-4)


def test_siglip_2_gets_the_patches_that_its_own_processor_makes() -> None:
    encoder = encoder_of("siglip2_vision_model")
    values = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 255
    theirs = np.stack([convert_image_to_patches((one / 127.5 - 1).numpy(), 8) for one in values])
    with torch.no_grad():
        expected = encoder.backbone(
            pixel_values=torch.tensor(theirs),
            pixel_attention_mask=torch.ones(2, 16, dtype=torch.long),
            spatial_shapes=torch.tensor([[4, 4], [4, 4]]),
        )
        whole, patches = encoder(values)
    torch.testing.assert_close(patches, expected.last_hidden_state)
    torch.testing.assert_close(whole, expected.pooler_output)


# At random weights; why, is not known (docs/methods.md).
MISSES = {"siglip_vision_model", "efficientnet"}


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - MISSES))
def test_grad_cam_finds_what_is_planted(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    red = torch.tensor([255.0, 60.0, 60.0]).view(3, 1, 1)
    pixels = planted(family, red, torch.tensor(190.0)).double()
    images = Images(pixels, torch.zeros(0, 3, 1, 1), torch.zeros(0, dtype=torch.long))
    tokens = Tokenise(tokenizer, 32)(["round red"] * 17)
    found = []
    for seed in range(10):
        architecture = {"model_type": family, **FAMILIES[family]}
        model: Any = make_model(tokenizer, Clip, seed, image_encoder={"architecture": architecture}).double().eval()
        teach_phrase(model, images, tokens)
        maps = grad_cam(model, images, tokens)
        assert maps.shape == (17, 4, 4)
        found.append(maps[:16].flatten(1))
    assert right(found) == 1


@pytest.mark.parametrize("family", ["dinov2", "siglip_vision_model", "clip_vision_model", "convnext", "dinov3_vit"])
def test_what_stands_for_the_whole_is_the_familys_own(family: str) -> None:
    encoder = encoder_of(family)
    with torch.no_grad():
        given = noise(0, rows=2)
        whole, patches = encoder(given)
        options = {"interpolate_pos_encoding": True} if family.endswith("vision_model") else {}
        output = encoder.backbone(pixel_values=given / 127.5 - 1, **options)
    # ConvNeXt's own is normalised once more, by a layer for its classifier.
    expected = patches.mean(dim=1) if family == "convnext" else output.pooler_output
    torch.testing.assert_close(whole, expected)


@pytest.mark.parametrize(
    ("family", "pooling", "choices"),
    [
        ("convnext", "first", "mean, max"),
        ("siglip_vision_model", "first", "head, mean, max"),
        ("dinov2", "head", "first, mean, max"),
    ],
)
def test_a_pooling_that_the_family_has_not_is_refused(family: str, pooling: str, choices: str) -> None:
    with pytest.raises(ValueError, match=f"pooling {pooling}: {family} has none; choose {choices}$"):
        encoder_of(family, pooling=pooling)


def test_a_family_that_is_not_declared_is_refused_with_the_list() -> None:
    architecture = {"model_type": "beit", "image_size": 32, "patch_size": 8, **SMALL}
    with pytest.raises(ValueError, match=r"model_type beit: .* known of these alone: vit, deit, .*, pvt_v2$"):
        ImageEncoder(EncoderConfig(architecture=architecture))


def test_images_of_which_a_part_would_not_be_seen_are_refused() -> None:
    with pytest.raises(ValueError, match="of 30 pixels: dinov2 of patch_size 8 would not see the last 6; choose 24"):
        encoder_of("dinov2")(torch.zeros(1, 3, 30, 30))
    with pytest.raises(ValueError, match="images of 64 pixels: pvt of image_size 32 takes no others"):
        encoder_of("pvt")(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"pvt"}))
def test_other_sizes_of_images_have_their_own_grid(family: str) -> None:
    with torch.no_grad():
        _, patches = encoder_of(family)(torch.rand(1, 3, 64, 64) * 255)
    assert as_grid(patches).shape[1:3] == (8, 8)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_backbone_is_the_one_of_transformers(family: str) -> None:
    encoder = encoder_of(family)
    assert type(encoder.backbone) is AutoModel._model_mapping[type(encoder.backbone.config)]
