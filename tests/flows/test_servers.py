"""Flows and servers: where they listen, that they end on Ctrl-C with what they started, and a server that is late."""

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.processes import (
    environment,
    free_port,
    interrupt,
    is_loopback,
    listening,
    running,
    start_ignoring_interrupts,
    tree,
)

GRAPH = """
stages:
  wait:
    cmd: sleep 1000
    outs:
      - never
"""


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Whatever a failing test leaves running is killed."""
    try:
        yield process
    finally:
        for one in tree(process) if process.poll() is None else []:
            one.kill()


@pytest.fixture
def starting_flow(dvc_project: Callable[[str], Path], tmp_path: Path, repository: Path) -> subprocess.Popen[str]:
    """A flow whose one stage takes long, under Prefect's temporary server; started as a script's `&` does."""
    settings = environment(repository, PREFECT_HOME=str(tmp_path / "prefect"))
    command = [sys.executable, "-m", "flows.reproduce"]
    return start_ignoring_interrupts(command, cwd=dvc_project(GRAPH), env=settings, start_new_session=True)


@pytest.fixture
def flow(starting_flow: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """The flow when its stage runs."""
    while not running(starting_flow, "sleep"):
        assert starting_flow.poll() is None
        time.sleep(0.1)
    return starting_flow


@pytest.mark.slow
def test_a_flow_listens_on_loopback_and_an_interrupt_ends_all_of_it(flow: subprocess.Popen[str]) -> None:
    with ended(flow):
        found = listening(tree(flow))
        assert len(found) == 1, "Prefect's temporary server"
        assert is_loopback(found[0][1])
        assert interrupt(flow) == []
        assert flow.returncode == 130


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_of_a_flow_leaves_it_the_server_until_it_ends(
    flow: subprocess.Popen[str], number: signal.Signals, code: int
) -> None:
    """As Ctrl-C on a terminal, or a service manager."""
    with ended(flow):
        started = tree(flow)[1:]
        os.killpg(flow.pid, number)
        assert flow.wait(timeout=60) == code
        assert psutil.wait_procs(started, timeout=60)[1] == []


@pytest.mark.slow
def test_the_temporary_server_ends_with_a_flow_that_is_killed(flow: subprocess.Popen[str]) -> None:
    with ended(flow):
        servers = [one for one in tree(flow) if listening([one])]
        stage = running(flow, "sleep")
        assert (len(servers), len(stage)) == (1, 1)
        flow.kill()
        flow.wait()
        assert psutil.wait_procs(servers, timeout=30)[1] == []
        # DVC's process is another matter: a stage that was begun ends as DVC ends it.
        stage[0].kill()


@pytest.mark.slow
def test_the_temporary_server_ends_with_a_flow_that_is_killed_while_it_starts(
    starting_flow: subprocess.Popen[str],
) -> None:
    with ended(starting_flow):
        servers: list[psutil.Process] = []
        while not servers:
            assert starting_flow.poll() is None
            servers = running(starting_flow, "uvicorn")
        starting_flow.kill()
        starting_flow.wait()
        assert psutil.wait_procs(servers, timeout=30)[1] == []


@pytest.mark.slow
def test_a_temporary_server_that_is_late_is_one_line(
    dvc_project: Callable[[str], Path], tmp_path: Path, repository: Path
) -> None:
    settings = environment(
        repository, PREFECT_HOME=str(tmp_path / "prefect"), PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="1"
    )
    finished = subprocess.run(
        [sys.executable, "-m", "flows.reproduce"],
        cwd=dvc_project(GRAPH),
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 1
    (line,) = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: Prefect's temporary server was not ready after 1 s: set PREFECT_SERVER_EPHEMERAL_")
    assert "Traceback" not in finished.stderr


@pytest.mark.slow
def test_servers_of_make_ui_listen_on_loopback_and_end_on_an_interrupt(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "mlflow").mkdir(parents=True)
    (tmp_path / "data" / "report").mkdir()
    (tmp_path / "data" / "report" / "index.html").touch()
    mlflow, prefect, pages = free_port(), free_port(), free_port()
    command = [repository / "scripts" / "ui", "--mlflow-port", str(mlflow), "--prefect-port", str(prefect)]
    command += ["--pages-port", str(pages)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    settings = environment(repository, PREFECT_HOME=str(tmp_path / "prefect"), PATH=path)
    with ended(start_ignoring_interrupts(command, cwd=tmp_path, env=settings)) as process:
        wait_for(process, mlflow, prefect, pages)
        found = listening(tree(process))
        assert sorted(port for _, _, port in found) == sorted([mlflow, prefect, pages])
        assert all(is_loopback(address) for _, address, _ in found)
        assert interrupt(process) == []
        assert process.returncode == 0


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_ends_make_ui_on_the_ports_that_it_was_given(repository: Path, tmp_path: Path) -> None:
    for name in ("Makefile", "params.yaml", "pyproject.toml", "constraints.txt", "scripts"):
        (tmp_path / name).symlink_to(repository / name)
    (tmp_path / "data" / "report").mkdir(parents=True)
    (tmp_path / "data" / "report" / "index.html").touch()
    ports = {"MLFLOW_PORT": free_port(), "PREFECT_PORT": free_port(), "PAGES_PORT": free_port()}
    # The environment is this one; nothing is installed.
    command = ["make", "ui", "READY=Makefile", *(f"{name}={port}" for name, port in ports.items())]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    settings = environment(repository, PREFECT_HOME=str(tmp_path / "prefect"), PATH=path)
    ours, theirs = pty.openpty()
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "text": True}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=settings, start_new_session=True, preexec_fn=take_terminal, **streams
    )
    os.close(theirs)
    shown: list[bytes] = []
    reader = threading.Thread(target=read_terminal, args=(ours, shown))
    reader.start()
    with ended(process):
        wait_for(process, *ports.values())
        started = tree(process)[1:]
        os.write(ours, b"\x03")
        process.wait(60)
        assert psutil.wait_procs(started, timeout=60)[1] == []
    reader.join()
    os.close(ours)
    text = b"".join(shown).decode()
    assert f"Prefect: http://127.0.0.1:{ports['PREFECT_PORT']}" in text
    assert "error: " not in text, text


def take_terminal() -> None:
    """Make standard input the terminal of a new session, so that its Ctrl-C is one."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def read_terminal(descriptor: int, shown: list[bytes]) -> None:
    """Until the last process that holds its other side ended."""
    with contextlib.suppress(OSError):
        while data := os.read(descriptor, 65536):
            shown.append(data)


def wait_for(process: subprocess.Popen[str], mlflow: int, prefect: int, pages: int) -> None:
    paths = (f"{mlflow}/health", f"{prefect}/api/health", f"{pages}/report/index.html")
    while not all(answers(f"http://127.0.0.1:{path}") for path in paths):
        assert process.poll() is None
        time.sleep(0.5)


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except (urllib.error.URLError, TimeoutError):
        return False
    return True
