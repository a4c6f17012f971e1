"""A real MLflow server on loopback, and a study in a fresh clone whose runs are kept there."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from tests.lifecycle import study as small
from tests.processes import free_port


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. Afterwards nothing of it runs any more."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1",
        f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/artifacts",
    ]  # fmt: skip
    settings = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=settings, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(server, address, folder / "log")
        started = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        yield address
        server.terminate()
        _, left = psutil.wait_procs(started, timeout=30)
        assert left == [], "the server left processes"
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"no MLflow server after 120 s: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory, repository: Path, mlflow_server: str) -> Path:
    """A study whose `dvc repro` and runs are done, all of it committed; no test changes it."""
    folder = tmp_path_factory.mktemp("lifecycle") / "study"
    small.clone(repository, folder)
    settings = small.params(folder / "params.yaml", mlflow_server)
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    small.run("dvc", "repro", cwd=folder)
    small.run(sys.executable, "-m", "pipelines.tracking", cwd=folder)
    small.run("git", "add", "--all", cwd=folder)
    small.run("git", "commit", "--quiet", "--message", "The small study", cwd=folder)
    return folder


@pytest.fixture
def fresh_study(study: Path, tmp_path: Path, mlflow_server: str) -> Path:
    """A copy that a test may change, with an experiment and a registered model of its own."""
    return small.copy(study, tmp_path / "study", tmp_path.name)
