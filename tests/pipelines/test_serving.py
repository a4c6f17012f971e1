"""Commands that serve: a port that is taken is told before anything is loaded, and they end with their parent."""

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from pipelines.errors import UserError
from pipelines.serving import HOST, check_port

SERVER = """
import time
from pipelines.serving import end_with_parent
end_with_parent()
print("here", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("port", [70_000, -1])
def test_a_number_that_is_no_port_is_one_line(port: int) -> None:
    with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port} cannot be listened on .*TRY_PORT=") as told:
        check_port(port, "TRY_PORT")
    assert "\n" not in str(told.value)


def test_a_port_that_is_taken_is_one_line_and_a_free_one_passes() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"{port} cannot be listened on .*in use.*MODEL_PORT="):
            check_port(port, "MODEL_PORT")
    check_port(port, "MODEL_PORT")


def test_a_server_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SERVER!r}])"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "here\n"
    (child,) = psutil.Process(parent.pid).children()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert psutil.wait_procs([child], timeout=30)[1] == []
