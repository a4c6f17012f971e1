"""A real vLLM server on loopback with a tiny checkpoint; `make test-vllm`."""

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests import tiny_qwen
from tests.processes import free_port, start_ignoring_interrupts


@dataclass(frozen=True, kw_only=True)
class Server:
    """`scripts/vllm serve` in a process of its own.

    Attributes:
        url: Address without a path.
        process: The script; vLLM's processes are its children.
    """

    url: str
    process: subprocess.Popen[str]

    def stop(self, number: signal.Signals) -> list[psutil.Process]:
        """Send a signal to the script, wait until it has ended, and return what still runs of what it started."""
        started = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        self.process.wait(60)
        return psutil.wait_procs(started, timeout=5)[1]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-qwen2.5-vl"
    tiny_qwen.build(folder)
    return folder


@pytest.fixture(scope="session")
def script(repository: Path) -> Path:
    return repository / "scripts" / "vllm"


@pytest.fixture(scope="session")
def environment(script: Path) -> None:
    """The server's own environment, made here where it is absent, so that what pip prints is in no test's output."""
    subprocess.run([script, "env"], check=True)


def start(script: Path, model: Path, until: str, *flags: str) -> Server:
    """Start the script as another script's `&` does, and read what it prints until a line begins with `until`."""
    port = free_port()
    command = [script, "serve", "--model", model, "--port", str(port), *flags]
    process = start_ignoring_interrupts(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(until):
            return Server(url=f"http://127.0.0.1:{port}", process=process)
    raise AssertionError(f"the server did not start:\n{''.join(lines)}")


@pytest.fixture(scope="module")
def server(environment: None, script: Path, checkpoint: Path) -> Iterator[Server]:
    running = start(script, checkpoint, "serving", "--max-model-len=4096")
    yield running
    if running.process.poll() is None:
        running.stop(signal.SIGTERM)
