"""Captions by several workers: the bytes of one process; an image that ends its worker fails alone."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.captions import stage
from pipelines.captions.describe import Describer
from pipelines.captions.plan import ImageAndRegions
from pipelines.errors import UserError
from pipelines.records import CaptionRow
from tests.pipelines.captions.model_world import ModelWorld
from tests.pipelines.captions.world import World
from tests.recording_server import RecordingServer
from tests.workers import few_are_worth_a_worker


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few images are worth a worker, and a batch holds three."""
    few_are_worth_a_worker(monkeypatch, stage, 3)


@pytest.fixture
def pictures(tmp_path: Path) -> World:
    """20 images of all kinds: labelled, reported, normal and unknown, with up to two regions."""
    made = World(tmp_path)
    for n in range(20):
        columns = ({"labels": ["nodule"]}, {"report": f"Nodule {n} on the left."}, {"labels": []}, {})[n % 4]
        item = made.image(("train", "test")[n % 2], **columns)
        for x in range(n % 3):
            made.region(item, 5 + 30 * x, label="nodule" if x else None)
    return made


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(pictures: World) -> None:
    found = []
    for processes in (1, 2, 3):
        summary, rows = pictures.run(processes)
        told = {name: value for name, value in summary.items() if name not in ("seconds", "items_per_second")}
        del told["peak_memory_mb"]
        found.append((told, (pictures.folder / "captions.parquet").read_bytes()))
        assert len(rows) == summary["inputs"] == 39
    assert found[0] == found[1] == found[2]


class Mortal(Describer):
    """Ends its process at the images 3 and 7."""

    def __call__(self, pairs: Sequence[ImageAndRegions]) -> list[list[CaptionRow]]:
        if any(int(image.image_id, 16) in (3, 7) for image, _ in pairs):
            os._exit(9)
        return super().__call__(pairs)


@pytest.mark.slow
def test_an_image_that_ends_its_worker_fails_alone(pictures: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = pictures.run()
    monkeypatch.setattr(stage, "Describer", Mortal)
    summary, rows = pictures.run(2, max_failed_fraction=0.1)
    # Nothing is known of image 3, so that its row needs no answer; image 7 has one annotated region.
    lost = [f"{7:016x}", f"{7:016x}-0"]
    assert [row.item_id for row in rows.values() if row.status == "failed"] == lost
    for item in lost:
        row = rows[item]
        assert (row.reason, row.summary, row.region_caption) == ("worker_died", None, None)
        assert (row.basis, row.oracle) == (whole[item].basis, whole[item].oracle) == ("annotation", True)
    assert summary["reasons"] == {"failed": {"worker_died": 2}}
    assert list(rows) == list(whole)
    assert {item: row for item, row in rows.items() if item not in lost} == {
        item: row for item, row in whole.items() if item not in lost
    }
    (pictures.folder / "captions.parquet").unlink()
    with pytest.raises(UserError, match=r"captions: 1 of \d+ items failed \(worker_died 1\)"):
        pictures.run(2)
    assert not (pictures.folder / "captions.parquet").exists()


def test_a_captioner_that_sends_requests_has_no_workers(world: ModelWorld, server: RecordingServer) -> None:
    summary, _ = world.run(processes=2)
    assert (summary["inputs"], summary["ok"]) == (36, 36)
    assert summary["sent"] == len(server.requests) == 36  # counted by the captioner of this process
