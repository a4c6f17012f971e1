"""CCL of two workers is that of one process on the joined batch.

A file of its own, whose imports are few: each worker starts with them.
"""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor

from models.reclmis.losses import contrastive_loss
from models.reclmis.sequences import Sequences

INSIDE = [3, 5, 2, 4]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sequences(lengths: list[int], width: int = 6, seed: int = 0) -> Sequences:
    """Random features and weights of rows of some lengths; zeros on padding."""
    longest = max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)
    weights = random(len(lengths), longest, seed=seed + 1).masked_fill(~mask, -torch.inf).softmax(dim=-1)
    features = random(len(lengths), longest, width, seed=seed) * mask.unsqueeze(-1)
    return Sequences(features=features, weights=weights, mask=mask, read=mask)


PATCHES, WORDS = sequences([9] * 4, seed=10), sequences(INSIDE, seed=20)


def contrast_of_worker(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    half = slice(2 * rank, 2 * rank + 2)
    longest = max(INSIDE[half])
    inside = WORDS.mask[half, :longest]
    features = [PATCHES.features[half].clone(), WORDS.features[half, :longest].clone()]
    scores = [PATCHES.weights[half].clone(), WORDS.weights[half, :longest].clone()]
    leaves = [leaf.requires_grad_() for leaf in (*features, *scores)]
    loss = contrastive_loss(
        Sequences(features=features[0], weights=scores[0], mask=PATCHES.mask[half], read=PATCHES.mask[half]),
        Sequences(features=features[1], weights=scores[1], mask=inside, read=inside),
        0.2,
    )
    # DDP takes the mean over workers.
    (loss / 2).backward()
    torch.save([loss.detach(), *(leaf.grad for leaf in leaves)], folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_contrastive_loss_compares_the_images_of_all_workers(tmp_path: Path) -> None:
    multiprocessing.start_processes(contrast_of_worker, (tmp_path,), nprocs=2, start_method="spawn")
    leaves = [
        value.clone().requires_grad_() for value in (PATCHES.features, WORDS.features, PATCHES.weights, WORDS.weights)
    ]
    alone = contrastive_loss(
        Sequences(features=leaves[0], weights=leaves[2], mask=PATCHES.mask, read=PATCHES.mask),
        Sequences(features=leaves[1], weights=leaves[3], mask=WORDS.mask, read=WORDS.mask),
        0.2,
    )
    alone.backward()
    workers = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    torch.testing.assert_close((workers[0][0] + workers[1][0]) / 2, alone.detach())
    for number, leaf in enumerate(leaves, start=1):
        for rank, worker in enumerate(workers):
            shape = worker[number].shape
            torch.testing.assert_close(worker[number], leaf.grad[2 * rank : 2 * rank + 2, : shape[1]])
