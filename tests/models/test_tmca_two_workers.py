"""TSDM over two workers is TSDM in one process: the loss of the joined batch and its gradients."""

from pathlib import Path

import pytest
import torch

from models.tmca.losses import alignment_loss, overlap_targets, own_targets
from tests.models.workers import group, of_one_and_two


def work(rank: int, world: int, folder: Path) -> None:
    """Losses of the worker's three of six pairs, with and without TSDM, and the gradients of its own rows."""
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64).unbind()
    masks = torch.rand(6, 8, 8, generator=generator) < 0.3
    own = slice(6 * rank // world, 6 * (rank + 1) // world)
    images, texts = images[own].clone().requires_grad_(), texts[own].clone().requires_grad_()
    found = []
    with group(rank, world, folder):
        for targets in (overlap_targets(masks[own], 0.2), own_targets(6 // world, masks.device)):
            loss = alignment_loss(images, texts, targets, 0.3)
            found.append((loss.detach(), *torch.autograd.grad(loss, (images, texts))))
    torch.save(found, folder / f"{world}-{rank}.pt")


@pytest.mark.slow
def test_two_workers_give_the_result_of_one_process(tmp_path: Path) -> None:
    alone, *workers = of_one_and_two(work, tmp_path)
    for (loss, *gradients), *parts in zip(alone, *workers, strict=True):
        torch.testing.assert_close((parts[0][0] + parts[1][0]) / 2, loss)
        for number, gradient in enumerate(gradients, start=1):
            # DDP takes the mean over the workers; each has the sum of what both losses say of its rows.
            torch.testing.assert_close(torch.cat([part[number] for part in parts]) / 2, gradient)
