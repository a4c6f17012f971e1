"""Ctrl-C ends a command that a script started with `&`, which ignores it, and what the command started."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.processes import environment, start_ignoring_interrupts

COMMAND = """
import subprocess, time
from pipelines.stage import command

def main():
    try:
        work()
    finally:
        print("tidied", flush=True)

def work():
    subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print("works", flush=True)
    time.sleep(1000)

command(main)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_was_started_to_ignore_an_interrupt_ends_tidily_without_a_traceback(
    repository: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start_ignoring_interrupts(
        [sys.executable, "-c", COMMAND],
        cwd=tmp_path,
        env=environment(repository),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "works\n"
    (child,) = psutil.Process(process.pid).children()
    # As a terminal does: to the command and to what it started.
    child.send_signal(number)
    process.send_signal(number)
    output, error = process.communicate(timeout=60)
    assert (process.returncode, output, error) == (code, "tidied\n", "")
    assert psutil.wait_procs([child], timeout=10)[1] == []
