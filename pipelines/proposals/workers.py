"""Batches in Ray actors, which keep the models. They call the same `Annotator` as a run in one process."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipelines.errors import UserError
from pipelines.proposals.annotator import Annotator, Outcome, Task
from pipelines.proposals.config import ProposalsConfig
from pipelines.ray_session import ray_session

# Batches handed out per actor: one is worked on while the next is on its way.
_IN_FLIGHT = 2


def in_ray(
    batches: Iterable[Sequence[Task]], config: ProposalsConfig, roots: dict[str, Path]
) -> Iterator[list[Outcome]]:
    """Outcomes of each batch, in the order of the batches, from `config.workers` actors.

    The actors run on this machine, or on the cluster that RAY_ADDRESS names; there, the sources' roots and models must
    lie at the same paths. An actor that dies is started again once.

    Raises:
        UserError: A plug-in refused its options on an actor, or this machine has fewer GPUs than the actors want.
    """
    _check_gpus(config)
    with ray_session(config.workers):
        yield from _work(batches, config, roots)


def _work(
    batches: Iterable[Sequence[Task]], config: ProposalsConfig, roots: dict[str, Path]
) -> Iterator[list[Outcome]]:
    import ray
    from ray.util import ActorPool

    try:
        actor = ray.remote(num_cpus=1, num_gpus=config.gpus_per_worker, max_restarts=1, max_task_retries=1)(_Actor)
        pool = ActorPool([actor.remote(config, roots, Path.cwd()) for _ in range(config.workers)])
        waiting = 0
        for batch in batches:
            if waiting == _IN_FLIGHT * config.workers:
                yield pool.get_next()
                waiting -= 1
            pool.submit(lambda actor, tasks: actor.work.remote(tasks), batch)
            waiting += 1
        while pool.has_next():
            yield pool.get_next()
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from None
        raise


class _Actor:
    """An `Annotator` of its own, in the working directory of the stage, which relative paths start from."""

    def __init__(self, config: ProposalsConfig, roots: dict[str, Path], here: Path) -> None:
        os.chdir(here)
        self._annotator = Annotator(config, roots)

    def work(self, tasks: Sequence[Task]) -> list[Outcome]:
        return self._annotator(tasks)


def _check_gpus(config: ProposalsConfig) -> None:
    """Refuse more GPUs than this machine has: an actor that waits for one that never comes would hang the stage."""
    if not config.gpus_per_worker or "RAY_ADDRESS" in os.environ:
        return
    import torch

    wanted, here = config.workers * config.gpus_per_worker, torch.cuda.device_count()
    if wanted > here:
        raise UserError(
            f"proposals: workers x gpus_per_worker want {wanted:g} GPUs, this machine has {here}: lower one of them"
        )
