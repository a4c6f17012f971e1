"""A crew of workers: hands them batches, replaces those that die, and finds the item that a worker died of."""

import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipelines.errors import UserError
from pipelines.workers.worker import Worker, WorkerGone

logger = logging.getLogger(__name__)

WORKER_DIED = "worker_died"


@dataclass(frozen=True)
class Lost:
    """In place of an item's outcome: the item ended its worker. A stage counts it as failed, with this reason."""

    reason: str = WORKER_DIED


class Crew:
    """Threads of this process, each with a worker of its own, which it asks, and replaces when it dies.

    Args:
        begin: Starts the worker of a place, counted from 0.
        count: Of the workers; one is started when there is a batch for it.
    """

    def __init__(self, begin: Callable[[int], Worker], count: int) -> None:
        self.count = count
        self._begin = begin
        self._places = itertools.count()
        self._own = threading.local()
        self._running: list[Worker] = []
        self._is_ended = False
        self._lock = threading.Lock()
        # A worker is ready before its thread takes a batch: none waits for an actor that no node has room for.
        self._threads = ThreadPoolExecutor(count, "worker", initializer=self._take_place)

    def submit(self, batch: Sequence[Any]) -> "Future[list[Any]]":
        """The outcomes of a batch, in the order of its items: what the batch function says of each, or `Lost`."""
        return self._threads.submit(self._outcomes, batch)

    def end(self, *, at_once: bool) -> None:
        """End all workers; `at_once` also those that work."""
        with self._lock:
            self._is_ended = True
            running = list(self._running)
        self._threads.shutdown(wait=False, cancel_futures=True)
        if not at_once:
            for worker in running:
                worker.dismiss()
        for worker in running:
            worker.kill()
        self._threads.shutdown()

    def _take_place(self) -> None:
        self._own.place = next(self._places)
        self._own.worker, self._own.fault = None, None
        try:
            self._own.worker = self._started()
        except Exception as error:  # noqa: BLE001 - an executor would hide it; the first batch raises it
            self._own.fault = error

    def _outcomes(self, batch: Sequence[Any]) -> list[Any]:
        for _ in range(2):
            try:
                return self._ask(batch)
            except WorkerGone:
                pass
        return [Lost()] if len(batch) == 1 else [self._outcome(item) for item in batch]

    def _outcome(self, item: Any) -> Any:
        try:
            return self._ask([item])[0]
        except WorkerGone:
            return Lost()

    def _ask(self, items: Sequence[Any]) -> list[Any]:
        if self._own.fault is not None:
            raise self._own.fault
        if self._own.worker is None:
            self._own.worker = self._started()
        worker: Worker = self._own.worker
        try:
            outcomes = worker.ask(items)
        except WorkerGone as gone:
            self._own.worker = None
            self._drop(worker)
            logger.warning("a worker died (%s) with %d items at hand", gone, len(items))
            raise
        if len(outcomes) != len(items):
            raise AssertionError(f"{len(items)} items, {len(outcomes)} outcomes")
        return outcomes

    def _started(self) -> Worker:
        try:
            return self._start()
        except WorkerGone:
            pass
        try:
            return self._start()
        except WorkerGone as gone:
            if gone.__cause__ is not None:
                raise gone.__cause__ from None
            raise UserError(
                f"a worker died twice as it started ({gone}), perhaps for want of memory: lower workers.processes"
            ) from None

    def _start(self) -> Worker:
        with self._lock:
            if self._is_ended:
                raise _StageEnds
            worker = self._begin(self._own.place)
            self._running.append(worker)
        try:
            worker.wait_until_built()
        except WorkerGone:
            self._drop(worker)
            raise
        return worker

    def _drop(self, worker: Worker) -> None:
        with self._lock:
            if self._is_ended:
                raise _StageEnds
            self._running.remove(worker)
        worker.kill()


class _StageEnds(Exception):
    """Nobody waits for the answer any more."""
