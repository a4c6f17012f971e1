"""The engine with actors of Ray: what processes do, actors do; a node that is killed costs no outcome."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.errors import UserError
from pipelines.workers.config import WorkersConfig
from pipelines.workers.crew import Lost
from pipelines.workers.engine import in_batches, in_workers
from tests.pipelines.workers.functions import Built, Doubling
from tests.processes import environment, free_port

pytestmark = pytest.mark.slow


def work(function: Doubling, count: int, **making: bool) -> list[Any]:
    pairs = in_workers(
        Built(function, **making), in_batches(range(count), 4), WorkersConfig(processes=2), items=count, worth=1
    )
    with closing(pairs):
        return list(pairs)


def test_actors_do_what_processes_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    (tmp_path / "5").write_text("x")
    found = work(Doubling(notes=tmp_path, deadly=(13,), deadly_once=(5,)), 24)
    assert [item for item, _ in found] == list(range(24))
    assert [item for item, outcome in found if isinstance(outcome, Lost)] == [13]
    assert all(outcome[0] == 2 * item for item, outcome in found if item != 13)
    assert os.getpid() not in {outcome[1] for item, outcome in found if item != 13}
    with pytest.raises(UserError, match=r"^9 is wrong: choose another$"):
        work(Doubling(notes=tmp_path, wrong=9), 24)
    with pytest.raises(UserError, match=r"^an option is wrong: choose another$"):
        work(Doubling(notes=tmp_path), 24, refused=True)


@pytest.fixture
def cluster(tmp_path: Path, repository: Path) -> Iterator[dict[str, str]]:
    """Two nodes with one CPU each on this host; the environment that reaches them."""
    (tmp_path / "token").write_text("0" * 64)
    port = free_port()
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    known = environment(repository, RAY_USAGE_STATS_ENABLED="0", **variables)
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--num-cpus=1", "--block", "--disable-usage-stats"]
    places = [["--head", f"--port={port}", "--include-dashboard=false"], [f"--address=127.0.0.1:{port}"]]
    nodes = []
    try:
        for place in places:
            node = subprocess.Popen([*ray, "--node-ip-address=127.0.0.1", *place], env=known, stdout=subprocess.DEVNULL)
            nodes.append(node)
            # A node that starts while there is no head gives up.
            for _ in range(600):
                assert node.poll() is None, "a node ended"
                if any(child.name() == "raylet" for child in psutil.Process(node.pid).children(recursive=True)):
                    break
                time.sleep(0.1)
        (tmp_path / "second").write_text(str(nodes[1].pid))
        yield known | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        for node in nodes:
            started = psutil.Process(node.pid).children(recursive=True) if node.poll() is None else []
            for process in [*started, node]:
                process.kill()
            node.wait()


STAGE = """
import sys, time
from contextlib import closing
from pathlib import Path
from pipelines.stage import command
from pipelines.workers.config import WorkersConfig
from pipelines.workers.engine import in_batches, in_workers
from tests.pipelines.workers.functions import Built, Doubling

def main():
    function = Built(Doubling(notes=Path.cwd(), slow=tuple((item, 0.2) for item in range(60))))
    work = in_workers(function, in_batches(range(60), 2), WorkersConfig(processes=2), items=60, worth=1)
    with closing(work) as pairs:
        for item, outcome in pairs:
            print(item, *outcome, flush=True)

if __name__ == "__main__":
    command(main)
"""


def test_a_node_that_is_killed_half_way_costs_no_outcome(tmp_path: Path, cluster: dict[str, str]) -> None:
    (tmp_path / "stage_script.py").write_text(STAGE)
    words = [sys.executable, "stage_script.py"]
    stage = subprocess.Popen(words, cwd=tmp_path, env=cluster, stdout=subprocess.PIPE, text=True)
    assert stage.stdout is not None
    lines = []
    for line in stage.stdout:
        lines.append(line.split())
        second = int((tmp_path / "second").read_text())
        node = {child.pid for child in psutil.Process(second).children(recursive=True)} if second else set()
        if second and any(int(pid) in node for _, _, pid in lines):
            for pid in [*node, second]:
                os.kill(pid, signal.SIGKILL)
            (tmp_path / "second").write_text("0")
    assert stage.wait(timeout=60) == 0
    assert (tmp_path / "second").read_text() == "0"
    assert [(int(item), int(twice)) for item, twice, _ in lines] == [(item, 2 * item) for item in range(60)]
