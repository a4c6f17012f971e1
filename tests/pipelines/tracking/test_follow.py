"""A run that is followed: live, killed and continued, by several at once, and with MLflow out of reach."""

import json
import os
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from mlflow.entities import Run

from models import checkpoint
from models.verified import record
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.follow import LOG, follow, lasts
from pipelines.tracking.store import connect
from pipelines.tracking.sync import sync
from tests.pipelines.tracking.conftest import CONFIG

RUN = "clip-0123456789abcdef"
SETTINGS = {
    "model": {
        "image_encoder": {"architecture": {"hidden_size": 16}},
        "weights": "/home/somebody/SURNAME/w.safetensors",
    },
    "training": {"phases": {"warm_up": {"epochs": 1, "losses": ["report"]}}},
    "engine": {"seed": 3},
}
DEAD = [2**22 + 1, 0.0]  # above the largest number that Linux gives a process


def start(when: int, process: Any = DEAD) -> dict[str, Any]:
    return {"time": when, "start": RUN, "method": "clip", "settings": SETTINGS, "process": process}


def point(when: int, step: int, loss: float, curve: str = "steps") -> dict[str, Any]:
    values = {"time": when, "curve": curve, "step": step, "phase": "p", "loss": loss, "terms": {"report": loss}}
    return values | ({"lr": 0.1} if curve == "steps" else {})


FIRST = [start(1_000_000), point(1_001_000, 1, 4.0), point(1_002_000, 2, 3.0), point(1_002_500, 2, 3.5, "validation")]
SECOND = [start(2_000_000), point(2_001_000, 2, 3.1), point(2_002_000, 3, 2.0)]


def write(project: Path, *values: dict[str, Any]) -> Path:
    file = project / "data/cache/progress" / f"{RUN}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(value) + "\n" for value in values))
    return file


def runs(project: Path) -> list[Run]:
    client = connect(CONFIG, project)
    experiment = client.get_experiment_by_name("test")
    return client.search_runs([experiment.experiment_id]) if experiment else []


def points(project: Path, run: Run, name: str) -> list[tuple[int, int, float]]:
    history = connect(CONFIG, project).get_metric_history(run.info.run_id, name)
    return sorted((one.step, one.timestamp, one.value) for one in history)


def digest_of(project: Path) -> str:
    return checkpoint.digest(project / "data/checkpoints/clip")


def test_a_finished_run_holds_what_the_file_says(project: Path) -> None:
    file = write(project, *FIRST, {"time": 1_003_000, "finished": "d" * 64})
    follow(file, CONFIG, project, every=0.01)
    (run,) = runs(project)
    assert (run.info.start_time, run.info.end_time, run.info.status) == (1_000_000, 1_003_000, "FINISHED")
    assert points(project, run, "loss") == [(1, 1_001_000, 4.0), (2, 1_002_000, 3.0)]
    assert points(project, run, "validation/loss/report") == [(2, 1_002_500, 3.5)]
    assert points(project, run, "learning_rate")[0] == (1, 1_001_000, 0.1)
    tags = run.data.tags
    assert (tags["training_run"], tags["checkpoint_sha256"], tags["training_seconds"]) == (RUN, "d" * 64, "3")
    assert tags["mlflow.source.name"] == "python -m pipelines.train clip"
    assert tags["mlflow.user"]
    assert "trained on shards of" in tags["mlflow.note.content"]
    assert run.inputs.dataset_inputs[0].dataset.digest == tags["digest.shards"][:32]
    assert run.data.params == {
        "model.image_encoder.hidden_size": "16",
        "model.weights": "w.safetensors",
        "phases.warm_up.epochs": "1",
        "phases.warm_up.losses": "report",
        "engine.seed": "3",
    }
    assert not file.exists()
    assert (
        connect(CONFIG, project).get_experiment_by_name("test").tags["mlflow.experimentKind"].startswith("custom_model")
    )
    follow(file, CONFIG, project, every=0.01)  # there is nothing to follow any more
    assert len(runs(project)) == 1


