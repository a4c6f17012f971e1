"""MGCA's token-wise and prototype losses.

Shapes in comments: B rows (images with their reports), W words, P patches, D dimensions.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from models.distributed import all_gather, rank
from models.encoders import unit_length


def token_loss(words: Tensor, patches: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Cross-attention alignment of the tokens within each pair (CTA): the mean over words and that over patches.

    Every token counts the same; the paper weights them by the last layer's attention of [CLS], which encoders without
    a class token do not have (the code, too, weights the patches of a ResNet equally).

    Args:
        words: (rows, words, dimensions), of length 1.
        patches: (rows, patches, dimensions), of length 1.
        mask: (rows, words) bool, true on words.
        temperature: Of attention and contrast.

    Returns:
        Mean over the rows of this worker.
    """
    similarity = words @ patches.mT / temperature  # (B, W, D) x (B, D, P) -> (B, W, P)
    attended_patches = unit_length(similarity.softmax(dim=-1) @ patches)  # (B, W, D), for each word
    # A finite number, for a text may have no words at all.
    lowest = torch.finfo(similarity.dtype).min
    attention = similarity.mT.masked_fill(~mask.unsqueeze(1), lowest).softmax(dim=-1)  # (B, P, W)
    attended_words = unit_length(attention @ words)  # (B, P, D), for each patch
    everywhere = torch.ones(patches.shape[:2], dtype=torch.bool, device=patches.device)
    return (
        _contrast(words, attended_patches, mask, temperature)
        + _contrast(patches, attended_words, everywhere, temperature)
    ) / 2


def _contrast(tokens: Tensor, attended: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Token j against what it attended to, among those of its own row, both ways."""
    logits = tokens @ attended.mT / temperature
    logits = logits.masked_fill(~(mask.unsqueeze(1) & mask.unsqueeze(2)), torch.finfo(logits.dtype).min)
    diagonal = logits.diagonal(dim1=1, dim2=2)
    loss = (torch.logsumexp(logits, dim=2) + torch.logsumexp(logits, dim=1)) / 2 - diagonal
    return (loss.masked_fill(~mask, 0.0).sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean()


@torch.no_grad()
def sinkhorn(scores: Tensor, temperature: float, iterations: int) -> Tensor:
    """Assignment of rows to prototypes, all of which get the same weight (Caron et al. 2020; Cuturi 2013).

    Args:
        scores: (rows, prototypes).
        temperature: epsilon.
        iterations: Normalisations of prototypes and rows in turn.

    Returns:
        (rows, prototypes); each row adds up to 1.
    """
    # In logarithms, where nothing over- or underflows.
    plan = scores / temperature
    rows, prototypes = plan.shape
    for _ in range(iterations):
        plan = plan - plan.logsumexp(dim=0, keepdim=True) - math.log(prototypes)
        plan = plan - plan.logsumexp(dim=1, keepdim=True) - math.log(rows)
    return plan.softmax(dim=1)


def prototype_loss(
    images: Tensor, texts: Tensor, *, temperature: float, sinkhorn_temperature: float, sinkhorn_iterations: int
) -> Tensor:
    """Cross-modal prototype alignment (CPA): each modality predicts the cluster of the other.

    Args:
        images: (rows, prototypes) cosines of the images with the prototypes.
        texts: (rows, prototypes) those of their reports.
        temperature: Of the prediction.
        sinkhorn_temperature: Of the assignment.
        sinkhorn_iterations: Of the assignment, which is over the rows of all workers.

    Returns:
        Mean over the rows of this worker and both directions.
    """
    loss = images.new_zeros(())
    own = slice(rank() * len(images), (rank() + 1) * len(images))
    for known, predicted in ((images, texts), (texts, images)):
        everyone = all_gather(known.detach())
        cluster = sinkhorn(everyone, sinkhorn_temperature, sinkhorn_iterations)[own]
        loss = loss + F.cross_entropy(predicted / temperature, cluster) / 2
    return loss
