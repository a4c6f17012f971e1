"""The decoder of Ariadne (Zhong et al. 2023), whose shape TMCA (papers 002 and 004) takes over.

From its description. Other than in Ariadne's published code, words that are padding are masked, so no convolution over
the positions of the words (its Conv1d from 24 words to 24, 12 and 9) stands before the attention, and the positional
embedding of the image is two-dimensional, half of the features for the row and half for the column, so that an image of
another size keeps its rows and columns.

Shapes in comments: B batch, D width, R x C rows and columns, L words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# A block's input features, the mean of the words projected to their width and the block's output -> the next input.
Enhancement = Callable[[Tensor, Tensor, Tensor], Tensor]


def sinusoids(count: int, width: int, *, like: Tensor) -> Tensor:
    """Positional embedding (Vaswani et al. 2017): (count, width), sines before cosines; `width` is even.

    Frequencies fall from 1 by the geometric series to 1/10000; `like` gives type and device.
    """
    frequency = 10000 ** (-torch.arange(0, width, 2, device=like.device) / width)
    angle = torch.arange(count, device=like.device).unsqueeze(1) * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(like.dtype)


def grid_sinusoids(rows: int, columns: int, width: int, *, like: Tensor) -> Tensor:
    """(rows * columns, width), by rows: the embedding of the row before that of the column."""
    row = sinusoids(rows, width // 2, like=like).unsqueeze(1).expand(-1, columns, -1)
    column = sinusoids(columns, width // 2, like=like).unsqueeze(0).expand(rows, -1, -1)
    return torch.cat([row, column], dim=2).flatten(0, 1)


def mean_of_words(words: Tensor, mask: Tensor) -> Tensor:
    """(texts, length, width) -> (texts, width): the mean over what is no padding, special tokens included."""
    weight = mask.unsqueeze(-1).to(words.dtype)
    return (words * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


class GuidedAttention(nn.Module):
    """Self-attention of the positions, then cross-attention from the positions to the words, each with a shortcut.

    Positional embeddings are added to queries and keys, not to values. Each attention stands between two LayerNorms.

    Args:
        width: Features of positions and words.
        self_heads: Of the self-attention.
        heads: Of the cross-attention.
    """

    def __init__(self, width: int, *, self_heads: int, heads: int) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(width, self_heads, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.self_norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.cross_norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        # The value is that of Ariadne's code.
        self.scale = nn.Parameter(torch.tensor(1.421))

    def forward(self, features: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """(batch, width, rows, columns), (batch, length, width) and (batch, length) -> shape of the features."""
        rows, columns = features.shape[2:]
        positions = features.flatten(2).transpose(1, 2)  # (B, D, R, C) -> (B, R C, D)
        grid_positions = grid_sinusoids(rows, columns, positions.shape[2], like=positions)
        value = self.self_norms[0](positions)
        key = value + grid_positions
        positions = positions + self.self_norms[1](self.self_attention(key, key, value, need_weights=False)[0])
        query = self.cross_norms[0](positions) + grid_positions  # (B, R C, D)
        key = words + sinusoids(*words.shape[1:], like=words)  # (B, L, D)
        attended, _ = self.cross_attention(query, key, words, key_padding_mask=mask == 0, need_weights=False)
        positions = positions + self.scale * self.cross_norms[1](attended)
        return positions.transpose(1, 2).unflatten(2, (rows, columns))  # (B, D, R, C)


class GuidedBlock(nn.Module):
    """`GuidedAttention`, twice the size, beside the encoder's features of that size; two convolutions.

    Args:
        width: Of what comes in, and of the words.
        narrower: Of the encoder's features, and of what comes out.
        self_heads: Of the self-attention.
        heads: Of the cross-attention.
    """

    def __init__(self, width: int, narrower: int, *, self_heads: int, heads: int) -> None:
        super().__init__()
        self.attend = GuidedAttention(width, self_heads=self_heads, heads=heads)
        self.up = nn.ConvTranspose2d(width, narrower, 2, stride=2, bias=False)
        self.mix = nn.Sequential(*_convolution(2 * narrower, narrower), *_convolution(narrower, narrower))

    def forward(self, features: Tensor, beside: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """As `GuidedAttention` -> (batch, narrower, 2 * rows, 2 * columns)."""
        upsampled = self.up(self.attend(features, words, mask))
        return self.mix(torch.cat([upsampled, beside], dim=1))


def _convolution(channels: int, narrower: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, narrower, 3, padding=1, bias=False), nn.BatchNorm2d(narrower), nn.LeakyReLU()]


class SubpixelHead(nn.Module):
    """Features at 1/4 -> logits at full size: 16 subpixels a position (Shi et al. 2016), then the mean of 4 x 4, which
    takes away their checkerboard; zeros stand above and left of the image.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.subpixels = nn.Conv2d(width, 16 * (width // 4), 3, padding=1)
        self.out = nn.Conv2d(width // 4, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, width, rows, columns) -> (batch, 4 * rows, 4 * columns)."""
        shuffled = F.pixel_shuffle(self.subpixels(features), 4)
        return self.out(F.avg_pool2d(F.pad(shuffled, (3, 0, 3, 0)), 4, stride=1)).squeeze(1)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What the decoder gives.

    Attributes:
        logits: (batch, height, width).
        features: What enters each block: (batch, width, rows, columns) at 1/32, 1/16 and 1/8.
        texts: (batch, width) for each block, the mean of the words that enter it.
    """

    logits: Tensor
    features: list[Tensor]
    texts: list[Tensor]


class LanguageDecoder(nn.Module):
    """Three `GuidedBlock`s, from 1/32 to 1/4 of the size, and `SubpixelHead`.

    Args:
        widths: Of the pyramid that is decoded, the finest features first.
        text_width: Of the words.
        self_heads: Of the self-attention.
        heads: Of the cross-attention.
        activation: LeakyReLU after the projections of the words (Ariadne); without it they are linear (TMCA).

    Raises:
        ValueError: The widths do not fit the heads.
    """

    def __init__(
        self, widths: Sequence[int], text_width: int, *, self_heads: int, heads: int, activation: bool
    ) -> None:
        super().__init__()
        if any(width % multiple for width in widths for multiple in (4, self_heads, heads)):
            raise ValueError(
                f"widths {list(widths)} of the image's features (hidden_sizes of the image_encoder, or pyramid_widths) "
                "must be multiples of 4 and of the heads"
            )
        self.blocks = nn.ModuleList(
            GuidedBlock(width, narrower, self_heads=self_heads, heads=heads)
            for width, narrower in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.text_projections = nn.ModuleList(
            nn.Sequential(nn.Linear(text_width, width), *[nn.LeakyReLU()] * activation) for width in widths[:0:-1]
        )
        self.head = SubpixelHead(widths[0])

    def forward(
        self, pyramid: list[Tensor], words: Tensor, mask: Tensor, enhance: Enhancement | None = None
    ) -> Decoded:
        """Decode.

        Args:
            pyramid: Features of the image at 1/4, 1/8, 1/16 and 1/32.
            words: (batch, length, text width).
            mask: (batch, length), 0 on padding.
            enhance: Changes what leaves each block.
        """
        *beside, decoded = pyramid
        features, texts = [], []
        for block, project, skip in zip(self.blocks, self.text_projections, reversed(beside), strict=True):
            projected = project(words)
            features.append(decoded)
            texts.append(mean_of_words(projected, mask))
            decoded = block(decoded, skip, projected, mask)
            if enhance is not None:
                decoded = enhance(features[-1], texts[-1], decoded)
        return Decoded(logits=self.head(decoded), features=features, texts=texts)
