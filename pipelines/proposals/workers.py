"""Batches in several workers, each with the plug-ins in its memory: local processes, or actors of a Ray cluster.

Both call the same `ProposalRunner` as a run in one process.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.runner import Outcome, ProposalRunner, WorkItem
from pipelines.ray_session import ray_session
from pipelines.sources import Sources

# Batches handed out per worker: one is worked on while the next is on its way.
_IN_FLIGHT = 2

Batch = Sequence[WorkItem]


def in_workers(batches: Iterable[Batch], config: ProposalsConfig, sources: Sources) -> Iterator[list[Outcome]]:
    """Outcomes of each batch, in the order of the batches, from `config.workers` workers.

    The workers are processes of this machine, or actors on the cluster that RAY_ADDRESS names; there, the sources'
    roots and models must lie at the same paths. A worker that dies is started again once.

    Raises:
        UserError: A plug-in refused its options in a worker, this machine has fewer GPUs than the workers need, or a
            worker died again.
    """
    if os.environ.get("RAY_ADDRESS"):
        with ray_session(config.workers):
            yield from _in_ray(batches, config, sources)
    else:
        _check_gpus(config)
        yield from _in_processes(batches, config, sources)


def _in_processes(batches: Iterable[Batch], config: ProposalsConfig, sources: Sources) -> Iterator[list[Outcome]]:
    pool = _LocalPool(config, sources)
    try:
        with _threads_per_worker(config.workers):
            for batch in batches:
                if pool.waiting == _IN_FLIGHT * config.workers:
                    yield pool.next_outcomes()
                pool.submit(batch)
            while pool.waiting:
                yield pool.next_outcomes()
    finally:
        pool.close()


class _LocalPool:
    """Processes that answer batches in the order in which they were handed out."""

    def __init__(self, config: ProposalsConfig, sources: Sources) -> None:
        self._config, self._sources = config, sources
        self._batches: deque[tuple[Batch, Future[list[Outcome]]]] = deque()
        self._died = False
        self._executor = self._start()

    @property
    def waiting(self) -> int:
        return len(self._batches)

    def submit(self, batch: Batch) -> None:
        try:
            future = self._executor.submit(_run_batch, batch)
        except BrokenProcessPool:
            self._restart()
            future = self._executor.submit(_run_batch, batch)
        self._batches.append((batch, future))

    def next_outcomes(self) -> list[Outcome]:
        """Outcomes of the batch that was handed out first, which is no longer waiting then."""
        try:
            outcomes = self._batches[0][1].result()
        except BrokenProcessPool:
            self._restart()
            return self.next_outcomes()
        self._batches.popleft()
        return outcomes

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        # A forked copy of a process that runs threads can hang.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(
            self._config.workers,
            mp_context=context,
            initializer=_build_runner,
            initargs=(self._config, self._sources, context.Value("i", 0)),
        )

    def _restart(self) -> None:
        """Start anew and hand out again what was not answered; an executor is of no use once a process died."""
        if self._died:
            raise UserError(
                "proposals: a worker process died twice, perhaps for want of memory: lower proposals.workers or "
                "proposals.batch_size"
            )
        self._died = True
        self._executor.shutdown(cancel_futures=True)
        self._executor = self._start()
        self._batches = deque((batch, self._executor.submit(_run_batch, batch)) for batch, _ in self._batches)


@contextmanager
def _threads_per_worker(workers: int) -> Iterator[None]:
    """Share the cores: libraries read these variables when a worker process loads them."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(max(1, (os.cpu_count() or 1) // workers))))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


# The runner of a worker process, which builds it once.
_runner: ProposalRunner | None = None


def _build_runner(config: ProposalsConfig, sources: Sources, started: Any) -> None:
    """Build this worker process's runner; `started` counts the processes, so that each takes GPUs of its own."""
    global _runner
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    with started.get_lock():
        number = started.value
        started.value += 1
    if config.gpus_per_worker:
        _take_gpus(int(number * config.gpus_per_worker), max(1, int(config.gpus_per_worker)))
    _runner = ProposalRunner(config, sources)


def _end_with_parent() -> None:
    """End this worker when the stage is gone: a killed stage cannot tell its workers, which would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


def _take_gpus(first: int, count: int) -> None:
    """Show this process some of the GPUs alone, before torch is imported, which reads the variable once."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(number) for number in range(first + count)]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + count])


def _run_batch(batch: Batch) -> list[Outcome]:
    assert _runner is not None, "the pool's initializer builds it"
    return _runner(batch)


def _in_ray(batches: Iterable[Batch], config: ProposalsConfig, sources: Sources) -> Iterator[list[Outcome]]:
    import ray
    from ray.util import ActorPool

    try:
        actor = ray.remote(num_cpus=1, num_gpus=config.gpus_per_worker, max_restarts=1, max_task_retries=1)(_Actor)
        pool = ActorPool([actor.remote(config, sources, Path.cwd()) for _ in range(config.workers)])
        waiting = 0
        for batch in batches:
            if waiting == _IN_FLIGHT * config.workers:
                yield pool.get_next()
                waiting -= 1
            pool.submit(lambda actor, items: actor.run.remote(items), batch)
            waiting += 1
        while pool.has_next():
            yield pool.get_next()
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from None
        raise


class _Actor:
    """A `ProposalRunner` of its own, in the working directory of the stage, which relative paths start from."""

    def __init__(self, config: ProposalsConfig, sources: Sources, working_directory: Path) -> None:
        os.chdir(working_directory)
        self._runner = ProposalRunner(config, sources)

    def run(self, batch: Batch) -> list[Outcome]:
        return self._runner(batch)


def _check_gpus(config: ProposalsConfig) -> None:
    """Refuse more GPUs than this machine has."""
    if not config.gpus_per_worker:
        return
    import torch

    needed, available = config.workers * config.gpus_per_worker, torch.cuda.device_count()
    if needed > available:
        raise UserError(
            f"proposals: workers x gpus_per_worker need {needed:g} GPUs, this machine has {available}: lower one"
        )
