"""Local worker processes: the same table, one restart, and one line where a worker dies again."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.errors import UserError
from pipelines.proposals.protocols import Proposal, Query
from tests.pipelines.proposals.proposals_world import World

ENTRY_POINT = f"""[medregion.proposers]
mortal = {__name__}:Mortal
"""


class Mortal:
    """A proposer whose process is killed as often as the file DEATHS has characters."""

    sees_annotations = False
    uses_phrases = False
    identity = "mortal"

    def __init__(self, options: dict[str, Any]) -> None:
        self.deaths = Path(options["deaths"])

    def propose(self, images: Sequence[Image.Image], queries: Sequence[Query]) -> Iterator[list[Proposal]]:
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
    (tmp_path / "DEATHS").write_text("x")
    summary, _ = world.run(**mortal, workers=2)
    assert summary["answered"] == {"mortal": 8, "annotations": 1}
    assert world.output.read_bytes() == one

    world.cache.unlink()
    (tmp_path / "DEATHS").write_text("xxxx")
    with pytest.raises(UserError, match="a worker process died twice") as caught:
        world.run(**mortal, workers=2)
    assert "\n" not in str(caught.value)
