"""MedKLIP's losses: whether each entity is in the image, and at which position.

Both are means over the entities of all workers of which that is known, 0 without any.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.distributed import all_reduce_sum, world_size
from models.medklip.entities import UNKNOWN


def existence_loss(logits: Tensor, exists: Tensor) -> Tensor:
    """Cross-entropy of absent and present.

    Args:
        logits: (batch, entities, 2), absent before present.
        exists: (batch, entities) int64: 0, 1, or -1 where it is unknown.
    """
    total = all_reduce_sum((exists != UNKNOWN).sum())
    loss = F.cross_entropy(logits.flatten(0, 1), exists.flatten(), ignore_index=UNKNOWN, reduction="sum")
    return loss * world_size() / total.clamp(min=1)


def position_loss(scores: Tensor, places: Tensor) -> Tensor:
    """Contrast of an entity's position with those where it is not.

    The published code draws one position of an entity and seven of those where it is not (of 51). Here there are nine
    in all, so that nothing is drawn: the mean over an entity's positions, each against all where it is not.

    Args:
        scores: (batch, entities, positions).
        places: (batch, entities, positions) bool; an entity without any does not count.
    """
    count = places.sum(dim=2)  # (B, E)
    total = all_reduce_sum((count > 0).sum())
    others = scores.masked_fill(places, torch.finfo(scores.dtype).min).logsumexp(dim=2, keepdim=True)
    # -log(e^s / (e^s + sum of the others')) = log(1 + e^(log sum of the others' - s))
    terms = F.softplus(others - scores) * places
    return (terms.sum(dim=2) / count.clamp(min=1)).sum() * world_size() / total.clamp(min=1)
