"""How the words reach the image's features, from the equations of the paper (Yang et al. 2022), and its decoder.

Where paper and published code differ, this is as the code: GELU in the place of ReLU behind the convolutions omega_im
and omega_io, and a LayerNorm of what the decoder gets. Convolutions of 1 x 1 are linear layers here. Padding has no
weight at all; the code subtracts 10,000 from its scores.

Shapes in comments: B batch, P positions, L words, C width of the stage.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.segmentation.convolution import NormedConv


def normed_over_positions(features: Tensor) -> Tensor:
    """(batch, positions, width) -> the same shape; each feature of an image with mean 0 and deviation 1 (InstanceNorm).

    Raises:
        ValueError: There is one position alone.
    """
    return F.instance_norm(features.transpose(1, 2)).transpose(1, 2)


class PixelWordAttention(nn.Module):
    """PWAM, the pixel-word attention module.

    Args:
        width: Of the image's features, C_i.
        text_width: Of the words, C_t.
    """

    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(text_width, width)
        self.value = nn.Linear(text_width, width)
        self.attended = nn.Linear(width, width)
        self.visual = nn.Sequential(nn.Linear(width, width), nn.GELU())
        self.mixed = nn.Sequential(nn.Linear(width, width), nn.GELU())

    def forward(self, features: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Image and words together, position by position.

        Args:
            features: V, (batch, positions, width).
            words: L, (batch, length, text width).
            mask: (batch, length), 0 on padding.

        Returns:
            F, (batch, positions, width).
        """
        query = normed_over_positions(self.query(features))  # (B, P, C)
        # softmax(Q K^T / sqrt(C)) V over the words, (B, P, L) and (B, L, C) -> (B, P, C)
        attended = F.scaled_dot_product_attention(
            query, self.key(words), self.value(words), attn_mask=mask.bool().unsqueeze(1)
        )
        return self.mixed(self.visual(features) * normed_over_positions(self.attended(attended)))


class LanguageGate(nn.Module):
    """How much of PWAM's output enters the next stage, for each feature of each position.

    Args:
        width: Of the features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, width, bias=False)
        self.second = nn.Linear(width, width, bias=False)
        # So that little passes at first; the published code sets these weights to 0 and then overwrites them so.
        for layer in (self.first, self.second):
            nn.init.trunc_normal_(layer.weight, std=0.02)

    def forward(self, features: Tensor, fused: Tensor) -> Tensor:
        """V and F, each (batch, positions, width) -> E, what the next stage gets."""
        return features + self.second(self.first(fused).relu()).tanh() * fused


class TopDownDecoder(nn.Module):
    """The light decoder: from the coarsest features up, beside those of the next size.

    Args:
        widths: Of the features, the finest first.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        hidden = widths[-1] // 2
        below = [widths[-1], *[hidden] * (len(widths) - 2)]
        self.blocks = nn.ModuleList(
            nn.Sequential(NormedConv(wide + beside, hidden), NormedConv(hidden, hidden))
            for wide, beside in zip(below, widths[-2::-1], strict=True)
        )
        self.out = nn.Conv2d(hidden, 1, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Features (batch, width, rows, columns), the finest first -> logits (batch, rows, columns) of the finest."""
        *besides, decoded = levels
        for block, beside in zip(self.blocks, reversed(besides), strict=True):
            decoded = block(torch.cat([enlarged(decoded, *beside.shape[2:]), beside], dim=1))
        return self.out(decoded).squeeze(1)


def enlarged(features: Tensor, rows: int, columns: int) -> Tensor:
    """(batch, width, ...) -> (batch, width, rows, columns), bilinear, corners on corners as published."""
    return F.interpolate(features, (rows, columns), mode="bilinear", align_corners=True)
