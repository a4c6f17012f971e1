"""The U-Net of LViT's published code, whose parts `unet`, `lvit` and `reclmis` share.

Widths with base w, at full to 1/16 size: w, 2w, 4w, 8w, 8w.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.segmentation.pixels import check_sides

# Channels of the encoder's five levels, in units of the base width.
LEVELS = (1, 2, 4, 8, 8)


class ConvBlock(nn.Sequential):
    """Convolution 3 x 3, BatchNorm, ReLU."""

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__(nn.Conv2d(channels, wider, 3, padding=1), nn.BatchNorm2d(wider), nn.ReLU())


class PixelAttention(nn.Module):
    """PLAM, the pixel-level attention of LViT (Li et al. 2023), which RecLMIS takes over: a map that features are
    multiplied with, from the mean and the maximum over two 1 x 1 convolutions. No sigmoid bounds the map: published
    code defines one and does not call it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_mean = nn.Conv2d(channels, channels, 1, bias=False)
        self.of_maximum = nn.Conv2d(channels, channels, 1, bias=False)
        self.mix = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(batch, channels, rows, columns) -> the same shape."""
        mean = self.of_mean(features).relu().mean(dim=1, keepdim=True)
        maximum = self.of_maximum(features).relu().amax(dim=1, keepdim=True)
        return features * self.mix(torch.cat([mean, maximum, mean + maximum], dim=1))


class UNetEncoder(nn.Module):
    """One convolution, then four times: maximum of 2 x 2 and two convolutions."""

    def __init__(self, base: int) -> None:
        super().__init__()
        self.first = ConvBlock(3, base)
        widths = [base * level for level in LEVELS]
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), ConvBlock(width, wider), ConvBlock(wider, wider))
            for width, wider in pairwise(widths)
        )

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(batch, 3, height, width), sides multiples of 16 -> features at 1, 1/2, 1/4, 1/8 and 1/16 of the size."""
        check_sides("U-Net", pixels, 16, 16)
        levels = [self.first(pixels)]
        for down in self.down:
            levels.append(down(levels[-1]))
        return levels


class UpBlock(nn.Module):
    """Twice the size, beside the encoder's features of that size; two convolutions.

    Args:
        channels: Of what comes from below, and of the encoder's features.
        narrower: Of what comes out.
        learned: A transposed convolution (U-Net), or each pixel four times (LViT, RecLMIS).
        attention: Whether `PixelAttention` weighs the encoder's features.
    """

    def __init__(self, channels: int, narrower: int, *, learned: bool, attention: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2) if learned else nn.Upsample(scale_factor=2)
        self.attention = PixelAttention(channels) if attention else nn.Identity()
        self.mix = nn.Sequential(ConvBlock(2 * channels, narrower), ConvBlock(narrower, narrower))

    def forward(self, below: Tensor, beside: Tensor) -> Tensor:
        return self.mix(torch.cat([self.attention(beside), self.up(below)], dim=1))


class UNetDecoder(nn.Module):
    """Four `UpBlock`s and a 1 x 1 convolution to the logits; arguments as theirs."""

    def __init__(self, base: int, *, learned: bool, attention: bool) -> None:
        super().__init__()
        self.up = nn.ModuleList(
            UpBlock(base * level, base * max(1, level // 2), learned=learned, attention=attention)
            for level in reversed(LEVELS[:4])
        )
        self.out = nn.Conv2d(base, 1, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """What `UNetEncoder` gives, the last of it perhaps changed -> logits (batch, height, width)."""
        decoded = features[-1]
        for up, beside in zip(self.up, reversed(features[:-1]), strict=True):
            decoded = up(decoded, beside)
        return self.out(decoded).squeeze(1)
