"""The local loss (paper 000, eqs. 12 and 13).

It can be lowered without looking at the image. A region is made with the similarities of its own word and eq. 11 has
no softmax over patches, so a region is a linear map of its word, and a map close to the identity separates the words
whatever the image shows. Negatives from other reports do not change that.

Shapes in comments: B reports, W words, D width, K keywords of all reports of this worker, A present words of all
workers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.blocks import by_blocks
from models.distributed import all_gather_padded, all_reduce_sum, rank, world_size


@dataclass(frozen=True)
class Pairs:
    """Words of reports and the soft region of each.

    Attributes:
        words: R^l, (reports, words, width).
        regions: The pooled and projected region of each word, (reports, words, width).
        present: (reports, words) bool, the words that take part.
        chosen: (reports, words) bool, the keywords among them.
        weight: (reports, words) 1 on keywords, with the gradient of their choice; it makes R-hat of R.
    """

    words: Tensor
    regions: Tensor
    present: Tensor
    chosen: Tensor
    weight: Tensor


def local_loss(pairs: Pairs, temperature: float, keys: Tensor | None = None) -> Tensor:
    """L_l of eq. 13: each keyword's region against words, and each keyword against regions.

    Args:
        pairs: Words and regions of this worker.
        temperature: tau_2.
        keys: (reports, words), equal for equal words. With them, a pair is contrasted with the words, or regions, of
            all reports of all workers, but those of equal words of other reports. Without, with those of its own
            report, as eq. 12 is printed.

    Returns:
        The mean over the keywords of a report, over all reports that have any; 0 without any.
    """
    chosen = pairs.chosen
    count = chosen.sum(dim=1)
    total = all_reduce_sum((count > 0).sum())
    keywords = pairs.words * pairs.weight.unsqueeze(2)
    if total == 0:
        return (pairs.regions.sum() + keywords.sum()) * 0.0
    weight = (1 / count.clamp(min=1).to(keywords.dtype)).unsqueeze(1).expand_as(chosen)[chosen]  # (K,)
    positive = (pairs.regions * keywords).sum(dim=2)[chosen] / temperature  # (K,)
    if keys is None:
        to_words = _within_report(pairs.regions, pairs.words, pairs)
        to_regions = _within_report(keywords, pairs.regions, pairs)
        sums = [torch.logsumexp(logits / temperature, dim=1) for logits in (to_words, to_regions)]
    else:
        sums = list(_log_sums(pairs, keywords, keys, temperature))
    loss = ((sums[0] + sums[1] - 2 * positive) * weight).sum()
    return loss * world_size() / total


def _within_report(rows: Tensor, columns: Tensor, pairs: Pairs) -> Tensor:
    """(keywords, words) similarities of each keyword's row with its report's columns."""
    similarity = torch.bmm(rows, columns.transpose(1, 2))  # (B, W, D) x (B, D, W) -> (B, W, W)
    similarity = similarity.masked_fill(~pairs.present.unsqueeze(1), torch.finfo(rows.dtype).min)
    return similarity[pairs.chosen]  # (K, W)


def _log_sums(pairs: Pairs, keywords: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """log of the denominators of eq. 12 over the present words of all workers: (2, keywords), to words and to regions.

    What another report has of the same word is left out.
    """
    chosen = pairs.chosen
    present = all_gather_padded(pairs.present)
    words, regions = (all_gather_padded(values)[present] for values in (pairs.words, pairs.regions))  # (A, D)
    all_keys = all_gather_padded(keys)[present]
    report = torch.arange(len(keys), device=keys.device).unsqueeze(1).expand_as(keys) + rank() * len(keys)
    everywhere = torch.arange(len(present), device=keys.device).unsqueeze(1).expand_as(present)[present]

    def of_block(own_regions: Tensor, own_words: Tensor, keys: Tensor, report: Tensor) -> Tensor:
        barred = torch.zeros(len(keys), len(all_keys), dtype=words.dtype, device=keys.device)
        same_word, other_report = keys.unsqueeze(1) == all_keys, report.unsqueeze(1) != everywhere
        barred = barred.masked_fill_(same_word & other_report, -torch.inf)
        # One pass over the largest matrix of the method: (K, D) x (D, A) -> (K, A) -> (K,)
        to_words, to_regions = (
            torch.addmm(barred, rows / temperature, columns.T).logsumexp(dim=1)
            for rows, columns in ((own_regions, words), (own_words, regions))
        )
        return torch.stack([to_words, to_regions])

    cut = pairs.regions[chosen], keywords[chosen], keys[chosen], report[chosen]
    return torch.cat(by_blocks(of_block, cut, len(all_keys)), dim=1)
