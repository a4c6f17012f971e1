"""A `dvc` process that ends with what started it: no stage, no lock and no half output of it stays."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import TRY_AGAIN

# Seconds until the next, stronger signal. Together they are fewer than the 30 that Prefect gives a run to end.
_PATIENCE = ((signal.SIGINT, 20), (signal.SIGTERM, 3), (signal.SIGKILL, 5))
_BEGINS = b"Running stage "
_EXIT_CODE = re.compile(r"exited with (\d+)")


def python_first() -> dict[str, str]:
    """This process's environment, in which `python` and `dvc` are those of its interpreter."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path}


@contextmanager
def dvc_process(project: Path, arguments: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A `dvc` process in the project's folder, its lines in `stdout`; it and what it started end with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=project,
        # Stages are written as `python -m ...`.
        env={**python_first(), "PYTHONUNBUFFERED": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_heed_interrupts,
    )
    assert process.stdout is not None
    try:
        yield process
        process.stdout.close()
        process.wait()
    finally:
        _end(process)


def _heed_interrupts() -> None:
    # What a script's `&` started ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(process: subprocess.Popen[str]) -> None:
    """End the process group of a process, and wait for it.

    Ctrl-C first: a stage deletes its temporary files, and DVC takes the stage for failed, gives its locks back and
    deletes the workspace of an experiment. SIGTERM would leave all of that to the next run.
    """
    assert process.stdout is not None
    if process.poll() is None and not process.stdout.closed:
        written = process.stdout.fileno()
        # A pipe holds no more than this: from here on lines are of what ran after the signal.
        if select.select([written], [], [], 0)[0]:
            os.read(written, 65536)
        # What is still written must not fill the pipe: who writes into a full one waits.
        threading.Thread(target=_stop_what_begins, args=(process.pid, os.dup(written)), daemon=True).start()
    for number, seconds in _PATIENCE if process.poll() is None else ():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if _ended(process, seconds):
            break
    # What a stage started and left behind; the number is not given again while one of the group lives.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    _ended(process, _PATIENCE[-1][1])


def _stop_what_begins(group: int, written: int) -> None:
    """Read what a process group still writes, and send Ctrl-C once more to each stage that begins.

    `dvc repro --keep-going` takes the first Ctrl-C for a stage that failed, and begins the next one.
    """
    with os.fdopen(written, "rb") as lines, contextlib.suppress(ProcessLookupError):
        for line in lines:
            if line.startswith(_BEGINS):
                os.killpg(group, signal.SIGINT)


def _ended(process: subprocess.Popen[str], seconds: float) -> bool:
    """Wait until the last of the group ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        process.poll()
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def may_pass_again(lines: list[str]) -> bool:
    """Whether a stage ended by a fault that may be gone the next time (`pipelines.errors.TRY_AGAIN`), as DVC says."""
    return any(code == str(TRY_AGAIN) for line in lines for code in _EXIT_CODE.findall(line))
