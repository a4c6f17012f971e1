"""PLAN's local contrast over images: `negatives: images`, which is not in the paper.

A word's region of its own image against the regions that the same word pools from the other images. What is contrasted
differs in the image alone, so that a model which does not look at it stays at the log of their number, whereas the
losses of `models/plan/losses.py` contrast words, which such a model can tell apart.

Shapes in comments: B reports of this worker, W words, N images of all workers, P patches, D width, K keywords.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models.distributed import all_gather, all_gather_padded, all_reduce_sum, rank, world_size
from models.plan.losses import Pairs

# Words of one text (words, width) and patches of images (images, patches, width) -> regions (images, words, width).
Pool = Callable[[Tensor, Tensor], Tensor]


def images_without(keys: Tensor, present: Tensor) -> Tensor:
    """Where a word is missing: the images whose region of it is a negative.

    Args:
        keys: (reports, words) of this worker, equal for equal words.
        present: (reports, words) bool, before any word is dropped.

    Returns:
        (reports, words, images of all workers) bool, true where the report of the image lacks the word.
    """
    others, there = all_gather_padded(keys), all_gather_padded(present)  # (N, W)
    same = keys.unsqueeze(-1).unsqueeze(-1) == others  # (B, W, N, W)
    return ~(same & there).any(dim=-1)


def other_images_loss(
    pairs: Pairs,
    words: Tensor,
    patches: Tensor,
    without: Tensor,
    pool: Pool,
    temperature: float,
    *,
    recompute: bool = False,
) -> Tensor:
    """-log softmax of a keyword's cosine with its region, over its own image and the images without the word.

    Args:
        pairs: Words and keywords of this worker.
        words: (reports, words, width), with which regions are pooled.
        patches: g(I) of this worker's images, (reports, patches, width).
        without: Of `images_without`.
        pool: Makes the regions, of a text's present words.
        temperature: tau_2.
        recompute: Hold the regions of one text only; the others' are computed again in the backward pass.

    Returns:
        The mean over the keywords of a report, over all reports that have any; 0 without any.
    """
    everyone = all_gather(patches)  # (N, P, D)
    total = all_reduce_sum(pairs.chosen.any(dim=1).sum())
    keywords = pairs.words * pairs.weight.unsqueeze(2)
    loss = (keywords.sum() + everyone.sum() + words.sum()) * 0.0
    if total == 0:
        return loss
    for report, (chosen, present) in enumerate(zip(pairs.chosen, pairs.present, strict=True)):
        if not chosen.any():
            continue
        own = report + rank() * len(patches)
        arguments = (words[report][present], everyone)
        regions = checkpoint(pool, *arguments, use_reentrant=False) if recompute else pool(*arguments)  # (N, W, D)
        logits = torch.einsum("nkd,kd->kn", regions[:, chosen[present]], keywords[report][chosen]) / temperature
        contrasted = without[report][chosen].clone()  # (K, N)
        contrasted[:, own] = True
        log_sum = logits.masked_fill(~contrasted, torch.finfo(logits.dtype).min).logsumexp(dim=1)
        loss = loss + (log_sum - logits[:, own]).mean()
    return loss * world_size() / total
