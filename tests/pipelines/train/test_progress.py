"""The progress file of a run: what the stage appends, and what is read from it after a kill."""

import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.errors import UserError
from pipelines.tracking.progress import read_progress
from pipelines.train.progress import ProgressFile
from tests.pipelines.train.test_train_stage import settings, study, train

__all__ = ["study"]


def progress_of(study: Path) -> Path:
    (file,) = (study / "data/progress").glob("*.jsonl")
    return file


def test_the_stage_appends_both_curves_and_the_digest(study: Path) -> None:
    summary = train(study, settings())
    progress = read_progress(progress_of(study))
    assert progress is not None
    curve = json.loads((study / "data/checkpoints/regionmed_clip/curve.json").read_text())
    for name in ("steps", "validation"):
        points = [{**point} for point in progress.points[name].values()]
        for point in points:
            del point["time"], point["curve"]
        assert points == curve[name]
    assert progress.run == progress_of(study).stem
    assert progress.finished == summary["checkpoint_sha256"]
    assert not progress.runs
    assert progress.settings["engine"]["checkpoint_every"] == 2
    assert progress.settings["model"]["heads"] == 2


def test_a_loss_that_is_not_finite_is_the_reason_of_the_end(study: Path) -> None:
    values = settings()
    values["methods"]["regionmed_clip"]["training"]["phases"]["warm_up"]["learning_rate"] = 1e30
    with pytest.raises(UserError):
        train(study, values)
    progress = read_progress(progress_of(study))
    assert progress is not None
    assert progress.failed is not None
    assert "at step" in progress.failed


def test_training_goes_on_where_progress_cannot_be_written(study: Path, caplog: pytest.LogCaptureFixture) -> None:
    (study / "data/progress").write_text("no folder")
    with caplog.at_level(logging.WARNING, "pipelines.train.progress"):
        assert train(study, settings())["steps"] == 12
    assert len([line for line in caplog.messages if "cannot be written" in line]) == 1


def lines(*values: dict) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def start(when: int) -> dict:
    return {"time": when, "start": "clip-1", "method": "clip", "settings": {}, "process": [1, 0.0]}


def point(when: int, step: int, loss: float, curve: str = "steps") -> dict:
    return {"time": when, "curve": curve, "step": step, "phase": "p", "loss": loss, "terms": {"report": loss}}


def test_a_continued_run_counts_a_repeated_step_once_and_not_the_time_between(tmp_path: Path) -> None:
    file = tmp_path / "clip-1.jsonl"
    first = [start(1000), point(2000, 1, 4.0), point(3000, 2, 3.0), point(4000, 3, 2.0)]
    file.write_bytes(lines(*first) + b'{"time": 4500, "curve": "st')
    # The writer sees that a line was cut off.
    writer = ProgressFile(file)
    writer.point("steps", {"step": 4, "phase": "p", "loss": 1.0, "terms": {}})
    assert file.read_bytes().count(b"\n") == 6
    file.write_bytes(file.read_bytes()[: file.read_bytes().rindex(b'{"time"')])
    with file.open("ab") as stream:
        stream.write(lines(start(60_000), point(61_000, 3, 2.5), point(62_000, 4, 1.5)))
        stream.write(lines({"time": 63_000, "finished": "d"}))
    progress = read_progress(file)
    assert progress is not None
    assert {step: found["loss"] for step, found in progress.points["steps"].items()} == {1: 4.0, 2: 3.0, 3: 2.0, 4: 1.5}
    assert (progress.start, progress.end, progress.finished) == (1000, 63_000, "d")
    assert progress.seconds == 3.0 + 3.0


def test_whether_the_process_that_trains_is_there(tmp_path: Path) -> None:
    file = tmp_path / "clip-1.jsonl"
    ProgressFile(file).start("clip", {}, ["toys"])
    assert read_progress(file).runs  # this process
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = [child.pid, psutil.Process(child.pid).create_time()]
    file.write_bytes(lines({**start(1000), "process": process}))
    assert read_progress(file).runs
    # Its number was another process's before.
    file.write_bytes(lines({**start(1000), "process": [child.pid, process[1] - 100]}))
    assert not read_progress(file).runs
    file.write_bytes(lines({**start(1000), "process": process}))
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not read_progress(file).runs
    child.communicate()
    assert not read_progress(file).runs


def test_no_file_and_no_line_are_no_run(tmp_path: Path) -> None:
    assert read_progress(tmp_path / "x.jsonl") is None
    (tmp_path / "x.jsonl").write_bytes(b'{"time": 1, "sta')
    assert read_progress(tmp_path / "x.jsonl") is None
