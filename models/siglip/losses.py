"""The pairwise sigmoid loss."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.blocks import by_blocks
from models.distributed import all_gather, all_reduce_sum, rank, world_size


def sigmoid_loss(
    images: Tensor,
    texts: Tensor,
    log_scale: Tensor,
    bias: Tensor,
    *,
    valid: Tensor | None = None,
    keys: Tensor | None = None,
) -> Tensor:
    """-log sigmoid(z (t x.y + b)) over all pairs, z = 1 where they match and -1 otherwise (Zhai et al. 2023).

    Args:
        images: (rows, dimensions), of length 1.
        texts: (rows, dimensions), of length 1; row i matches row i of `images`.
        log_scale: t' = log t, a scalar.
        bias: b, a scalar.
        valid: (rows,) bool; the other rows are in no pair.
        keys: (rows,) int64, equal for equal texts (`token_keys.text_keys`): then an image matches every text that
            equals its own. None matches it with its own alone.

    Returns:
        Sum over pairs divided by the number of valid rows, of all workers; 0 without any.
    """
    if valid is None:
        valid = torch.ones(len(images), dtype=torch.bool, device=images.device)
    columns = all_gather(valid)
    total = all_reduce_sum(valid.sum())
    all_texts = all_gather(texts)
    if keys is None:
        keys = torch.arange(len(images), device=images.device) + rank() * len(images)
    everyone = all_gather(keys)

    def of_block(images: Tensor, valid: Tensor, keys: Tensor) -> Tensor:
        logits = images @ all_texts.T * log_scale.exp() + bias
        sign = torch.full_like(logits, -1.0).masked_fill(keys.unsqueeze(1) == everyone, 1.0)
        pairs = valid.unsqueeze(1) & columns
        return (-F.logsigmoid(sign * logits) * pairs).sum()

    sums = torch.stack(by_blocks(of_block, (images, valid, keys), len(columns)))
    return sums.sum() * world_size() / total.clamp(min=1)
