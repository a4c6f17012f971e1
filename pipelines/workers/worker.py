"""What the engine asks of a worker, and what a worker does, wherever it runs."""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol


class WorkerGone(Exception):
    """A worker died: killed, crashed, or with its node. Its text says how; its cause is the cluster's own error."""


class Worker(Protocol):
    """A process or an actor as this process sees it; one thread at a time asks it."""

    def wait_until_built(self) -> None:
        """Return once it can be asked; what building raised is raised, and `WorkerGone` if it died."""

    def ask(self, items: Sequence[Any]) -> list[Any]:
        """The outcomes of a batch; what the batch function raised is raised, and `WorkerGone` if the worker died."""

    def dismiss(self) -> None:
        """Let it end by itself, when nobody asks it any more; `kill` then gives it some seconds for that."""

    def kill(self) -> None:
        """End it at once, whatever it does; a thread that waits for it gets `WorkerGone`."""


class Workplace:
    """The inside of a worker: the batch function, once it is built.

    Args:
        make: Pickled; called without arguments, it gives the batch function.
        folder: The stage's, which relative paths start from.
    """

    def __init__(self, make: bytes, folder: Path) -> None:
        os.chdir(folder)
        self._make = make

    def build(self) -> None:
        # A call of its own: what the making of an actor raises looks like a death.
        self._function = pickle.loads(self._make)()

    def work(self, items: bytes) -> list[Any]:
        outcomes: list[Any] = self._function(pickle.loads(items))
        return outcomes


def as_bytes(items: Sequence[Any]) -> bytes:
    """A batch as `Workplace.work` takes it."""
    return pickle.dumps(list(items), pickle.HIGHEST_PROTOCOL)
