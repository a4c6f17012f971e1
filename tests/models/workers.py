"""Two workers beside one process, for what is compared between them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing


@contextmanager
def group(rank: int, world: int, folder: Path) -> Iterator[None]:
    """The process group of `world` workers; one works without any."""
    if world > 1:
        # They meet in a file: a port could be another test's.
        dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world)
    yield
    if world > 1:
        dist.destroy_process_group()


def of_one_and_two(work: Callable[[int, int, Path], None], folder: Path) -> list[Any]:
    """What `work(rank, world, folder)` saves as `<world>-<rank>.pt` of one process, and of each of two."""
    work(0, 1, folder)
    multiprocessing.start_processes(work, (2, folder), nprocs=2, start_method="spawn")
    return [torch.load(folder / f"{name}.pt") for name in ("1-0", "2-0", "2-1")]
