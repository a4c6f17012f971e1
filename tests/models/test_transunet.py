"""TransUNet: its ResNet, its transformer, and what each level of the decoder gets."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.transunet.config import TransUNetConfig
from models.transunet.model import TransUNet, encoder_layer
from models.transunet.stem import Bottleneck, ResNetStem, StandardisedConv
from tests.models.test_language_decoder import pictures

SMALL = {"image_size": 64, "base": 8, "depths": (1, 1, 1), "hidden_size": 16, "layers": 1, "heads": 2}


def test_weights_are_standardised_for_each_channel_that_comes_out() -> None:
    torch.manual_seed(0)
    layer = StandardisedConv(3, 2, 3, 2).double()
    features = torch.randn(1, 3, 5, 5, dtype=torch.float64)
    found = layer(features)
    assert layer.bias is None
    assert found.shape == (1, 2, 3, 3)
    for channel in range(2):
        values = layer.weight[channel].flatten().tolist()
        mean = sum(values) / 27
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 27 + 1e-5)
        kernel = (layer.weight[channel] - mean) / deviation
        # The middle of the image, where no padding is seen.
        torch.testing.assert_close(found[0, channel, 1, 1], (kernel * features[0, :, 1:4, 1:4]).sum())


def normed(features: Tensor, norm: nn.GroupNorm) -> Tensor:
    """GroupNorm by hand: mean and variance of each group of channels of each image."""
    groups = features.unflatten(1, (norm.num_groups, -1)).flatten(2)
    scaled = (groups - groups.mean(dim=2, keepdim=True)) / (groups.var(dim=2, correction=0, keepdim=True) + 1e-6).sqrt()
    return scaled.view_as(features) * norm.weight[:, None, None] + norm.bias[:, None, None]


def test_a_block_is_three_convolutions_and_a_shortcut() -> None:
    torch.manual_seed(0)
    block = Bottleneck(8, 4, 2).double()
    for part in block.modules():
        if isinstance(part, nn.GroupNorm):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
    features = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    (one, norm1), (three, norm3), (last, norm_last) = (block.convolutions[n] for n in (0, 2, 4))
    x = normed(one(features), norm1).relu()
    x = normed(three(x), norm3).relu()
    x = normed(last(x), norm_last)
    convolution, norm = block.shortcut
    torch.testing.assert_close(block(features), (x + normed(convolution(features), norm)).relu())
    assert (one.stride, three.stride, last.stride, convolution.stride) == ((1, 1), (2, 2), (1, 1), (2, 2))
    assert isinstance(Bottleneck(16, 4, 1).shortcut, nn.Identity)


def test_the_stem_halves_the_image_four_times_and_sees_its_last_row() -> None:
    torch.manual_seed(0)
    stem = ResNetStem(8, (1, 1, 1)).eval()
    with torch.no_grad():
        levels = stem(torch.zeros(1, 3, 64, 32))
        assert [level.shape[1:] for level in levels] == [(8, 32, 16), (32, 16, 8), (64, 8, 4), (128, 4, 2)]
        # By hand: the maximum of 3 x 3 behind each second position, cut where the map ends.
        root = stem.root(torch.rand(1, 3, 64, 32))
        expected = F.max_pool2d(F.pad(root, (0, 1, 0, 1), value=-math.inf), 3, stride=2)
        assert torch.equal(stem.pool(root), expected)
    with torch.device("meta"):
        groups = {part.num_groups for part in ResNetStem(64, (3, 4, 9)).modules() if isinstance(part, nn.GroupNorm)}
    assert groups == {32}


def test_a_layer_of_the_transformer_is_that_of_the_paper() -> None:
    """z' = MSA(LN(z)) + z and MLP(LN(z')) + z', with the softmax of each head by hand."""
    torch.manual_seed(0)
    layer = encoder_layer(6, 2).double().eval()
    for part in (layer.self_attn.in_proj_bias, layer.self_attn.out_proj.bias):
        nn.init.uniform_(part, -0.5, 0.5)
    z = torch.randn(1, 3, 6, dtype=torch.float64)
    found = layer(z)[0]
    weights, biases = layer.self_attn.in_proj_weight.view(3, 6, 6), layer.self_attn.in_proj_bias.view(3, 6)
    x = F.layer_norm(z[0], (6,), layer.norm1.weight, layer.norm1.bias, 1e-6)
    q, k, v = (x @ weight.T + bias for weight, bias in zip(weights, biases, strict=True))
    heads = []
    for head in (slice(0, 3), slice(3, 6)):
        score = (q[:, head] @ k[:, head].T / math.sqrt(3)).exp()
        heads.append(score / score.sum(dim=1, keepdim=True) @ v[:, head])
    z1 = z[0] + layer.self_attn.out_proj(torch.cat(heads, dim=1))
    x = F.layer_norm(z1, (6,), layer.norm2.weight, layer.norm2.bias, 1e-6)
    inner = layer.linear1(x)
    z2 = z1 + layer.linear2(inner * (1 + torch.erf(inner / math.sqrt(2))) / 2)
    torch.testing.assert_close(found, z2)
    assert layer.linear1.out_features == 24
    # What the attention gives is not dropped, in training neither.
    assert [layer.self_attn.dropout, layer.dropout1.p, layer.dropout.p, layer.dropout2.p] == [0, 0, 0.1, 0.1]


def test_every_skip_reaches_its_size_and_the_transformer_the_first() -> None:
    torch.manual_seed(0)
    model = TransUNet(TransUNetConfig(**SMALL), 20).eval()
    seen: list[tuple[int, ...]] = []
    for up in model.up:
        up.mix.register_forward_hook(lambda part, inputs, output: seen.append(tuple(inputs[0].shape[1:])))
    with torch.no_grad():
        model.logits(pictures(1), None)  # type: ignore[arg-type]
    # Widths 64, 32, 16, 8, 2 beside 64, 32, 8 and nothing.
    assert seen == [(64 + 64, 8, 8), (32 + 32, 16, 16), (16 + 8, 32, 32), (8, 64, 64)]


def test_the_transformer_tells_places_apart() -> None:
    torch.manual_seed(0)
    model = TransUNet(TransUNetConfig(**SMALL), 20).eval()
    assert not model.positions.any()
    with torch.no_grad():
        plain = model.logits(pictures(1), None)  # type: ignore[arg-type]
        model.positions[5] += torch.randn(16)
        assert not torch.allclose(model.logits(pictures(1), None), plain)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_size": 40}, "image_size 40 must be a multiple of 16, 32 or more"),
        ({"image_size": 16}, "image_size 16"),
        ({"base": 6}, "base 6 must be a multiple of 4"),
        ({"depths": (3, 4)}, r"depths \[3, 4\]: give the blocks of three stages"),
        ({"depths": (3, 0, 1)}, r"depths \[3, 0, 1\]"),
        ({"layers": 0}, "layers is 0; give 1 or more"),
        ({"heads": 5}, "hidden_size 16 must be a multiple of the 5 heads"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TransUNetConfig(**SMALL | change)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="transunet is built for images of 64 x 64 pixels, and these have 32 x 64"):
        TransUNet(TransUNetConfig(**SMALL), 20).logits(pictures(1, 32, 64), None)  # type: ignore[arg-type]
