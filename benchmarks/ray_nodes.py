"""Two nodes of Ray on this host, the second of which may be killed and started anew: what a benchmark needs of them."""

import contextlib
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import psutil

from pipelines.errors import UserError
from pipelines.ray_session import ray_session

# Of loopback: two hosts in Ray's eyes, which takes 127.0.0.1 for the address of the network.
HEAD, SECOND = "127.0.0.2", "127.0.0.3"
# Titles of the processes that work: actors of pipelines/workers, and those of Ray Train.
TITLES = ("ray::Workplace", "ray::RayTrainWorker")
# In which a node is there, or its loss is noticed.
SECONDS = 120


class Node:
    """A node with one CPU: `ray start` and all that it starts."""

    def __init__(self, environment: Mapping[str, str], address: str, *place: str) -> None:
        ray = str(Path(sys.executable).with_name("ray"))
        words = [ray, "start", "--block", "--num-cpus=1", "--disable-usage-stats", f"--node-ip-address={address}"]
        self._started = psutil.Popen([*words, *place], env=environment, stdout=DEVNULL)
        end = time.monotonic() + SECONDS
        while not self.is_alive:
            # A node that starts while there is no head gives up.
            if self._started.poll() is not None or time.monotonic() > end:
                self.kill()
                raise UserError(f"no node of Ray came up on {address}")
            time.sleep(0.1)

    @property
    def is_alive(self) -> bool:
        """Whether it can have workers."""
        return any(words[0].endswith("/raylet") for words in self._lines().values())

    def workers(self) -> dict[psutil.Process, str]:
        """Its processes that work for a stage, with their titles, which say what they are at."""
        return {process: words[0] for process, words in self._lines().items() if words[0].startswith(TITLES)}

    def kill(self) -> None:
        """SIGKILL to all of its processes, as if its host were gone."""
        if self._started.poll() is None:
            for process in [*self._started.children(recursive=True), self._started]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._started.wait()

    def _lines(self) -> dict[psutil.Process, list[str]]:
        lines = {}
        if self._started.poll() is None:
            for process in self._started.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    lines[process] = process.cmdline() or [""]
        return lines


class Nodes:
    """A cluster of two nodes, and what it lets a stage know.

    Args:
        environment: Of the nodes; the token is named in it.
    """

    def __init__(self, environment: Mapping[str, str], temporary: str) -> None:
        with socket.socket() as found:
            found.bind((HEAD, 0))
            port = int(found.getsockname()[1])
        self._own, self._address = environment, f"{HEAD}:{port}"
        options = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={temporary}"]
        self.head = Node(environment, HEAD, *options)
        self.second: Node | None = None

    @property
    def environment(self) -> dict[str, str]:
        """With which a stage reaches the cluster."""
        return {**self._own, "RAY_ADDRESS": self._address}

    def start_second(self) -> None:
        """Start the second node, where there is none."""
        if self.second is None or not self.second.is_alive:
            self.second = Node(self._own, SECOND, f"--address={self._address}")

    def wait(self) -> None:
        """Return when both nodes, no other, and all their CPUs are there: a node that was killed is noticed late."""
        import ray

        end = time.monotonic() + SECONDS
        while sum(node["Alive"] for node in ray.nodes()) != 2 or ray.available_resources().get("CPU") != 2:
            if time.monotonic() > end:
                raise UserError("two nodes of Ray did not find each other")
            time.sleep(0.2)

    def kill(self) -> None:
        for node in (self.second, self.head):
            if node is not None:
                node.kill()

    @property
    def alive(self) -> int:
        """Nodes of which the daemon runs."""
        return sum(node is not None and node.is_alive for node in (self.head, self.second))


@contextlib.contextmanager
def two_nodes(environment: Mapping[str, str]) -> Iterator[Nodes]:
    """A cluster to which this process is connected too, so that it knows which nodes are there."""
    with tempfile.TemporaryDirectory(prefix="nodes-", ignore_cleanup_errors=True) as folder:
        token = Path(folder) / "token"
        with open(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(secrets.token_hex(32))
        variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
        nodes = Nodes({**environment, **variables}, folder)
        before = dict(os.environ)
        try:
            os.environ |= nodes.environment
            with ray_session():
                nodes.start_second()
                yield nodes
        finally:
            nodes.kill()
            os.environ.clear()
            os.environ |= before


def without_ray(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables without those that name a cluster."""
    return {name: value for name, value in environment.items() if not name.startswith("RAY_")}


def seconds_of(process: psutil.Process) -> float | None:
    """On the processor; None where it ended."""
    try:
        times: Any = process.cpu_times()
    except psutil.NoSuchProcess:
        return None
    return float(times.user + times.system)
