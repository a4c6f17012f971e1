"""How the text reaches the transformers of LViT.

`published` takes the first ten words, of which a convolution makes the positions. In `adapted` all tokens count, and
padding changes nothing: it is 0 for the convolutions, and has no weight in the attention that takes the place of the
fixed weights of words and positions.

Shapes in comments: B texts, L tokens, C channels, P positions of the image.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.data.batches import Tokens
from models.segmentation.blocks import LEVELS
from models.words import pool_words

HEADS = 8
WORDS = 10


def first_words(features: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """The first `WORDS` words of each text, 0 where it has fewer.

    Args:
        features: (texts, length, width), of the tokens.
        tokens: The texts.

    Returns:
        (texts, WORDS, width), and what of it is read, which is all: (texts, WORDS), 1.
    """
    words, _ = pool_words(features, tokens)
    words = nn.functional.pad(words[:, :WORDS], (0, 0, 0, max(0, WORDS - words.shape[1])))
    return words, tokens.mask.new_ones(words.shape[:2])


class NarrowText(nn.Module):
    """Four convolutions over three neighbouring tokens each, down to the width of the first level.

    Args:
        width: Of the token features.
        base: Channels at full size.
    """

    def __init__(self, width: int, base: int) -> None:
        super().__init__()
        widths = [width, *(base * level for level in reversed(LEVELS[:4]))]
        self.steps = nn.ModuleList(nn.Conv1d(wide, narrow, 3, padding=1) for wide, narrow in pairwise(widths))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Token features (texts, length, width) and their mask (texts, length) -> (texts, length, base)."""
        present = mask.unsqueeze(1).to(features.dtype)
        narrowed = features.transpose(1, 2)  # (B, L, C) -> (B, C, L)
        for step in self.steps:
            narrowed = step(narrowed * present)
        return narrowed.transpose(1, 2)


class TextAtPositions(nn.Module):
    """What each position of the image takes from the text, whatever the image shows: attention by learned queries.

    Args:
        width: Of the tokens.
        positions: Patches of an image.
    """

    def __init__(self, width: int, positions: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(positions, width))
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, text: Tensor, mask: Tensor) -> Tensor:
        """(texts, length, width) and its mask (texts, length) -> (texts, positions, width)."""
        queries = self.queries.expand(len(text), -1, -1)
        attended, _ = self.attention(queries, text, text, key_padding_mask=mask == 0, need_weights=False)
        return self.norm(attended.transpose(1, 2)).relu().transpose(1, 2)  # BatchNorm1d takes (B, C, P)


class WordsAtPositions(nn.Module):
    """The same of published code: words are the channels of a convolution over three neighbouring features."""

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv1d(WORDS, positions, 3, padding=1), nn.BatchNorm1d(positions), nn.ReLU())

    def forward(self, text: Tensor, mask: Tensor) -> Tensor:
        """(texts, WORDS, width) and its mask, which is not read -> (texts, positions, width)."""
        return self.block(text)