def test_a_killed_run_goes_on_in_the_same_run_with_each_step_once(project: Path) -> None:
    file = write(project, *FIRST)
    follow(file, CONFIG, project, every=0.01)
    (killed,) = runs(project)
    assert (killed.info.status, killed.info.end_time) == ("KILLED", 1_002_500)
    # The file of the first part is lost, or not.
    for values in (SECOND, [*FIRST, *SECOND]):
        follow(write(project, *values), CONFIG, project, every=0.01)
    follow(write(project, *FIRST, *SECOND, {"time": 2_003_000, "finished": "d" * 64}), CONFIG, project, every=0.01)
    (run,) = runs(project)
    assert (run.info.run_id, run.info.status, run.info.end_time) == (killed.info.run_id, "FINISHED", 2_003_000)
    assert [one[::2] for one in points(project, run, "loss")] == [(1, 4.0), (2, 3.0), (3, 2.0)]
    assert run.data.tags["training_seconds"] == "6"  # 2.5 and 3 s, and not the hours between


def test_a_running_run_is_seen_and_a_failed_one_says_why(project: Path) -> None:
    process = [os.getpid(), psutil.Process().create_time()]
    file = write(project, start(1_000_000, process), *FIRST[1:])
    thread = threading.Thread(target=follow, args=(file, CONFIG, project), kwargs={"every": 0.02})
    thread.start()
    while not (found := runs(project)) or "loss" not in found[0].data.metrics:
        time.sleep(0.02)
    assert found[0].info.status == "RUNNING"
    assert found[0].info.end_time is None
    with file.open("a") as stream:
        stream.write(json.dumps(point(1_003_000, 3, 9.0)) + "\n")
        stream.write(json.dumps({"time": 1_004_000, "failed": "loss is nan at step 4 (p); images: ab"}) + "\n")
    thread.join()
    (run,) = runs(project)
    assert (run.info.status, run.info.end_time) == ("FAILED", 1_004_000)
    assert run.data.tags["failed"].startswith("loss is nan at step 4")
    assert [step for step, _, _ in points(project, run, "loss")] == [1, 2, 3]
    assert not file.exists()


