"""Contrastive losses that see the negatives of every worker.

Similarities are local x global: each worker has its own rows against the columns of all, and where these are many it
holds a block of its rows at a time (`models/blocks.py`). Losses are scaled so that the mean over workers, which DDP
takes of the gradients, is the loss of one process on the joined batch.

Letters in einsum: r regions, k captions of each, d dimensions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.blocks import by_blocks
from models.distributed import all_gather, all_reduce_sum, rank, world_size


def info_nce(
    left: Tensor,
    right: Tensor,
    temperature: float,
    *,
    valid: Tensor | None = None,
    keys: Tensor | None = None,
    symmetric: bool = True,
) -> Tensor:
    """InfoNCE between matched rows (van den Oord et al. 2018; paper 001, eqs. 5 and 7).

    With `keys`, rows whose texts are equal are positives of one another: the mean over a row's positives, each against
    the rows of other texts alone, as SINCERE (Feeney and Hughes 2023, arXiv:2309.14277) has it. To share the target of
    the softmax among them, as UniCL (Yang et al. 2022, eq. 3) and the L_out of SupCon (Khosla et al. 2020, eq. 2) do,
    would change nothing: equal texts have equal embeddings, so that over the rows of a text the sum of -log softmax
    is the same whether each has its own match or all share theirs (`tests/models/test_shared_targets.py`).

    Args:
        left: (rows, dimensions), of length 1.
        right: (rows, dimensions), of length 1; row i matches row i of `left`.
        temperature: Divides the cosine.
        valid: (rows,) bool; rows that are padding count neither as pairs nor as negatives.
        keys: (rows,) int64, equal for equal texts (`token_keys.text_keys`); None matches each row with its own alone.
        symmetric: The mean of both directions; False gives left -> right alone, as the papers print it.

    Returns:
        Mean over the valid rows of all workers (the papers' sum depends on the batch size); 0 without any.
    """
    if valid is None:
        valid = torch.ones(len(left), dtype=torch.bool, device=left.device)
    columns = all_gather(valid)
    total = all_reduce_sum(valid.sum())
    if total == 0:
        return (left.sum() + right.sum()) * 0.0
    own = torch.arange(len(left), device=left.device) + rank() * len(left)
    everyone = None if keys is None else all_gather(keys)

    def direction(rows: Tensor, all_columns: Tensor) -> Tensor:
        def of_block(rows: Tensor, own: Tensor, keys: Tensor | None = None) -> Tensor:
            logits = rows @ all_columns.T / temperature
            logits = logits.masked_fill(~columns, torch.finfo(logits.dtype).min)
            if keys is None:
                return F.cross_entropy(logits, own, reduction="none")
            return _against_other_texts(logits, (keys.unsqueeze(1) == everyone) & columns)

        cut = (rows, own) if keys is None else (rows, own, keys)
        return torch.cat(by_blocks(of_block, cut, len(columns)))[valid].sum()

    loss = direction(left, all_gather(right))
    if symmetric:
        loss = (loss + direction(right, all_gather(left))) / 2
    return loss * world_size() / total


def _against_other_texts(logits: Tensor, same: Tensor) -> Tensor:
    """(rows,) the mean over the columns that are the `same` text of -log(e^l / (e^l + sum of the others'))."""
    others = logits.masked_fill(same, torch.finfo(logits.dtype).min).logsumexp(dim=1, keepdim=True)
    return F.softplus(others - logits).masked_fill(~same, 0.0).sum(dim=1) / same.sum(dim=1).clamp(min=1)


def hard_negatives(
    regions: Tensor, negatives: Tensor, *, valid: Tensor | None = None, temperature: float | None = None
) -> Tensor:
    """Penalty on the similarity of a region with its altered captions (paper 001, eqs. 4 and 6).

    -log(1 - sigmoid(N)) with N the cosine. The paper has no temperature, so a term lies between 0.313 (cosine -1) and
    1.313 (cosine 1) and never reaches 0.

    Args:
        regions: (regions, dimensions), of length 1.
        negatives: (regions, negatives, dimensions), of length 1.
        valid: (regions,) bool; padding is left out.
        temperature: Divides the cosine; None is the paper's form.

    Returns:
        Mean over regions and negatives of all workers; 0 without any.
    """
    if valid is None:
        valid = torch.ones(len(regions), dtype=torch.bool, device=regions.device)
    similarity = torch.einsum("rd,rkd->rk", regions, negatives)
    if temperature is not None:
        similarity = similarity / temperature
    total = all_reduce_sum(valid.sum()) * negatives.shape[1]
    if total == 0:
        return (regions.sum() + negatives.sum()) * 0.0
    return F.softplus(similarity)[valid].sum() * world_size() / total


def negative_choice(
    regions: Tensor, captions: Tensor, negatives: Tensor, temperature: float, *, valid: Tensor | None = None
) -> Tensor:
    """Cross-entropy of a region's caption against its altered ones: the softmax in the place of eq. 6's sigmoid.

    Eq. 6 pushes every altered caption away from the region, however far it is already; here only the order counts.

    Args:
        regions: (regions, dimensions), of length 1.
        captions: (regions, dimensions), of length 1; row i describes region i.
        negatives: (regions, negatives, dimensions), of length 1.
        temperature: Divides the cosine.
        valid: (regions,) bool; padding is left out.

    Returns:
        Mean over the regions of all workers; 0 without any.
    """
    if valid is None:
        valid = torch.ones(len(regions), dtype=torch.bool, device=regions.device)
    total = all_reduce_sum(valid.sum())
    if total == 0:
        return (regions.sum() + captions.sum() + negatives.sum()) * 0.0
    candidates = torch.cat([captions.unsqueeze(1), negatives], dim=1)
    logits = torch.einsum("rd,rkd->rk", regions, candidates) / temperature
    own = torch.zeros(len(regions), dtype=torch.long, device=regions.device)
    return F.cross_entropy(logits, own, reduction="none")[valid].sum() * world_size() / total
