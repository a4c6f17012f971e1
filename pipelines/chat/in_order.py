"""Many items under way at a time, their answers in the order of the items."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from anyio.from_thread import start_blocking_portal

from pipelines.chat.client import Client

T = TypeVar("T")
R = TypeVar("R")

# Items that are read, scaled and waiting, for each request under way: enough that others can overtake slow answers.
_LOOK_AHEAD = 4


def answers_in_order(
    client: Client, answer: Callable[[T], Awaitable[R]], items: Iterable[T], concurrency: int
) -> Iterator[R]:
    """The answer to each item; requests are sent from an event loop in a thread of its own.

    Args:
        client: Sends them; open while the answers are read.
        answer: Runs in the event loop, for at most four times as many items at a time as requests are under way.
        items: Pulled in the caller's thread, no further ahead than that.
        concurrency: Requests under way at a time; `answer` sees to that.
    """
    pending: deque[Future[R]] = deque()
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(client):
        for item in items:
            pending.append(portal.start_task_soon(answer, item))
            while len(pending) >= _LOOK_AHEAD * concurrency or (pending and pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
