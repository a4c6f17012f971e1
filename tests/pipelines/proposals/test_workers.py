"""Proposals in worker processes: the table of one process, a death that costs nothing, an image that is always one."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from pipelines.proposals import stage
from pipelines.proposals.protocols import Proposal, Query
from tests.pipelines.proposals.proposals_world import World
from tests.processes import listening
from tests.workers import few_are_worth_a_worker

ENTRY_POINT = f"""[medregion.proposers]
mortal = {__name__}:Mortal
"""


class Mortal:
    """A proposer whose process is killed as often as the file DEATHS has characters, and at each image of 40 pixels.

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
        left = self.deaths.read_text()
        if left or any(image.width == 40 for image in images):
            self.deaths.write_text(left[1:])
            os.kill(os.getpid(), signal.SIGKILL)
        return iter([[Proposal(box=(10.0, 10.0, 30.0, 30.0), score=0.5)]] * len(images))


@pytest.fixture
def mortal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Params of `Mortal`, which worker processes find as the plug-in of an installed package."""
    package = tmp_path / "site" / "mortal-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mortal\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(ENTRY_POINT)
    monkeypatch.setattr(sys, "path", [*sys.path, str(package.parent)])
    (tmp_path / "DEATHS").touch()
    few_are_worth_a_worker(monkeypatch, stage)
    return {"proposers": ["mortal"], "options": {"mortal": {"deaths": str(tmp_path / "DEATHS")}}, "batch_size": 1}


@pytest.mark.slow
def test_a_worker_that_dies_once_costs_nothing_and_the_table_is_that_of_one_process(
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
    summary, _ = world.run(**mortal, processes=2)
    assert summary["answered"] == {"mortal": 8, "annotations": 1}
    assert world.output.read_bytes() == one
    # Two workers, and multiprocessing's tracker of what they share where this process had none.
    assert max(int(line.split()[0]) for line in (tmp_path / "LISTENING").read_text().splitlines()) in (2, 3)
    assert {line.split(": ")[1] for line in (tmp_path / "LISTENING").read_text().splitlines()} == {"[]"}

    world.cache.unlink()
    Image.new("L", (40, 30), 99).save(world.root / "deadly.png")
    deadly = world.row("test", 40, 30, "deadly.png")
    summary, rows = world.run(**mortal, processes=2)
    assert (summary["inputs"], summary["ok"], summary["reasons"]) == (9, 8, {"failed": {"worker_died": 1}})
    assert deadly not in {row.image_id for row in rows}
    # The others' answers are kept.
    assert summary["answered"] == {"mortal": 8, "annotations": 1}
    assert world.output.read_bytes() == one
