"""What a contrastive loss costs as the global batch grows to 32,768: blocks of similarities beside the whole matrix.

Writes  benchmarks/results/global_batch.csv: a row a measurement as it ends; those that have a row are not made again
Run     PYTHONPATH=. python benchmarks/global_batch.py [--largest 32768] [--dimensions 64]

One step is value and gradient of `models.losses.info_nce` (both directions) in one worker: its rows against those of
all, float32, on one thread, in a process of its own. Of several workers the first alone runs, in a process group of
torch's that has no others ("fake"): what it gathers from them is its own rows, and a sum over workers is its own part,
so that the loss is divided by their number here. Neither exchange nor the memory of the others is measured. `whole` is
the same function without a limit (`models/blocks.py`), left out where FACTOR matrices are more than MOST. Memory is the
growth of the process's peak over what it held with libraries and inputs; seconds are those on the processor.
"""

import argparse
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from header import header, last_commit
from runs import REPOSITORY, RESULTS, append, read
from torch.testing._internal.distributed.fake_pg import FakeStore

from models import blocks
from models.losses import info_nce

OUTPUT = RESULTS / "global_batch.csv"
BATCHES = (2048, 4096, 8192, 16384, 32768)
WORKERS = (8, 1)
# Whole matrices that a step holds at its peak: those of one direction, and softmax and gradient of the other.
FACTOR = 5
MOST = 8 * 2**30
BYTES = 4  # float32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=BATCHES[-1])
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    done = {(row["way"], int(row["workers"]), int(row["batch"])) for row in read(arguments.output)}
    head = header("PYTHONPATH=. python benchmarks/global_batch.py", last_commit(REPOSITORY, "models", "benchmarks"))
    for batch in (size for size in BATCHES if size <= arguments.largest):
        for workers in WORKERS:
            for way in ("blocks", "whole"):
                if (way, workers, batch) in done:
                    continue
                matrix = batch // workers * batch * BYTES
                row: dict[str, Any] = {"way": way, "workers": workers, "batch": batch, "matrix_mb": matrix >> 20}
                measured: dict[str, Any] = {"peak_memory_mb": "", "cpu_seconds": "", "loss": ""}
                if way == "blocks" or FACTOR * matrix <= MOST:
                    measured = in_a_process(way, workers, batch, arguments.dimensions)
                append(arguments.output, [row | measured], head)
                print(row | measured, flush=True)


def in_a_process(*arguments: Any) -> dict[str, Any]:
    """What `step` measures in a new process, so that its peak is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(step, *arguments).result()


def step(way: str, workers: int, batch: int, dimensions: int) -> dict[str, Any]:
    """Memory, seconds and the loss of the first worker."""
    torch.set_num_threads(1)
    if workers > 1:
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=workers)
    if way == "whole":
        blocks.SIMILARITIES = batch * batch
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.nn.functional.normalize(torch.randn(batch // workers, dimensions, generator=generator), dim=1)
        for _ in range(2)
    )
    # What torch loads at its first step is no part of the loss.
    info_nce(left[:8].clone().requires_grad_(), right[:8], 0.07).backward()
    held = peak_memory()
    begun = time.process_time()
    loss = info_nce(left.clone().requires_grad_(), right.clone().requires_grad_(), 0.07)
    loss.backward()
    seconds = time.process_time() - begun
    return {
        "peak_memory_mb": round(peak_memory() - held),
        "cpu_seconds": round(seconds, 2),
        "loss": f"{loss.item() / workers:.5f}",
    }


def peak_memory() -> float:
    """The largest resident set of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
