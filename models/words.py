"""Features of words from those of their pieces."""

import torch
from torch import Tensor

from models.data.batches import Tokens


def pool_words(hidden: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """The mean of each word's pieces; special tokens and padding belong to no word.

    Args:
        hidden: (texts, length, width) features of the tokens.
        tokens: The texts.

    Returns:
        (texts, words, width) with 0 on padding, and (texts, words) bool, true on words. At least one column.
    """
    columns = max(1, int(tokens.words.max()) + 1) if tokens.words.numel() else 1
    inside = tokens.words >= 0
    # Pieces of no word go to a column of their own, which is cut off.
    column = torch.where(inside, tokens.words, columns)
    total = hidden.new_zeros(len(hidden), columns + 1, hidden.shape[-1])
    total = total.scatter_add(1, column.unsqueeze(-1).expand_as(hidden), hidden)[:, :columns]
    count = hidden.new_zeros(len(hidden), columns + 1).scatter_add(
        1, column, torch.ones_like(column, dtype=hidden.dtype)
    )
    count = count[:, :columns]
    return total / count.clamp(min=1).unsqueeze(-1), count > 0
