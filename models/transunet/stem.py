"""The ResNet before the transformer: ResNet-50 without its last stage, in the form of Big Transfer (Kolesnikov et al.
2020), with standardised weights (Qiao et al. 2019) and GroupNorm.

Other than in TransUNet's published code, the maximum after the first convolution also takes the last row and column,
so that the first stage has a quarter of the image's size and nothing has to be filled up; and the shortcut's
normalisation has as many groups as the others.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32


class StandardisedConv(nn.Conv2d):
    """A convolution without bias, whose weights have mean 0 and variance 1 for each channel that comes out."""

    def __init__(self, channels: int, wider: int, side: int, stride: int = 1) -> None:
        super().__init__(channels, wider, side, stride=stride, padding=side // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) / (variance + 1e-5).sqrt()
        return F.conv2d(features, weight, stride=self.stride, padding=self.padding)


def _normed(channels: int, wider: int, side: int, stride: int = 1) -> nn.Sequential:
    """A convolution and GroupNorm of 32 groups, or of fewer where the channels are no multiple."""
    convolution = StandardisedConv(channels, wider, side, stride)
    return nn.Sequential(convolution, nn.GroupNorm(math.gcd(GROUPS, wider), wider, eps=1e-6))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 beside a shortcut; ReLU behind each, at last behind the sum.

    Args:
        channels: Of what comes in.
        narrow: Of the convolution of 3 x 3; four times as many come out.
        stride: Of the convolution of 3 x 3.
    """

    def __init__(self, channels: int, narrow: int, stride: int) -> None:
        super().__init__()
        wide = 4 * narrow
        self.convolutions = nn.Sequential(
            _normed(channels, narrow, 1),
            nn.ReLU(),
            _normed(narrow, narrow, 3, stride),
            nn.ReLU(),
            _normed(narrow, wide, 1),
        )
        self.shortcut = nn.Identity() if channels == wide else _normed(channels, wide, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        return (self.convolutions(features) + self.shortcut(features)).relu()


class ResNetStem(nn.Module):
    """Features at 1/2, 1/4, 1/8 and 1/16 of the image's size.

    Args:
        base: Channels of the first convolution; the stages have 4, 8 and 16 times as many.
        depths: Blocks of the stages.
    """

    def __init__(self, base: int, depths: Sequence[int]) -> None:
        super().__init__()
        self.root = nn.Sequential(*_normed(3, base, 7, 2), nn.ReLU())
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.stages = nn.ModuleList()
        channels = base
        for stage, depth in enumerate(depths):
            narrow = base * 2**stage
            blocks = [Bottleneck(channels, narrow, 1 if stage == 0 else 2)]
            blocks += [Bottleneck(4 * narrow, narrow, 1) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
            channels = 4 * narrow

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(batch, 3, height, width), sides multiples of 16 -> four (batch, width, rows, columns), the finest first."""
        levels = [self.root(pixels)]
        features = self.pool(levels[0])
        for stage in self.stages:
            features = stage(features)
            levels.append(features)
        return levels
