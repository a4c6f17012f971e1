"""Local worker processes: the same table, one restart, and one line where a worker dies again."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from pipelines.errors import UserError
from pipelines.proposals.protocols import Proposal, Query
from tests.pipelines.proposals.proposals_world import World
from tests.processes import listening

ENTRY_POINT = f"""[medregion.proposers]
mortal = {__name__}:Mortal
"""


class Mortal:
    """A proposer whose process is killed as often as the file DEATHS has characters.

    It writes down where it and its siblings listen.
    """

    sees_annotations = False
    uses_phrases = False
    identity = "mortal"

    def __init__(self, options: dict[str, Any]) -> None:
        self.deaths = Path(options["deaths"])

    def propose(self, images: Sequence[Image.Image], queries: Sequence[Query]) -> Iterator[list[Proposal]]:
        # Other tests' servers may run beside the workers.
        others = self.deaths.with_name("OTHERS")
        known = others.read_text().split() if others.exists() else []
        children = psutil.Process(os.getppid()).children(recursive=True)
        workers = [child for child in children if str(child.pid) not in known]
        with self.deaths.with_name("LISTENING").open("a") as stream:
            stream.write(f"{len(workers)} processes: {listening(workers)}\n")
        if left := self.deaths.read_text():
            self.deaths.write_text(left[1:])
            os.kill(os.getpid(), signal.SIGKILL)
        return iter([[Proposal(box=(10.0, 10.0, 30.0, 30.0), score=0.5)]] * len(images))


@pytest.fixture
def mortal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Params of `Mortal`, which worker processes find as the plug-in of an installed package."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    package = tmp_path / "site" / "mortal-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mortal\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(ENTRY_POINT)
    monkeypatch.setattr(sys, "path", [*sys.path, str(package.parent)])
    (tmp_path / "DEATHS").touch()
    return {"proposers": ["mortal"], "options": {"mortal": {"deaths": str(tmp_path / "DEATHS")}}, "batch_size": 1}


@pytest.mark.slow
def test_a_worker_that_dies_once_is_started_again_and_the_table_is_that_of_one_process(
    world: World, tmp_path: Path, mortal: dict[str, Any]
) -> None:
    for split in ("train", "validation", "test"):
        world.box(world.image(split), 10, 10, 22, 22)
    for _ in range(5):
        world.image("test")
    world.run(**mortal)
    one = world.output.read_bytes()
    world.cache.unlink()
    (tmp_path / "LISTENING").unlink()
    (tmp_path / "OTHERS").write_text(" ".join(str(child.pid) for child in psutil.Process().children(recursive=True)))
    (tmp_path / "DEATHS").write_text("x")
    summary, _ = world.run(**mortal, workers=2)
    assert summary["answered"] == {"mortal": 8, "annotations": 1}
    assert world.output.read_bytes() == one
    # Two workers, and multiprocessing's tracker of what they share where this process had none.
    assert max(int(line.split()[0]) for line in (tmp_path / "LISTENING").read_text().splitlines()) in (2, 3)
    assert {line.split(": ")[1] for line in (tmp_path / "LISTENING").read_text().splitlines()} == {"[]"}

    world.cache.unlink()
    (tmp_path / "DEATHS").write_text("xxxx")
    with pytest.raises(UserError, match="a worker process died twice") as caught:
        world.run(**mortal, workers=2)
    assert "\n" not in str(caught.value)


# Two workers that have begun to wait, in a process that is killed before it can tell them to end.
KILLED_STAGE = """
import multiprocessing, os, signal, sys
from concurrent.futures import ProcessPoolExecutor
from pipelines.config import load
from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.workers import _build_runner

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    arguments = (load(ProposalsConfig, "proposals"), {}, context.Value("i", 0))
    pool = ProcessPoolExecutor(2, mp_context=context, initializer=_build_runner, initargs=arguments)
    print(*{pool.submit(os.getpid).result() for _ in range(8)}, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_workers_end_when_the_stage_is_killed(tmp_path: Path, repository: Path) -> None:
    script = tmp_path / "killed_stage.py"
    script.write_text(KILLED_STAGE)
    environment = os.environ | {"PYTHONPATH": str(repository)}
    stage = subprocess.run(
        [sys.executable, script], cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert stage.returncode == -signal.SIGKILL, stage.stderr
    workers = [psutil.Process(int(pid)) for pid in stage.stdout.split() if psutil.pid_exists(int(pid))]
    assert psutil.wait_procs(workers, timeout=10)[1] == []
