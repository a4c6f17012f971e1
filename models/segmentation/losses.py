"""Losses of a predicted mask against its target.

Means over the images of a batch: the mean over workers, which DDP takes of the gradients, is the loss of one process
on the joined batch.
"""

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
