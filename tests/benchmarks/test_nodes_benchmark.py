"""benchmarks/nodes.py: what it takes from logs, progress files and checkpoints is what the stages write there."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file

from pipelines.train.progress import ProgressFile
from pipelines.workers.config import WorkersConfig
from pipelines.workers.engine import in_batches, in_workers
from tests.pipelines.workers.functions import Built, Doubling

NAMES = ("nodes", "cores", "ray_nodes")


@pytest.fixture
def nodes(scripts: tuple[ModuleType, ...]) -> ModuleType:
    return scripts[0]


def test_items_of_batches_that_died_are_read_from_the_log(
    nodes: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "5").write_text("x")
    function = Built(Doubling(notes=tmp_path, deadly_once=(5,)))
    list(in_workers(function, in_batches(range(12), 3), WorkersConfig(processes=2), items=12, worth=1))
    (tmp_path / "log").write_text(caplog.text)
    watch = nodes.Watch(None, tmp_path)
    assert nodes.done_again("proposals", watch, tmp_path / "log") == 3
    (tmp_path / "log").write_text("captions: 12 of 20, 1 s left (9.0/s)\n")
    assert nodes.done_again("proposals", watch, tmp_path / "log") == 0


def test_steps_that_were_done_twice_are_read_from_the_progress_file(nodes: ModuleType, tmp_path: Path) -> None:
    progress = ProgressFile(tmp_path / "data/cache/progress/clip-0.jsonl")
    progress.start("clip", {}, ["toys"])
    for step in (1, 2, 3, 4, 3, 4, 5):
        progress.point("steps", {"step": step, "loss": 0.5})
    progress.point("validation", {"step": 5, "loss": 0.5})
    with progress.path.open("a") as stream:
        stream.write('{"curve": "steps", "st')
    watch = nodes.Watch(None, tmp_path)
    watch.look()
    assert watch.steps == [1, 2, 3, 4, 3, 4, 5]
    # As the process that shows training in MLflow does at its end.
    progress.path.unlink()
    watch.look()
    assert nodes.done_again("train", watch, tmp_path / "no log") == 2
    rows = {("one process", "train"): {"items": "10"}}
    assert not nodes.is_half_done("train", tmp_path, watch, 99, rows)
    saved = tmp_path / "data/cache/train/clip-0/ray/checkpoint_manager_snapshot.json"
    saved.parent.mkdir(parents=True)
    saved.touch()
    assert nodes.is_half_done("train", tmp_path, watch, 99, rows)
    rows["one process", "train"]["items"] = "11"
    assert not nodes.is_half_done("train", tmp_path, watch, 99, rows)


def test_the_largest_difference_of_two_checkpoints(nodes: ModuleType, tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder, loss, weight in zip(folders, (0.5, 0.25), (1.0, -1.0), strict=True):
        folder.mkdir()
        points = [{"step": step, "loss": 2.0} for step in range(1, 11)] + [{"step": 11, "loss": loss}]
        (folder / "curve.json").write_text(json.dumps({"steps": points}))
        save_file({"same": torch.ones(2), "other": torch.tensor([0.0, weight])}, folder / "model.safetensors")
    found = nodes.differences(*folders)
    assert found == {"first_loss_difference": 0.0, "loss_difference": 0.25, "weight_difference": 2.0}
    assert tuple(found) == nodes.DIFFERENCES
