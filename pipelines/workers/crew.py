"""A crew of workers: hands them batches, replaces those that die, and finds the item that a worker died of."""

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from pipelines.errors import UserError
from pipelines.workers.worker import Worker, WorkerGone

logger = logging.getLogger(__name__)

WORKER_DIED = "worker_died"


@dataclass(frozen=True)
class Lost:
    """In place of an item's outcome: the item ended its worker. A stage counts it as failed, with this reason."""

    reason: str = WORKER_DIED


@dataclass(eq=False)
class _Task:
    """A batch on its way, or an item of one whose workers died; `place` decides who comes first."""

    place: tuple[int, int]
    items: Sequence[Any]
    deaths: int = 0
    future: "Future[list[Any]]" = field(default_factory=Future)


class Crew:
    """Threads of this process, each with a worker of its own, which it asks, and replaces when it dies.

    A worker is ready before its thread takes a batch, and a thread whose worker died hands its batch back: nothing
    waits for an actor that no node has room for while others could work.

    Args:
        begin: Starts the worker of a place, counted from 0.
        count: Of the workers; one is started when there is a batch for it.
    """

    def __init__(self, begin: Callable[[int], Worker], count: int) -> None:
        self.count = count
        self._begin = begin
        self._numbers = itertools.count()
        self._tasks: queue.PriorityQueue[tuple[tuple[int, int], _Task | None]] = queue.PriorityQueue()
        self._threads: list[threading.Thread] = []
        self._running: list[Worker] = []
        self._is_ended = False
        self._lock = threading.Lock()

    def submit(self, batch: Sequence[Any]) -> "Future[list[Any]]":
        """The outcomes of a batch, in the order of its items: what the batch function says of each, or `Lost`."""
        task = _Task((next(self._numbers), 0), batch)
        self._put(task)
        if len(self._threads) < self.count:
            thread = threading.Thread(target=self._work, args=(len(self._threads),), name="worker", daemon=True)
            self._threads.append(thread)
            thread.start()
        return task.future

    def end(self, *, at_once: bool) -> None:
        """End all workers; `at_once` also those that work."""
        with self._lock:
            self._is_ended = True
            running = list(self._running)
        for number in range(len(self._threads)):
            self._tasks.put(((-1, number), None))  # before all batches
        if not at_once:
            for worker in running:
                worker.dismiss()
        for worker in running:
            worker.kill()
        for thread in self._threads:
            thread.join()

    def _put(self, task: _Task) -> None:
        self._tasks.put((task.place, task))

    def _work(self, number: int) -> None:
        """What a thread does until the stage ends."""
        worker: Worker | None = None
        fault: Exception | None = None
        while True:
            try:
                if worker is None and fault is None:
                    worker = self._started(number)
            except _StageEnds:
                return
            except Exception as error:  # noqa: BLE001 - the next batch raises it where somebody waits
                fault = error
            _, task = self._tasks.get()
            if task is None:
                return
            if worker is None:
                task.future.set_exception(fault)
                continue
            try:
                outcomes = worker.ask(task.items)
                if len(outcomes) != len(task.items):
                    raise AssertionError(f"{len(task.items)} items, {len(outcomes)} outcomes")
            except WorkerGone as gone:
                try:
                    self._drop(worker)
                except _StageEnds:
                    return
                worker = None
                logger.warning("a worker died (%s) with %d items at hand", gone, len(task.items))
                self._again(task)
            except Exception as error:  # noqa: BLE001 - as above
                task.future.set_exception(error)
            else:
                task.future.set_result(outcomes)

    def _again(self, task: _Task) -> None:
        """What becomes of a batch whose worker died: another gets it, then the items one by one, then it is lost."""
        task.deaths += 1
        if task.deaths < 2:
            self._put(task)
        elif len(task.items) == 1:
            task.future.set_result([Lost()])
        else:
            number = task.place[0]
            # One death more is the second.
            single = [_Task((number, place), [item], deaths=1) for place, item in enumerate(task.items, start=1)]
            join(task.future, [one.future for one in single])
            for one in single:
                self._put(one)

    def _started(self, number: int) -> Worker:
        try:
            return self._start(number)
        except WorkerGone:
            pass
        try:
            return self._start(number)
        except WorkerGone as gone:
            if gone.__cause__ is not None:
                raise gone.__cause__ from None
            raise UserError(
                f"a worker died twice as it started ({gone}), perhaps for want of memory: lower workers.processes"
            ) from None

    def _start(self, number: int) -> Worker:
        with self._lock:
            if self._is_ended:
                raise _StageEnds
            worker = self._begin(number)
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


def join(whole: "Future[list[Any]]", parts: "Sequence[Future[list[Any]]]") -> None:
    """Give a future the results of others, one after the other, or the first error, once all of them are there."""
    left, lock = [len(parts)], threading.Lock()

    def count(_: "Future[list[Any]]") -> None:
        with lock:
            left[0] -= 1
            if left[0]:
                return
        if errors := [error for part in parts if (error := part.exception()) is not None]:
            whole.set_exception(errors[0])
        else:
            whole.set_result([outcome for part in parts for outcome in part.result()])

    for part in parts:
        part.add_done_callback(count)


class _StageEnds(Exception):
    """Nobody waits for the answer any more."""
