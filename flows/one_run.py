"""One run in a workspace at a time, whoever started it: a deployment, a schedule, or a command."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

# The kernel releases the lock with the process that holds it, killed or not.
_LOCK = Path(".dvc/tmp/medregion-run.lock")
_HOLDER = Path(".dvc/tmp/medregion-run.txt")


@contextmanager
def one_run(project: Path, name: str, say: Callable[[str], object]) -> Iterator[None]:
    """Hold the workspace; while another run holds it, wait.

    Args:
        project: The workspace; a folder that is none of DVC's has nothing to guard.
        name: What runs, for those who wait.
        say: Gets the one line that a run waits, and for which.
    """
    if not (project / ".dvc").is_dir():
        yield
        return
    (project / _LOCK).parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(project / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another run works in this workspace ({_holder(project)}): waiting until it ends")
        lock.acquire(poll_interval=0.5)
    try:
        (project / _HOLDER).write_text(f"{name}, process {os.getpid()}", encoding="utf-8")
        yield
    finally:
        (project / _HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(project: Path) -> str:
    try:
        return (project / _HOLDER).read_text(encoding="utf-8")
    except OSError:
        return "it has just begun, or just ends"
