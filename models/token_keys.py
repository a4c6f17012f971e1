"""Numbers that are equal for equal texts, or words, so that those of several workers can be compared."""

import torch
from torch import Tensor

from models.data.batches import Tokens

# Odd, and spread over 64 bits: the multiplier of Knuth's MMIX generator.
_MULTIPLIER = 6364136223846793005


def text_keys(tokens: Tokens) -> Tensor:
    """A number for each text, equal where the encoder reads the same tokens (but for a chance of about 2^-64).

    It does not depend on the padding, so that texts of several workers can be compared.

    Args:
        tokens: The texts.

    Returns:
        (texts,) int64.
    """
    return ((tokens.ids + 1) * _powers(tokens) * tokens.mask).sum(dim=1)


def word_keys(tokens: Tokens) -> Tensor:
    """A number for each word, equal where the pieces are equal (but for a chance of about 2^-64).

    Args:
        tokens: The texts.

    Returns:
        (texts, words) int64, as wide as what `pool_words` gives.
    """
    columns = max(1, int(tokens.words.max()) + 1) if tokens.words.numel() else 1
    inside = tokens.words >= 0
    column = torch.where(inside, tokens.words, columns)
    position = torch.arange(tokens.ids.shape[1], device=tokens.ids.device).expand_as(tokens.ids)
    first = torch.full((len(column), columns + 1), tokens.ids.shape[1], device=column.device)
    first = first.scatter_reduce(1, column, position, "amin")
    # The n-th piece counts its number times the n-th power, so that the order of the pieces matters.
    terms = (tokens.ids + 1) * _powers(tokens)[position - first.gather(1, column)]
    return torch.zeros_like(first).scatter_add(1, column, terms)[:, :columns]


def _powers(tokens: Tokens) -> Tensor:
    """(length,) int64: by its position each token counts differently, so that their order matters."""
    return torch.full((tokens.ids.shape[1],), _MULTIPLIER, device=tokens.ids.device).cumprod(0)
