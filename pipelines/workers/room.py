"""How many workers there is room for, and which part of this host each gets."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.errors import UserError

# Of glibc (mallopt(3)), in bytes: what is freed at the heap's end stays up to the first, and only pieces larger than
# the second, which is the most that glibc takes, come from outside of the heap.
_KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": 128 * 2**20, "MALLOC_MMAP_THRESHOLD_": 32 * 2**20}


def room_here(gpus_each: float) -> int:
    """Cores that this process may use; where workers need GPUs, as many as those are enough for."""
    cores = len(os.sched_getaffinity(0))
    return min(cores, max(1, int(_gpus_here() / gpus_each))) if gpus_each else cores


def room_on_cluster(gpus_each: float) -> int:
    """CPUs of the cluster that Ray is connected to; where workers need GPUs, as many as those are enough for."""
    import ray

    there = ray.cluster_resources()
    room = there.get("CPU", 1)
    return max(1, int(min(room, there.get("GPU", 0) / gpus_each) if gpus_each else room))


def check_gpus(count: int, gpus_each: float) -> None:
    """Refuse more GPUs than this machine has.

    Raises:
        UserError: So many workers need more.
    """
    if gpus_each and count * gpus_each > _gpus_here():
        raise UserError(
            f"{count} workers with {gpus_each:g} GPUs each need {count * gpus_each:g} GPUs, this machine has "
            f"{_gpus_here()}: lower workers.processes or proposals.gpus_per_worker"
        )


def gpus_of(place: int, gpus_each: float) -> tuple[int, int] | None:
    """The first GPU of the worker at a place, counted from 0, and how many it has; None without."""
    return (int(place * gpus_each), max(1, int(gpus_each))) if gpus_each else None


@contextmanager
def worker_environment(count: int) -> Iterator[None]:
    """Variables that a worker process reads when it starts: a share of the cores, and how it keeps memory.

    glibc gives each picture's memory back to the kernel and takes it anew, until a process has freed something large,
    as the imports of a stage happen to do and those of a worker do not: 1.2 million page faults for 1,000 pictures of
    512 pixels, and a fifth of the time.
    """
    threads = str(max(1, len(os.sched_getaffinity(0)) // count))
    settings = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    settings |= {name: os.environ.get(name, str(size)) for name, size in _KEPT_MEMORY.items()}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()
