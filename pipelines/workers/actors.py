"""A worker that is an actor of Ray, on whichever node has room.

Actors and not `map_batches` of Ray Data: it is known which items an actor had when it died, and batches come back in
their order without becoming Arrow tables on the way. Ray Data (2.60) takes a quarter longer for image shards, and tries
a batch that ends its worker again without end (benchmarks/results/ray_data.csv).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.ray_session import died
from pipelines.workers.worker import WorkerGone, Workplace, as_bytes


class ActorWorker:
    """An actor with a batch function; Ray is connected.

    Args:
        make: Pickled; called without arguments in the actor, it gives the batch function.
        gpus: That it reserves; fractions share one.
    """

    def __init__(self, make: bytes, gpus: float) -> None:
        import ray

        actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(Workplace)
        self._actor: Any = actor.remote(make, Path.cwd())

    def wait_until_built(self) -> None:
        self._result(self._actor.build.remote())

    def ask(self, items: Sequence[Any]) -> list[Any]:
        outcomes: list[Any] = self._result(self._actor.work.remote(as_bytes(items)))
        return outcomes

    def dismiss(self) -> None:
        """An actor holds nothing that `kill` would lose."""

    def kill(self) -> None:
        import ray

        ray.kill(self._actor)

    def _result(self, reference: Any) -> Any:
        import ray

        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            if died(error):
                raise WorkerGone(type(error).__name__) from error
            raise
