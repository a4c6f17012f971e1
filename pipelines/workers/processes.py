"""A worker that is a process of this host.

It is spawned, for a forked copy of a process that runs threads can hang, and imports nothing but what its batch
function needs. It ends with the stage, however that ends, and listens nowhere: both talk through a pair of sockets
without a name.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.logs import configure_logging
from pipelines.workers.worker import WorkerGone, Workplace, as_bytes

_SECONDS = 10  # in which a worker that was let go ends by itself
_CONTEXT = multiprocessing.get_context("spawn")


class ProcessWorker:
    """A process with a batch function.

    Args:
        make: Pickled; called without arguments in the process, it gives the batch function.
        gpus: The first of the GPUs that it sees, and how many; None: those of this process.
    """

    def __init__(self, make: bytes, gpus: tuple[int, int] | None = None) -> None:
        self._connection, theirs = _CONTEXT.Pipe()
        # A daemon is ended by Python at the latest when this process ends.
        self._process = _CONTEXT.Process(target=serve, args=(theirs, make, Path.cwd(), gpus), daemon=True)
        # A terminal sends Ctrl-C to workers too. They inherit that it is blocked: the stage gets it, and ends them. The
        # first worker would not, for starting multiprocessing's tracker takes the block away.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()  # else nobody would see the worker's end of it close when it dies

    def wait_until_built(self) -> None:
        self._answer()

    def ask(self, items: Sequence[Any]) -> list[Any]:
        data = as_bytes(items)
        try:
            self._connection.send_bytes(data)
        except OSError:
            raise self._gone() from None
        outcomes: list[Any] = self._answer()
        return outcomes

    def dismiss(self) -> None:
        self._connection.close()

    def kill(self) -> None:
        # The connection stays open until nobody holds it: a thread that reads it must not find another file there.
        if self._connection.closed:
            self._process.join(_SECONDS)
        self._process.kill()
        self._process.join()

    def _answer(self) -> Any:
        try:
            data = self._connection.recv_bytes()
        except (EOFError, OSError):
            raise self._gone() from None
        error, value = pickle.loads(data)
        if error is not None:
            raise error
        return value

    def _gone(self) -> WorkerGone:
        self._process.join(_SECONDS)
        code = self._process.exitcode
        return WorkerGone(f"signal {-code}" if code is not None and code < 0 else f"exit code {code}")


def serve(connection: Connection, make: bytes, folder: Path, gpus: tuple[int, int] | None) -> None:
    """Be a worker: build the batch function, and answer until the stage closes the connection or is gone.

    An answer is a pickled pair of an error or None, and a value: first None, once the function is built, then the
    outcomes of one batch after the other.
    """
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    configure_logging()
    if gpus is not None:
        _show_gpus(*gpus)
    place = Workplace(make, folder)
    answer = _attempt(place.build)
    while True:
        try:
            connection.send_bytes(answer)
            data = connection.recv_bytes()
        except (EOFError, OSError):
            return
        answer = _attempt(place.work, data)


def _attempt(work: Callable[..., Any], *arguments: bytes) -> bytes:
    try:
        return pickle.dumps((None, work(*arguments)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - whatever it is, the stage must hear of it
        words = "".join(traceback.format_exception(error))
        if not isinstance(error, UserError):
            error.add_note(f"in a worker:\n{words}")  # the traceback itself would be lost
        try:
            answer = pickle.dumps((error, None))
            pickle.loads(answer)
        except Exception:  # noqa: BLE001 - an error whose class has arguments of its own may not come back
            answer = pickle.dumps((RuntimeError(words), None))
        return answer


def _end_with_parent() -> None:
    """End this worker when the stage is gone: a killed stage cannot tell its workers, and a batch may take long."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


def _show_gpus(first: int, count: int) -> None:
    """Show this process some of the GPUs alone, before torch is imported, which reads the variable once."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(number) for number in range(first + count)]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + count])
