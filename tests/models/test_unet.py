"""The U-Net that methods share, against convolutions written as loops over its weights."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.segmentation.blocks import ConvBlock, PixelAttention, UNetDecoder, UNetEncoder, UpBlock
from models.unet.config import UNetConfig
from models.unet.model import UNet


def as_array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def slow_conv(found: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    """(channels, rows, columns), one output value at a time."""
    weight, margin = as_array(layer.weight), layer.padding[0]
    side = weight.shape[-1]
    padded = np.pad(found, ((0, 0), (margin, margin), (margin, margin)))
    out = np.zeros((len(weight), *found.shape[1:]))
    for k in range(len(weight)):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                out[k, y, x] = (padded[:, y : y + side, x : x + side] * weight[k]).sum()
    return out if layer.bias is None else out + as_array(layer.bias)[:, None, None]


def slow_block(found: np.ndarray, block: ConvBlock) -> np.ndarray:
    conv, norm, _ = block
    found = slow_conv(found, conv)
    for k in range(len(found)):
        centred = (found[k] - norm.running_mean[k].item()) / (norm.running_var[k].item() + norm.eps) ** 0.5
        found[k] = centred * norm.weight[k].item() + norm.bias[k].item()
    return np.maximum(found, 0)


def slow_plam(found: np.ndarray, layer: PixelAttention) -> np.ndarray:
    """Map x features: two fully connected layers over (mean, maximum, their sum) at each pixel."""
    mean = np.maximum(slow_conv(found, layer.of_mean), 0).mean(axis=0)
    maximum = np.maximum(slow_conv(found, layer.of_maximum), 0).max(axis=0)
    first, _, second = layer.mix
    out = np.zeros_like(found)
    for y, x in np.ndindex(mean.shape):
        three = np.array([mean[y, x], maximum[y, x], mean[y, x] + maximum[y, x]])
        hidden = np.maximum(as_array(first.weight)[:, :, 0, 0] @ three + as_array(first.bias), 0)
        score = as_array(second.weight)[0, :, 0, 0] @ hidden + second.bias.item()
        out[:, y, x] = found[:, y, x] * score
    return out


def slow_up(found: np.ndarray, layer: nn.Module) -> np.ndarray:
    channels, rows, columns = found.shape
    out = np.zeros((channels, 2 * rows, 2 * columns))
    for y, x, down, right in np.ndindex(rows, columns, 2, 2):
        if isinstance(layer, nn.ConvTranspose2d):
            spread = as_array(layer.weight)[:, :, down, right].T @ found[:, y, x] + as_array(layer.bias)
        else:
            spread = found[:, y, x]
        out[:, 2 * y + down, 2 * x + right] = spread
    return out


def slow_unet(picture: np.ndarray, encoder: UNetEncoder, decoder: UNetDecoder) -> np.ndarray:
    levels = [slow_block(picture, encoder.first)]
    for pool, first, second in encoder.down:
        assert isinstance(pool, nn.MaxPool2d)
        above = levels[-1]
        half = np.zeros((len(above), above.shape[1] // 2, above.shape[2] // 2))
        for k, y, x in np.ndindex(half.shape):
            half[k, y, x] = above[k, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].max()
        levels.append(slow_block(slow_block(half, first), second))
    found = levels.pop()
    for up in decoder.up:
        beside = levels.pop()
        if isinstance(up.attention, PixelAttention):
            beside = slow_plam(beside, up.attention)
        found = np.concatenate([beside, slow_up(found, up.up)])
        for block in up.mix:
            found = slow_block(found, block)
    return slow_conv(found, decoder.out)[0]


def randomised(module: nn.Module) -> nn.Module:
    """In evaluation mode, with statistics and weights of BatchNorm that do something."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, 0.0, 0.5)
    return module.double().eval()


@pytest.mark.parametrize(("learned", "attention"), [(True, False), (False, True)])
def test_the_network_is_its_convolutions(learned: bool, attention: bool) -> None:
    encoder = randomised(UNetEncoder(2))
    decoder = randomised(UNetDecoder(2, learned=learned, attention=attention))
    picture = torch.rand(1, 3, 16, 32, dtype=torch.float64)
    expected = slow_unet(as_array(picture[0]), encoder, decoder)
    assert expected.std() > 1e-4
    np.testing.assert_allclose(as_array(decoder(encoder(picture)))[0], expected, rtol=1e-9, atol=1e-12)


def test_pixel_attention_is_the_formula_and_has_no_bound() -> None:
    layer = randomised(PixelAttention(4))
    features = 100 * torch.randn(1, 4, 3, 5, dtype=torch.float64)
    found = layer(features)
    np.testing.assert_allclose(as_array(found)[0], slow_plam(as_array(features[0]), layer), rtol=1e-9)
    assert (found / features).abs().max() > 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: (PixelAttention(3), [(2, 3, 2, 2)]),
        lambda: (UpBlock(3, 2, learned=True, attention=True), [(2, 3, 1, 2), (2, 3, 2, 4)]),
        lambda: (UpBlock(3, 2, learned=False, attention=False), [(2, 3, 1, 2), (2, 3, 2, 4)]),
    ],
)
def test_gradients(make: Callable[[], tuple[nn.Module, list[tuple[int, ...]]]]) -> None:
    torch.manual_seed(0)
    module, shapes = make()
    leaves = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(module.double().eval(), leaves)


def small() -> tuple[UNet, Images, Tokens]:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    ids = torch.tensor([[2, 7, 3], [2, 8, 3], [2, 9, 3]])
    images = Images(pixels, pixels[:0], torch.zeros(0, dtype=torch.long))
    return UNet(UNetConfig(base=4), 20), images, Tokens(ids, torch.ones_like(ids), torch.zeros_like(ids))


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = UNet(UNetConfig(), 0)
    assert sum(part.numel() for part in model.parameters()) == 14_751_873


def test_masks_depend_on_their_own_image_alone() -> None:
    model, images, tokens = small()
    model.eval()
    found = model.segment(images, tokens)
    assert found.shape == (3, 32, 32)
    assert 0 <= found.min() < found.max() <= 1
    others = Tokens(tokens.ids.flip(0), tokens.mask, tokens.words)
    assert torch.equal(model.segment(images, others), found)
    flipped = Images(images.pixels.flip(0), images.crops, images.owner)
    torch.testing.assert_close(model.segment(flipped, tokens), found.flip(0))


def test_training_reaches_every_weight() -> None:
    model, images, tokens = small()
    model.logits(images, tokens).square().mean().backward()
    assert [name for name, part in model.named_parameters() if part.grad is None or not part.grad.any()] == []


def test_grad_cam_finds_the_first_decoder() -> None:
    model, images, tokens = small()
    shapes = []
    model.first_decoder.register_forward_hook(lambda part, inputs, output: shapes.append(tuple(output.shape)))
    model.eval().logits(images, tokens)
    assert shapes == [(3, 16, 4, 4)]
