"""The loss of published code."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.distributed import all_reduce_sum, world_size
from models.segmentation.losses import dice_loss


def balanced_mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """0.5 Dice + 0.5 cross-entropy, half of it the mean over the findings' pixels of the batch, half over the others'.

    Args:
        logits: (batch, height, width).
        target: (batch, height, width) bool.

    Returns:
        The loss; its mean over workers is that of the joined batch. Its Dice halves probabilities and targets before it
        squares them, which makes its smoothing of 1e-5 count four times.
    """
    logits = logits.float()
    truth = target.to(logits.dtype)
    dice = dice_loss(logits.sigmoid(), target, squared=True, smooth=4e-5)
    costs = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    classes = torch.stack([truth, 1 - truth])  # (2, batch, height, width)
    counts = all_reduce_sum(classes.sum(dim=(1, 2, 3))).clamp(min=1)
    means = (classes * costs).sum(dim=(1, 2, 3)) / counts * world_size()
    return (dice + means.mean()) / 2
