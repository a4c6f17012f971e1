"""Prefect's REST API as its page uses it, and a real server with a database of its own."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.lifecycle.study import environment
from tests.processes import free_port

FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Api:
    """The API of the server at an address."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        head = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.address}/api{path}", data, head, method=method)
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    text = answer.read()
                return json.loads(text) if text else None
            except urllib.error.HTTPError as error:
                # Its database is busy; Prefect's own client asks again, too.
                if error.code != 503 or time.monotonic() > end:
                    raise
                time.sleep(0.5)

    def refusal(self, path: str, body: Any) -> str:
        """What the server says to a request that it refuses."""
        try:
            self.ask(path, body)
        except urllib.error.HTTPError as error:
            return error.read().decode()
        raise AssertionError(f"{path} was accepted: {body}")

    def deployment(self, flow: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(f"/deployments/name/{flow}/medregion")
        return found

    def start(self, flow: str, **parameters: Any) -> str:
        """Start a run of a deployment, as the button does; its id."""
        path = f"/deployments/{self.deployment(flow)['id']}/create_flow_run"
        return str(self.ask(path, {"parameters": parameters})["id"])

    def move(self, run: str, state: str, name: str) -> None:
        """Ask for another state, as the buttons Cancel and Retry do."""
        answer = self.ask(f"/flow_runs/{run}/set_state", {"state": {"type": state, "name": name}})
        assert answer["status"] == "ACCEPT", answer

    def end(self, run: str, seconds: float = 180) -> dict[str, Any]:
        """The final state of a run."""
        return self.until(lambda: self._final(run), seconds, lambda: self.log(run))

    def _final(self, run: str) -> dict[str, Any] | None:
        state: dict[str, Any] = self.ask(f"/flow_runs/{run}")["state"]
        return state if state["type"] in FINAL else None

    @staticmethod
    def until(look: Any, seconds: float = 120, otherwise: Any = str) -> Any:
        """What is found first."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := look():
                return found
            time.sleep(0.2)
        raise AssertionError(f"not after {seconds} s: {otherwise()}")

    def log(self, run: str) -> list[str]:
        wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200, "sort": "TIMESTAMP_DESC"}
        return [line["message"] for line in self.ask("/logs/filter", wanted)]

    def tasks(self, run: str) -> dict[str, dict[str, Any]]:
        found = self.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return {task["name"]: task for task in found}

    def artifacts(self, run: str) -> dict[str, Any]:
        found = self.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
        return {one["key"]: one["data"] for one in found}


@contextmanager
def prefect_server(folder: Path) -> Iterator[Api]:
    """A server on loopback that keeps everything in a folder. Afterwards nothing of it runs any more."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    settings = environment() | {"PREFECT_HOME": str(folder), "PREFECT_UI_API_URL": f"{address}/api"}
    command = ["-m", "prefect", "server", "start", "--host=127.0.0.1", f"--port={port}"]
    with running([sys.executable, *command], folder, folder / "server.log", settings):
        Api.until(lambda: _answers(address), 180, lambda: (folder / "server.log").read_text()[-2000:])
        yield Api(address)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/api/health", timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def running(command: list[str], folder: Path, log: Path, settings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a folder, which Ctrl-C ends; it may leave no process of its own."""
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, cwd=folder, env=settings, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield process
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        _, left = psutil.wait_procs(started, timeout=30)
        assert left == [], log.read_text()[-2000:]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
