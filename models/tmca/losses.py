"""TSDM: the contrast of images and texts whose targets are how far their masks overlap.

As in `models/losses.py`, each worker holds its own rows against the columns of all, and the mean over workers is the
loss of one process on the joined batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.distributed import all_gather, rank, world_size
from models.encoders import unit_length


def dice_coefficients(rows: Tensor, columns: Tensor) -> Tensor:
    """d_pq of paper 002, section 3.2.1, before its softmax.

    Two empty masks are alike, 1; an empty one and one that is not have nothing in common, 0.

    Args:
        rows: (rows, pixels) bool.
        columns: (columns, pixels) bool.

    Returns:
        (rows, columns) float32, 0 to 1. Exact counts up to 2^24 pixels.
    """
    rows, columns = rows.float(), columns.float()
    sizes = rows.sum(dim=1, keepdim=True) + columns.sum(dim=1)
    return torch.where(sizes == 0, 1.0, 2 * (rows @ columns.T) / sizes.clamp(min=1))


def overlap_targets(masks: Tensor, temperature: float) -> Tensor:
    """TSDM's targets: the softmax over the batch of the Dice coefficients.

    Workers exchange masks at full size and one byte a pixel, a quarter of what their features of this type would be:
    the coefficients are exact, and 32 masks of 224 x 224 take 1.6 MB.

    Args:
        masks: (rows, height, width) bool, of this worker.
        temperature: tau_1.

    Returns:
        (rows, rows of all workers); each row adds up to 1.
    """
    own = masks.flatten(1)
    return (dice_coefficients(own, all_gather(own)) / temperature).softmax(dim=1)


def own_targets(rows: int, device: torch.device) -> Tensor:
    """Targets without TSDM: (rows, rows of all workers), 1 where image and text are of one pair."""
    own = torch.arange(rows, device=device) + rank() * rows
    return F.one_hot(own, rows * world_size()).float()


def alignment_loss(images: Tensor, texts: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Eq. 1 of paper 002 in both directions.

    Args:
        images: (rows, width).
        texts: (rows, width).
        targets: (rows, rows of all workers); the masks' overlap is the same from image to text as back.
        temperature: tau_2.

    Returns:
        Mean over the rows of this worker and both directions.
    """
    images, texts = unit_length(images), unit_length(texts)
    targets = targets.to(images.dtype)
    to_text = F.cross_entropy(images @ all_gather(texts).T / temperature, targets)
    to_image = F.cross_entropy(texts @ all_gather(images).T / temperature, targets)
    return (to_text + to_image) / 2
