"""What is hidden from a reconstructor (sections III-C and III-D)."""

from dataclasses import replace

import torch
from torch import Tensor

from models.reclmis.sequences import Sequences


def draw(weights: Tensor, mask: Tensor, ratio: float) -> Tensor:
    """Draw positions of each row, without replacement.

    Drawn on the CPU, whose random state is saved, and for the positions inside alone, so that padding changes nothing.

    Args:
        weights: (rows, n), 0 or more; in proportion to them positions are drawn.
        mask: (rows, n) bool, false on padding.
        ratio: Fraction of a row's positions that is drawn; at least one is.

    Returns:
        (rows, n) bool, true on what was drawn.
    """
    drawn = torch.zeros(mask.shape, dtype=torch.bool)
    # No weight is quite 0: enough positions must be found even where one holds nearly all of it.
    probabilities = weights.detach().float().cpu().clamp(min=1e-30)
    for row, probability, inside in zip(drawn, probabilities, mask.cpu(), strict=True):
        indices = inside.nonzero().squeeze(1)
        row[indices[torch.multinomial(probability[indices], max(1, int(ratio * len(indices))))]] = True
    return drawn.to(mask.device)


def masked(sequences: Sequences, ratio: float) -> Sequences:
    """The sequences with zeros for the features of what their weights draw."""
    drawn = draw(sequences.weights, sequences.mask, ratio)
    return replace(sequences, features=sequences.features.masked_fill(drawn.unsqueeze(-1), 0.0))
