"""nnU-Net: what is planned from the image's size, and its loss at several sizes."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedTokenizerFast

from models import checkpoint
from models.data.batches import Images
from models.nnunet.config import NnUNetConfig, halvings
from models.nnunet.model import NnUNet
from models.segmentation.batches import SegmentationBatch
from tests.models.test_language_decoder import pictures
from tests.shards import INPUT_FORMAT


@pytest.fixture(scope="module")
def model() -> NnUNet:
    torch.manual_seed(0)
    return NnUNet(NnUNetConfig(image_size=64, base=4), 20)


@pytest.mark.parametrize(
    ("side", "count"),
    # 224, 112, 56, 28, 14, 7; 64, 32, 16, 8, 4; 96, 48, 24, 12, 6; 100, 50, 25, 13, 7; 7 stays.
    [(224, 5), (64, 4), (96, 4), (100, 4), (512, 7), (16, 2), (7, 0)],
)
def test_images_are_halved_until_less_than_eight_pixels_are_left(side: int, count: int) -> None:
    assert halvings(side) == count


def test_channels_double_up_to_512_and_the_lowest_size_of_the_decoder_has_no_loss() -> None:
    with torch.device("meta"):
        model = NnUNet(NnUNetConfig(image_size=224), 20)
    network = model.network
    convolutions = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
    assert {part.kernel_size for part in convolutions} == {(3, 3), (1, 1)}
    stages = [network.input_block, *network.downsamples, network.bottleneck]
    first = [next(part for part in stage.modules() if isinstance(part, nn.Conv2d)) for stage in stages]
    assert [part.out_channels for part in first] == [32, 64, 128, 256, 512, 512]
    assert [part.stride for part in first] == [(1, 1), *[(2, 2)] * 5]
    # Full size, 1/2, 1/4 and 1/8; the decoder begins at 1/16.
    assert [head.in_channels for head in (network.output_block.conv.conv, *model.heads)] == [32, 64, 128, 256]


def test_a_level_is_convolution_instance_norm_and_leaky_relu(model: NnUNet) -> None:
    torch.manual_seed(1)
    block, x = model.network.downsamples[0], torch.randn(2, 4, 8, 8)
    for norm in (block.norm1, block.norm2):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
    found = block(x)
    for convolution, norm, stride in ((block.conv1, block.norm1, 2), (block.conv2, block.norm2, 1)):
        x = F.conv2d(x, convolution.conv.weight, stride=stride, padding=1)
        mean, variance = x.mean(dim=(2, 3), keepdim=True), x.var(dim=(2, 3), correction=0, keepdim=True)
        x = (x - mean) / (variance + 1e-5).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
        x = torch.where(x > 0, x, 0.01 * x)
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_loss_is_the_mean_over_sizes_whose_weights_halve(model: NnUNet) -> None:
    """With heads that give the same logit everywhere, Dice and cross-entropy follow from counts of pixels."""
    model.train()
    logits = (0.5, -1.0, 2.0)
    for head, logit in zip((model.network.output_block.conv.conv, *model.heads), logits, strict=True):
        head.weight.zero_()
        head.bias.fill_(logit)
    target = torch.zeros(2, 64, 64, dtype=torch.bool)
    target[0, :32] = True
    target[0, 33, 1] = True  # at full size alone: the others read every second and every fourth pixel
    expected = 0.0
    for level, (logit, counts) in enumerate(zip(logits, ((2049, 0), (512, 0), (128, 0)), strict=True)):
        p, pixels = 1 / (1 + math.exp(-logit)), (64 >> level) ** 2
        dice = [1 - (2 * p * count + 1) / (p * pixels + count + 1) for count in counts]
        entropy = [-(count * math.log(p) + (pixels - count) * math.log(1 - p)) / pixels for count in counts]
        expected += 0.5**level * (sum(dice) + sum(entropy)) / 2
    batch = SegmentationBatch(keys=["a", "b"], images=pictures(2), text=None, target=target)  # type: ignore[arg-type]
    found = model(batch, model.losses)
    assert float(found["segmentation"]) == pytest.approx(expected / 1.75, rel=1e-5)


def test_a_checkpoint_gives_the_same_answer(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """MONAI's network has every layer twice, and safetensors refuses tensors that share their memory."""
    torch.manual_seed(0)
    model = NnUNet(NnUNetConfig(image_size=16, base=4), len(tokenizer)).eval()
    checkpoint.save(tmp_path, "nnunet", model, model.state_dict(), tokenizer, {}, INPUT_FORMAT)
    again, _ = checkpoint.load(tmp_path, NnUNet)
    images = pictures(2, 16, 16)
    with torch.no_grad():
        assert torch.equal(again.segment(images, None), model.segment(images, None))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("side", "says"),
    [(100, "halves it 4 times; choose a multiple of 16"), (8, "multiple of 4, 16 or more"), (18, "multiple of 4")],
)
def test_a_size_that_cannot_be_halved_is_refused(side: int, says: str) -> None:
    with pytest.raises(ValueError, match=f"image_size {side}: nnunet .*{says}"):
        NnUNetConfig(image_size=side)


def test_images_of_another_size_are_refused(model: NnUNet) -> None:
    images: Images = pictures(1, 32, 32)
    with pytest.raises(ValueError, match=r"nnunet is built for images of 64 x 64 pixels, and these have 32 x 32: set"):
        model.logits(images, None)  # type: ignore[arg-type]
