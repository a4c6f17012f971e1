"""The U-shaped transformer of LViT (Li et al. 2023): one ViT of one layer a level, down and up again.

All levels see the image in patches of 16 pixels: at half the size the patch has half the side.

Shapes in comments: B batch, C channels, P patches, G x G the grid of patches.
"""

import torch
from torch import Tensor, nn

from models.lvit.text import HEADS, TextAtPositions, WordsAtPositions
from models.lvit.variants import LvitVariant
from models.segmentation.blocks import LEVELS

PATCH_SIZE = 16
DROPOUT = 0.1


class PatchEmbedding(nn.Module):
    """Patches of a feature map and their learned positions, which start at 0."""

    def __init__(self, channels: int, patch_size: int, positions: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, channels, patch_size, stride=patch_size)
        self.positions = nn.Parameter(torch.zeros(positions, channels))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, channels, rows, columns) -> (batch, positions, channels), by rows."""
        # (B, C, G, G) -> (B, C, P) -> (B, P, C)
        return self.dropout(self.project(features).flatten(2).transpose(1, 2) + self.positions)


class PatchConv(nn.Module):
    """Convolution over three neighbouring patches in the order of rows, BatchNorm, ReLU."""

    def __init__(self, channels: int, changed: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv1d(channels, changed, 3, padding=1), nn.BatchNorm1d(changed), nn.ReLU())

    def forward(self, patches: Tensor) -> Tensor:
        """(batch, positions, channels) -> (batch, positions, changed)."""
        return self.block(patches.transpose(1, 2)).transpose(1, 2)  # Conv1d takes (B, C, P)


class ViTLayer(nn.Module):
    """A layer of ViT; only what the MLP computes is dropped, as published.

    Args:
        width: Of the patches.
        gelu_twice: See `LvitVariant`.
    """

    def __init__(self, width: int, *, gelu_twice: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Linear(4 * width, width),
            nn.GELU() if gelu_twice else nn.Identity(),
            nn.Dropout(DROPOUT),
        )

    def forward(self, patches: Tensor) -> Tensor:
        """(batch, positions, width) -> the same shape."""
        normed = self.norm1(patches)
        patches = patches + self.attention(normed, normed, normed, need_weights=False)[0]
        return patches + self.mlp(self.norm2(patches))


class UShapedTransformer(nn.Module):
    """Four ViTs down, four up, and what they add to the features of the U-Net.

    Args:
        base: Channels at full size.
        grid: Patches along a side of the image.
        differences: Of the variant.
    """

    def __init__(self, base: int, grid: int, differences: LvitVariant) -> None:
        super().__init__()

        def layers() -> nn.ModuleList:
            return nn.ModuleList(ViTLayer(width, gelu_twice=differences.gelu_twice) for width in widths)

        self.grid = grid
        widths = [base * level for level in LEVELS[:4]]
        sides = [PATCH_SIZE >> level for level in range(4)]
        sized = list(zip(widths, sides, strict=True))
        self.embed = nn.ModuleList(PatchEmbedding(width, side, grid * grid) for width, side in sized)
        positions = grid * grid
        self.text = WordsAtPositions(positions) if differences.reads_ten_words else TextAtPositions(base, positions)
        self.down = layers()
        self.halve = nn.ModuleList(PatchConv(width, width // 2) for width in widths[1:])
        self.up = layers()
        self.from_below = nn.ModuleList(PatchConv(2 * width, width) for width in widths[:-1])
        self.reconstruct = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=side), nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU())
            for width, side in sized
        )

    def forward(self, features: list[Tensor], text: Tensor, mask: Tensor) -> list[Tensor]:
        """Change the U-Net's features.

        Args:
            features: The first four levels, (batch, channels, rows, columns).
            text: (batch, length, base).
            mask: (batch, length), 0 on padding.

        Returns:
            As `features`.
        """
        patches = [embed(level) for embed, level in zip(self.embed, features, strict=True)]
        # The text enters at the first level alone, and reaches the others through its output.
        levels = [self.down[0](patches[0] + self.text(text, mask))]
        for layer, halve, entering in zip(self.down[1:], self.halve, patches[1:], strict=True):
            levels.append(torch.cat([halve(layer(entering)), levels[-1]], dim=2))
        levels = [layer(level) for layer, level in zip(self.up, levels, strict=True)]
        for level in (2, 1, 0):
            levels[level] = levels[level] + self.from_below[level](levels[level + 1])
        # (B, P, C) -> (B, C, P) -> (B, C, G, G)
        return [
            beside + reconstruct(level.transpose(1, 2).unflatten(2, (self.grid, self.grid)))
            for beside, reconstruct, level in zip(features, self.reconstruct, levels, strict=True)
        ]
