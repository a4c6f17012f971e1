"""Losses in blocks of rows beside the whole matrix: value and gradients, in one process, two and three."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models import blocks
from models.blocks import by_blocks
from models.losses import info_nce
from models.plan.losses import Pairs, local_loss
from models.sentences import Sentences, sentence_loss
from models.siglip.losses import sigmoid_loss
from tests.models.workers import group

ROWS = 12
# With 12 columns, blocks of 3 rows: 4 of them in one process, 2 in each of two, and 3 rows and 1 in each of three.
FEW = 40

Values = dict[str, Tensor]


def values() -> Values:
    """Inputs of all losses, those that can have a gradient with it; whoever computes takes its own rows."""
    generator = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> Tensor:
        rows = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return torch.nn.functional.normalize(rows, dim=-1).requires_grad_()

    def chance(*shape: int, least: float) -> Tensor:
        return torch.rand(*shape, generator=generator) > least

    present = chance(ROWS, 6, least=0.2)
    return {
        "left": unit(ROWS, 5),
        "right": unit(ROWS, 5),
        "temperature": torch.tensor(0.2, dtype=torch.float64, requires_grad=True),
        "log_scale": torch.tensor(1.2, dtype=torch.float64, requires_grad=True),
        "bias": torch.tensor(-2.0, dtype=torch.float64, requires_grad=True),
        "valid": chance(ROWS, least=0.3),
        "keys": torch.randint(0, 7, (ROWS,), generator=generator),
        "patches": unit(ROWS, 4, 5),
        "sentences": unit(9, 5),
        "owner": chance(ROWS, 9, least=0.8),
        "words": unit(ROWS, 6, 5),
        "regions": unit(ROWS, 6, 5),
        "weight": torch.rand(ROWS, 6, generator=generator, dtype=torch.float64).requires_grad_(),
        "present": present,
        "chosen": present & chance(ROWS, 6, least=0.4),
        "word_keys": torch.randint(0, 20, (ROWS, 6), generator=generator),
    }


def contrast(own: Values) -> Tensor:
    return info_nce(own["left"], own["right"], own["temperature"])  # type: ignore[arg-type]  # a learned one


def contrast_of_some(own: Values) -> Tensor:
    return info_nce(own["left"], own["right"], 0.2, valid=own["valid"])


def contrast_of_twins(own: Values) -> Tensor:
    return info_nce(own["left"], own["right"], 0.2, valid=own["valid"], keys=own["keys"], symmetric=False)


def sigmoid(own: Values) -> Tensor:
    return sigmoid_loss(own["left"], own["right"], own["log_scale"], own["bias"])


def sigmoid_of_twins(own: Values) -> Tensor:
    scale = own["log_scale"], own["bias"]
    return sigmoid_loss(own["left"], own["right"], *scale, valid=own["valid"], keys=own["keys"])


def of_sentences(own: Values) -> Tensor:
    # A worker knows the sentences of its own reports alone, as many as there are.
    here = own["owner"].any(dim=0)
    known = Sentences(own["sentences"][here], torch.arange(9)[here] * 7 % 5 * 10, own["owner"][:, here])
    return sentence_loss(own["patches"], known, 0.2)


def of_words(own: Values) -> Tensor:
    pairs = Pairs(own["words"], own["regions"], own["present"], own["chosen"], own["weight"])
    return local_loss(pairs, 0.2, own["word_keys"])


LOSSES: dict[str, Callable[[Values], Tensor]] = {
    loss.__name__: loss
    for loss in (contrast, contrast_of_some, contrast_of_twins, sigmoid, sigmoid_of_twins, of_sentences, of_words)
}


def rows_of(rank: int, world: int) -> slice:
    return slice(rank * ROWS // world, (rank + 1) * ROWS // world)


def found(name: str, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """The loss of a worker's rows and its gradient, the latter for the inputs of all workers."""
    every = values()
    own = {
        key: value[rows_of(rank, world)] if value.ndim and key != "sentences" else value for key, value in every.items()
    }
    loss = LOSSES[name](own)
    loss.backward()
    return {"loss": loss.detach()} | {key: value.grad for key, value in every.items() if value.grad is not None}


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor has that an operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, Tensor):
                self.numbers = max(self.numbers, one.numel())
        return made


@pytest.mark.parametrize("name", LOSSES)
def test_blocks_give_the_loss_of_the_whole_matrix_and_its_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found(name)
    assert len(whole) > 2
    monkeypatch.setattr(blocks, "SIMILARITIES", FEW)
    cut = found(name)
    assert cut.keys() == whole.keys()
    for key, value in whole.items():
        assert value.abs().max() > 1e-6, key
        torch.testing.assert_close(cut[key], value, rtol=1e-12, atol=1e-14, msg=f"{name}: {key}")


@pytest.mark.parametrize("loss", [contrast, contrast_of_twins, sigmoid_of_twins])
def test_no_more_similarities_are_held_than_fit(loss: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the forward pass nor in the backward pass, with features narrower than a block."""
    rows, at_once = 256, 4096
    generator = torch.Generator().manual_seed(1)
    leaves = {
        name: torch.nn.functional.normalize(torch.randn(rows, 4, generator=generator), dim=1).requires_grad_()
        for name in ("left", "right")
    }
    given = values() | leaves | {"keys": torch.arange(rows) // 2, "valid": torch.arange(rows) % 5 > 0}
    sizes = []
    for limit in (blocks.SIMILARITIES, at_once):
        monkeypatch.setattr(blocks, "SIMILARITIES", limit)
        with Largest() as largest:
            loss(given).backward()
        sizes.append(largest.numbers)
    assert sizes == [rows * rows, at_once]


def test_a_matrix_that_fits_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def doubled(rows: Tensor) -> Tensor:
        calls.append(len(rows))
        return 2 * rows.sum(dim=1)

    rows = torch.ones(5, 3, requires_grad=True)
    monkeypatch.setattr(blocks, "SIMILARITIES", 20)
    torch.cat(by_blocks(doubled, [rows], 4)).sum().backward()
    assert calls == [5]
    monkeypatch.setattr(blocks, "SIMILARITIES", 19)
    assert torch.equal(torch.cat(by_blocks(doubled, [rows], 4)), torch.full((5,), 6.0))
    assert calls == [5, 4, 1]
    # One row of more columns than fit is a block of its own.
    assert len(by_blocks(doubled, [rows], 100)) == 5


def work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    blocks.SIMILARITIES = FEW
    with group(rank, world, folder):
        torch.save({name: found(name, rank, world) for name in LOSSES}, folder / f"{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_blocks_of_several_workers_give_the_whole_matrix_of_one_process(world: int, tmp_path: Path) -> None:
    multiprocessing.start_processes(work, (world, tmp_path), nprocs=world, start_method="spawn")
    workers = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world)]
    for name in LOSSES:
        for key, value in found(name).items():
            # What DDP makes of the gradients.
            mean = sum(worker[name][key] for worker in workers) / world
            torch.testing.assert_close(mean, value, rtol=1e-12, atol=1e-14, msg=f"{name}: {key}")