def test_several_at_once_and_sync_make_one_run_and_one_version(project: Path) -> None:
    digest = digest_of(project)
    file = write(project, *FIRST, {"time": 1_003_000, "finished": digest})
    barrier = threading.Barrier(3)

    def wait_and(work: Any, *arguments: Any, **names: Any) -> None:
        barrier.wait()
        work(*arguments, **names)

    threads = [threading.Thread(target=wait_and, args=(follow, file, CONFIG, project, 0.01)) for _ in range(2)]
    threads.append(threading.Thread(target=wait_and, args=(sync, CONFIG, project)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = sync(CONFIG, project)
    assert (counts["runs_made"], counts["runs_completed"], counts["versions_made"]) == (0, 0, 0)
    (run,) = runs(project)
    assert (run.data.tags["checkpoint_sha256"], run.data.tags["training_run"]) == (digest, RUN)
    assert (run.info.start_time, run.info.end_time) == (1_000_000, 1_003_000)
    assert run.data.tags["model_artifact"] == "model"
    # The checkpoint's curve has the step 3, which the file has not.
    assert [step for step, _, _ in points(project, run, "loss")] == [1, 2, 3]
    assert len(connect(CONFIG, project).search_model_versions("name = 'test'")) == 1


def test_training_again_to_the_same_checkpoint_leaves_the_first_run(project: Path) -> None:
    digest = digest_of(project)
    sync(CONFIG, project)
    (first,) = runs(project)
    follow(write(project, *FIRST), CONFIG, project, every=0.01)
    assert len(runs(project)) == 2
    follow(write(project, *FIRST, *SECOND, {"time": 2_003_000, "finished": digest}), CONFIG, project, every=0.01)
    assert [run.info.run_id for run in runs(project)] == [first.info.run_id]


def test_a_restored_checkpoint_says_what_is_not_known_of_it(project: Path) -> None:
    digest = digest_of(project)
    sync(CONFIG, project)
    (run,) = runs(project)
    assert run.data.tags["training_seconds"] == "unknown"
    assert "How long it trained is unknown" in run.data.tags["mlflow.note.content"]
    assert "training_run" not in run.data.tags
    assert run.data.tags["checkpoint_sha256"] == digest


def test_a_restored_checkpoint_of_other_shards_has_no_digests_of_those_that_lie_there_now(project: Path) -> None:
    curve = project / "data/checkpoints/clip/curve.json"
    curve.write_text(json.dumps(json.loads(curve.read_text()) | {"shards": {"images": "0" * 64, "captions": "1" * 64}}))
    record(curve)
    sync(CONFIG, project)
    (run,) = runs(project)
    assert not [name for name in run.data.tags if name.startswith("digest.")]
    assert "mlflow.source.git.commit" not in run.data.tags
    assert (run.data.tags["git_dirty"], run.data.tags["sources"]) == ("unknown", "unknown")


def test_progress_files_of_trainings_that_will_not_go_on_are_deleted(project: Path) -> None:
    file = write(project, *FIRST)
    unfinished = project / "data/cache/train" / RUN
    unfinished.mkdir(parents=True)
    sync(CONFIG, project)
    assert file.exists()
    unfinished.rmdir()
    sync(CONFIG, project)
    assert not file.exists()
    assert [run.info.status for run in runs(project) if "training_run" in run.data.tags] == ["KILLED"]


def followed_in_vain(project: Path, config: TrackingConfig, fault: str) -> None:
    """A follower gives up, says so in the log, and leaves the file for `sync`."""
    digest = digest_of(project)
    file = write(project, *FIRST, {"time": 1_003_000, "finished": digest})
    follow(file, config, project, every=0.02)
    said = (project / LOG).read_text()
    assert fault in said
    assert said.splitlines()[-1].endswith("given up: `python -m pipelines.tracking` makes its run")
    assert file.exists()


def made_by_sync(project: Path) -> None:
    sync(CONFIG, project)
    (run,) = runs(project)
    assert (run.info.start_time, run.info.end_time) == (1_000_000, 1_003_000)
    assert [step for step, _, _ in points(project, run, "loss")] == [1, 2, 3]
    assert not list((project / "data/cache/progress").iterdir())


def test_a_server_that_is_down(project: Path) -> None:
    followed_in_vain(project, replace(CONFIG, uri="http://127.0.0.1:9"), "does not answer")
    made_by_sync(project)


def test_a_locked_database(project: Path) -> None:
    with closing(sqlite3.connect(project / "data/mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        followed_in_vain(project, CONFIG, "is locked by another program")
        other.execute("ROLLBACK")
    made_by_sync(project)


def test_a_damaged_database(project: Path) -> None:
    database = project / "data/mlflow.db"
    good = database.read_bytes()
    database.write_bytes(good[:5000])
    followed_in_vain(project, CONFIG, "is damaged")
    database.write_bytes(good)
    made_by_sync(project)


def test_a_file_whose_experiment_is_gone_still_makes_its_run(project: Path) -> None:
    file = write(project, *FIRST, {"time": 1_003_000, "finished": "d" * 64})
    gone = project / ".dvc/tmp/exps/standalone/tmpabc"
    follow(file, CONFIG, gone, every=0.01)
    (run,) = runs(project)
    assert run.data.tags["checkpoint_sha256"] == "d" * 64
    assert "digest.shards" not in run.data.tags


def test_a_training_that_ends_early_is_left_to_sync(project: Path) -> None:
    digest = digest_of(project)
    ended = write(project, *FIRST, {"time": 1_003_000, "finished": digest})
    assert not lasts(ended, seconds=60)
    ended.unlink()
    assert not lasts(ended, seconds=60)
    this = psutil.Process()
    running = write(project, start(1_000_000, [this.pid, this.create_time()]), *FIRST[1:])
    assert lasts(running, seconds=0)
    assert lasts(running, seconds=0.2, every=0.05)
