"""`in_workers`: a batch function over many items, in this process, in processes of this host, or in Ray actors.

RAY_ADDRESS alone decides which of the last two. Each worker builds the batch function once, from settings that can be
pickled, so that models and caches in it are its own. Outcomes come in the order of the items, and are the same for any
number of workers where the function looks at one item at a time. What is wrong with an item is for the function to say
in its outcome; what it raises ends the stage.

A worker that dies (a crash, the kernel's killer, a lost node) costs its batch alone: a new worker gets the batch, and
if that dies too, the items one by one. The item that ends its worker even then is `Lost`.

At most four batches a worker are on their way, waiting or answered, however many items there are. Workers end with the
stage: when it is through, on Ctrl-C and SIGTERM, and when it is killed.

When workers are worth it: one costs its start, which is 0.9 to 1.1 seconds on the processor (Python, and the imports of
ingest, proposals or image shards; a host with 2 cores). So a stage says how many items are `worth` a worker: so many as
take no less than that with the smallest images that we know, the 96 pixels of the default study. Where there are not
two such shares, this process does the work.
"""

import os
import pickle
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from pipelines.ray_session import ray_session
from pipelines.workers.actors import ActorWorker
from pipelines.workers.config import WorkersConfig
from pipelines.workers.crew import Crew, Lost
from pipelines.workers.processes import ProcessWorker
from pipelines.workers.room import check_gpus, gpus_of, room_here, room_on_cluster, worker_environment

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

# Batches handed out per worker: others go on where the one whose turn it is takes long.
_IN_FLIGHT = 4
# Items of one file in a batch; a file of more is opened once for each so many.
_LONGEST = 512


def in_batches(
    items: Iterable[Item], size: int, file: Callable[[Item], Hashable] | None = None
) -> Iterator[list[Item]]:
    """Items in batches, in their order.

    Args:
        items: Those of one file stand together.
        size: Of a batch; it has more only where items of one file would be parted.
        file: Which file an item is of, so that it is opened by one worker alone; None: items are parted anywhere.
    """
    batch: list[Item] = []
    for item in items:
        if len(batch) >= size:
            is_of_last = file is not None and file(item) == file(batch[-1])
            if not is_of_last or len(batch) >= _LONGEST:
                yield batch
                batch = []
        batch.append(item)
    if batch:
        yield batch


def in_workers(
    make: Callable[[], Callable[[Sequence[Item]], list[Outcome]]],
    batches: Iterable[Sequence[Item]],
    workers: WorkersConfig,
    *,
    items: int,
    worth: int,
    gpus_each: float = 0,
) -> Generator[tuple[Item, Outcome | Lost], None, None]:
    """Each item with its outcome, in the order of the items. Closing it (`contextlib.closing`) ends the workers.

    Args:
        make: Gives the batch function; pickled, and called once in each worker.
        batches: Read as workers need them; `in_batches` makes them.
        workers: How many at most.
        items: How many items the batches have.
        worth: How many of them are worth a worker, as the module says.
        gpus_each: GPUs of a worker; fractions share one. With any, each item is worth a worker.

    Raises:
        UserError: The batch function or its making raised it, the GPUs are not enough, or a worker died twice before
            its first item.
        TemporaryError: The cluster is gone.
    """
    shares = items if gpus_each else items // worth
    if workers.number == 1 or shares < 2:
        yield from _in_this_process(make, batches)
    elif os.environ.get("RAY_ADDRESS"):
        data = pickle.dumps(make)
        with ray_session(workers.number):
            count = min(shares, workers.number or room_on_cluster(gpus_each))
            yield from _through(Crew(lambda place: ActorWorker(data, gpus_each), count), batches)
    else:
        count = min(shares, workers.number or room_here(gpus_each))
        check_gpus(count, gpus_each)
        if count == 1:
            yield from _in_this_process(make, batches)
            return
        data = pickle.dumps(make)
        with worker_environment(count):
            yield from _through(Crew(lambda place: ProcessWorker(data, gpus_of(place, gpus_each)), count), batches)


def _in_this_process(
    make: Callable[[], Callable[[Sequence[Item]], list[Outcome]]], batches: Iterable[Sequence[Item]]
) -> Generator[tuple[Item, Outcome], None, None]:
    function = make()
    for batch in batches:
        yield from zip(batch, function(batch), strict=True)


def _through(crew: Crew, batches: Iterable[Sequence[Item]]) -> Generator[tuple[Item, Any], None, None]:
    """Each item of the batches with its outcome from a crew, which ends with this generator."""
    waiting: deque[tuple[Sequence[Item], Future[list[Any]]]] = deque()

    def next_pairs() -> Iterator[tuple[Item, Any]]:
        first, future = waiting[0]
        outcomes = future.result()
        waiting.popleft()
        return zip(first, outcomes, strict=True)

    try:
        for batch in batches:
            if len(waiting) == _IN_FLIGHT * crew.count:
                yield from next_pairs()
            waiting.append((batch, crew.submit(batch)))
        while waiting:
            yield from next_pairs()
    finally:
        crew.end(at_once=bool(waiting))
