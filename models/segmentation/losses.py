"""Losses of a predicted mask against its target, and the score by which an epoch may be chosen.

Means over the images of a batch: the mean over workers, which DDP takes of the gradients, is the loss of one process
on the joined batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def dice_loss(probability: Tensor, target: Tensor, *, squared: bool = False, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice, mean over the images (Milletari et al. 2016 with `squared`).

    Args:
        probability: (batch, height, width), 0 to 1.
        target: (batch, height, width) bool.
        squared: Sums of squares in the denominator.
        smooth: Pixels added to numerator and denominator: an empty target with an empty prediction has a loss of 0, and
            the loss grows with what is predicted there.
    """
    truth = target.to(probability.dtype)
    common = (probability * truth).sum(dim=(1, 2))
    sizes = (probability**2 + truth**2 if squared else probability + truth).sum(dim=(1, 2))
    return (1 - (2 * common + smooth) / (sizes + smooth)).mean()


def dice(predicted: Tensor, target: Tensor) -> Tensor:
    """2 |A & B| / (|A| + |B|) (Dice 1945) of masks; 1 where both are empty.

    Args:
        predicted: (batch, height, width) bool.
        target: As `predicted`.

    Returns:
        (batch) float32.
    """
    common = 2 * (predicted & target).sum(dim=(1, 2))
    sizes = predicted.sum(dim=(1, 2)) + target.sum(dim=(1, 2))
    return torch.where(sizes > 0, common / sizes.clamp(min=1), 1.0)


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Dice loss plus binary cross-entropy, equal weights (papers 002, section 3.2, and 003, eq. 11).

    Args:
        logits: (batch, height, width); cross-entropy is taken of them, not of probabilities, which published code
            passes through the sigmoid twice or, with one channel, through a softmax that leaves nothing.
        target: (batch, height, width) bool.
    """
    logits = logits.float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))
    return dice_loss(logits.sigmoid(), target) + cross_entropy
