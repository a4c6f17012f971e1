"""LViT's balanced loss over two workers is that of one process on the joined batch, and so are its gradients."""

from pathlib import Path

import pytest
import torch

from models.lvit.losses import balanced_mask_loss
from tests.models.workers import group, of_one_and_two


def work(rank: int, world: int, folder: Path) -> None:
    """The loss of the worker's images, of which those of the second have more findings, and its gradient."""
    generator = torch.Generator().manual_seed(0)
    own = slice(4 * rank // world, 4 * (rank + 1) // world)
    logits = torch.randn(4, 8, 8, generator=generator)[own].clone().requires_grad_()
    shares = torch.tensor([0.1, 0.1, 0.6, 0.8]).view(4, 1, 1)
    with group(rank, world, folder):
        loss = balanced_mask_loss(logits, (torch.rand(4, 8, 8, generator=generator) < shares)[own])
        torch.save([loss.detach(), *torch.autograd.grad(loss, logits)], folder / f"{world}-{rank}.pt")


@pytest.mark.slow
def test_two_workers_give_the_result_of_one_process(tmp_path: Path) -> None:
    (loss, gradient), *workers = of_one_and_two(work, tmp_path)
    torch.testing.assert_close((workers[0][0] + workers[1][0]) / 2, loss)
    torch.testing.assert_close(torch.cat([part[1] for part in workers]) / 2, gradient)
