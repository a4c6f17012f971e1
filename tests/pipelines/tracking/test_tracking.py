"""Runs and versions from files, on a real sqlite store: made once, complete, and never twice."""

import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from models import checkpoint
from models.verified import record
from pipelines.errors import UserError
from pipelines.tracking import provenance, settings
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.names import metric_name
from pipelines.tracking.paths import without_machine_paths
from pipelines.tracking.pictures import log_pictures
from pipelines.tracking.store import connect, experiment_page
from pipelines.tracking.sync import sync
from tests.pipelines.evaluate.small_world import save_clip
from tests.pipelines.tracking.conftest import CONFIG, PARAMS


def runs(client: MlflowClient) -> list:
    experiment = client.get_experiment_by_name("test")
    return client.search_runs([experiment.experiment_id], run_view_type=ViewType.ACTIVE_ONLY)


def everything(client: MlflowClient) -> list:
    """All that the store says about the runs and versions."""
    found: list = [dict(version) for version in client.search_model_versions("name = 'test'")]
    for run in runs(client):
        found.append(run.to_dictionary())
        found.append(
            [dict(p) for name in sorted(run.data.metrics) for p in client.get_metric_history(run.info.run_id, name)]
        )
        found.append(sorted(file.path for file in client.list_artifacts(run.info.run_id, "model/artifacts/checkpoint")))
    return found


def test_a_second_sync_changes_nothing(project: Path) -> None:
    assert sync(CONFIG, project) == {
        "checkpoints": 1,
        "runs_made": 1,
        "runs_completed": 0,
        "versions_made": 1,
        "evaluations_logged": 1,
        "stale": 0,
    }
    client = connect(CONFIG, project)
    before = everything(client)
    assert sync(CONFIG, project) == {
        "checkpoints": 1,
        "runs_made": 0,
        "runs_completed": 0,
        "versions_made": 0,
        "evaluations_logged": 0,
        "stale": 0,
    }
    assert everything(client) == before
    (run,) = runs(client)
    digest = checkpoint.digest(project / "data/checkpoints/clip")
    assert run.data.tags["checkpoint_sha256"] == digest
    assert [point.value for point in client.get_metric_history(run.info.run_id, "loss")] == [3.0, 1.5, 1.0]
    validation = client.get_metric_history(run.info.run_id, "validation/loss/report")
    assert [(point.step, point.value) for point in validation] == [(3, 1.5)]
    assert run.data.metrics["validation/loss"] == 1.5
    scores = json.loads((project / "data/evaluation/clip/metrics.json").read_text())["tasks"]["retrieval"]["metrics"]
    assert run.data.metrics["retrieval/i2t_recall_at_5"] == scores["i2t_recall@5"]["value"]
    # A score is one metric; its interval and chance are in the table.
    assert not [name for name in run.data.metrics if name.startswith("retrieval/i2t_recall_at_5/")]
    assert run.data.tags["digest.shards"] == provenance.digests(project)["shards"]
    assert run.data.tags["digest.regions"] == "absent"
    assert run.inputs.dataset_inputs[0].dataset.digest == run.data.tags["digest.shards"][:32]


def test_a_restored_checkpoint_gets_its_run_back_and_the_version_its_bytes(project: Path, tmp_path: Path) -> None:
    sync(CONFIG, project)
    client = connect(CONFIG, project)
    client.delete_run(runs(client)[0].info.run_id)
    counts = sync(CONFIG, project)
    assert (counts["runs_made"], counts["versions_made"]) == (1, 0)
    (version,) = client.search_model_versions("name = 'test'")
    source = Path(version.source.removeprefix("file://")) / "artifacts/checkpoint"
    assert checkpoint.digest(source) == version.tags["checkpoint_sha256"]


def test_a_run_that_was_cut_off_is_completed(project: Path) -> None:
    sync(CONFIG, project)
    client = connect(CONFIG, project)
    before = everything(client)
    first = runs(client)[0].info.run_id
    client.delete_tag(first, "model_artifact")
    counts = sync(CONFIG, project)
    assert (counts["runs_made"], counts["runs_completed"]) == (0, 1)
    assert everything(client) == before


def test_a_new_checkpoint_and_a_new_evaluation_are_added(project: Path) -> None:
    sync(CONFIG, project)
    client = connect(CONFIG, project)
    metrics = project / "data/evaluation/clip/metrics.json"
    results = json.loads(metrics.read_text())
    results["items_sha256"] = "f" * 64
    metrics.write_text(json.dumps(results))
    record(metrics)
    assert sync(CONFIG, project)["evaluations_logged"] == 1
    (run,) = runs(client)
    assert run.data.tags["items_sha256"] == "f" * 64
    history = client.get_metric_history(run.info.run_id, "retrieval/i2t_recall_at_1")
    assert [point.step for point in history] == [0, 1]

    shutil.rmtree(project / "data/checkpoints/clip")
    save_clip(project / "data/checkpoints/clip", seed=1)
    counts = sync(CONFIG, project)
    # The evaluation that lies there is of the old checkpoint: it must not be logged to the new one.
    assert (counts["runs_made"], counts["versions_made"], counts["stale"]) == (1, 1, 1)
    assert len(runs(client)) == 2


def test_the_digest_of_prompts_is_that_of_the_folder_in_params(project: Path) -> None:
    first = provenance.digests(project)["prompts"]
    (project / "prompts/others").mkdir()
    (project / "prompts/others/region.txt").write_text("Another captioner's.\n")
    assert provenance.digests(project)["prompts"] == first
    (project / "prompts/mine/region.txt").write_text("Describe it.\n")
    assert provenance.digests(project)["prompts"] != first


def test_git_commit_and_whether_it_is_all(tmp_path: Path) -> None:
    assert provenance.commit(tmp_path) == ("unknown", "unknown")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for name in ("code.py", "dvc.lock"):
        (tmp_path / name).write_text("1\n")
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True)
    # DVC writes it while the stages run that say this.
    (tmp_path / "dvc.lock").write_text("2\n")
    commit, dirty = provenance.commit(tmp_path)
    assert (len(commit), dirty) == (40, "false")
    (tmp_path / "code.py").write_text("2\n")
    assert provenance.commit(tmp_path) == (commit, "true")


def test_what_dvc_lock_says_of_a_stage(tmp_path: Path) -> None:
    assert provenance.locked_stage(tmp_path, "train@clip") == "absent"
    lock = tmp_path / "dvc.lock"
    lock.write_text("stages:\n  train@clip:\n    cmd: a\n  split:\n    cmd: b\n")
    first = provenance.locked_stage(tmp_path, "train@clip")
    lock.write_text("stages:\n  train@clip:\n    cmd: a\n  split:\n    cmd: c\n")
    assert provenance.locked_stage(tmp_path, "train@clip") == first
    lock.write_text("stages:\n  train@clip:\n    cmd: z\n")
    assert provenance.locked_stage(tmp_path, "train@clip") != first


def test_the_epoch_that_validation_chose_is_in_the_run(project: Path) -> None:
    curve = project / "data/checkpoints/clip/curve.json"
    values = json.loads(curve.read_text())
    values["best_epoch"] = {"phase": "joint", "epoch": 2, "step": 3, "by": "dice", "value": 0.71234567}
    values["stopped_early"] = {"joint": 4}
    values["validation"][-1]["scores"] = {"dice": 0.71234567}
    curve.write_text(json.dumps(values))
    record(curve)
    # The evaluation is of the other checkpoint.
    shutil.rmtree(project / "data/evaluation/clip")
    sync(CONFIG, project)
    (run,) = runs(connect(CONFIG, project))
    assert run.data.tags["best_epoch"] == "epoch 2 of phase joint, step 3: dice 0.712346"
    assert run.data.tags["stopped_early"] == "joint after 4 epochs"
    assert run.data.metrics["validation/dice"] == 0.71234567
    said = run.data.tags["mlflow.note.content"]
    assert "Its weights are those of the best epoch on validation images (epoch 2 of phase joint, step 3: dice" in said
    assert "Ended early: joint after 4 epochs." in said


def test_names_and_addresses() -> None:
    assert metric_name("retrieval/i2t_recall@10") == "retrieval/i2t_recall_at_10"
    assert settings.flat({"a": {"b": 1, "c": {}}, "d": [1, 2]}) == {"a.b": "1", "a.c": "{}", "d": "1, 2"}
    wrong = TrackingConfig(uri="data/mlflow.db", artifacts=None, experiment="x", model="x")
    with pytest.raises(UserError, match="sqlite:///"):
        wrong.tracking_uri(Path())


def test_folders_that_params_do_not_name_are_no_methods(project: Path) -> None:
    for folder in ("checkpoints", "evaluation"):
        for ghost in (".clip.abcd1234.partial", "clip.old"):
            shutil.copytree(project / "data" / folder / "clip", project / "data" / folder / ghost)
    (project / "data/ingest/.here.abcd1234.partial").mkdir(parents=True)
    (project / "data/ingest/.here.abcd1234.partial/images.parquet").write_text("half")
    assert sync(CONFIG, project)["checkpoints"] == 1
    (run,) = runs(connect(CONFIG, project))
    assert run.data.tags["method"] == "clip"
    assert run.data.tags["digest.sources"] == "absent"
    (project / "params.yaml").write_text("phantom: {}\n")
    with pytest.raises(UserError, match="has no section 'train'"):
        sync(CONFIG, project)


def test_no_path_of_the_machine_is_in_what_a_run_holds(project: Path, tmp_path: Path) -> None:
    sources = {"clinic": {"root": f"{tmp_path}/SURNAME-A/clinic", "options": {"model": "/models/dino"}}}
    model = {
        "pretrained": f"{tmp_path}/weights.safetensors",
        "paths": ["a/b", "~/x.yaml"],
        "uri": f"sqlite:///{tmp_path}/x",
    }
    params = {"train": {"methods": {"clip": {"model": model, "training": {"resume": "/models/dino/7"}}}}}
    params |= {"captions": {"prompts": "prompts/mine"}, "ingest": {"sources": sources}}
    (project / "params.yaml").write_text(f"# Merged from {tmp_path}/base.yaml\n{json.dumps(params)}\n")
    stage = {"cmd": "python -m pipelines.ingest", "deps": [{"path": f"{tmp_path}/SURNAME-A/clinic", "md5": "0" * 32}]}
    (project / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"ingest@clinic": stage}}))
    sync(CONFIG, project)
    (run,) = runs(connect(CONFIG, project))
    # Its own settings, and nothing of sources or other methods.
    assert run.data.params["model.pretrained"] == "weights.safetensors"
    assert run.data.params["model.paths"] == "a/b, x.yaml"
    assert run.data.params["model.uri"] == "sqlite:///x"
    assert run.data.params["resume"] == "7"
    assert not [name for name in run.data.params if "clinic" in name or "prompts" in name]

    files = [file for file in (project / "data/mlflow").rglob("*") if file.is_file()]
    assert {"params.yaml", "dvc.lock", "model.safetensors", "metrics.json"} <= {file.name for file in files}
    private = [str(tmp_path), "SURNAME-A", "/models/dino", str(Path.home())]
    assert [file for file in files if any(word.encode() in file.read_bytes() for word in private)] == []
    # MLflow's own addresses of its files are absolute, for without a server nothing else would find them.
    own = {("runs", "artifact_uri"), ("experiments", "artifact_location"), ("model_versions", "source")}
    own |= {("model_versions", "storage_location")}
    with closing(sqlite3.connect(project / "data/mlflow.db")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        cells = [
            (table, column[0], str(value))
            for table in tables
            for cursor in [database.execute(f'SELECT * FROM "{table}"')]
            for row in cursor.fetchall()
            for column, value in zip(cursor.description, row, strict=True)
        ]
    assert len(cells) > 500
    assert {cell[:2] for cell in cells if any(word in cell[2] for word in private)} <= own


def test_the_last_name_stands_for_a_path_and_nothing_else_changes() -> None:
    same = [
        "data/raw/x",
        "0 3 * * *",
        "a / b",
        "http://127.0.0.1:8001/v1",
        "sqlite:///data/mlflow.db",
        "~5 mm",
        3,
        None,
    ]
    assert without_machine_paths(same) == same
    assert without_machine_paths({"a": ["/x/y/z.zip", "file:///x/y", "sqlite:////x/y.db", "/"]}) == {
        "a": ["z.zip", "file://y", "sqlite:///y.db", "/"]
    }
    assert without_machine_paths("postgresql://ada:secret@host/mlflow") == "postgresql://host/mlflow"


def wrecked(good: bytes) -> dict[str, bytes]:
    """What a database may hold after a full disk, a bad disk, or a kill in the middle of its making."""
    return {
        "garbage": b"\xff\xfe{" + good[3:],
        "text": b"no database at all",
        "truncated": good[: len(good) // 2],
        "cut inside a page": good[:-1000],
        "empty": b"",
        "a page": good[:8192] + b"\x5a" * 4096 + good[12288:],
    }


@pytest.mark.parametrize("how", list(wrecked(b"")))
def test_a_damaged_database_is_one_line_that_says_what_to_do(project: Path, how: str) -> None:
    file = project / "data/mlflow.db"
    file.write_bytes(wrecked(file.read_bytes())[how])
    with pytest.raises(UserError, match=r"mlflow\.db is damaged \(.*\): move it away and run `python -m") as caught:
        sync(CONFIG, project)
    assert "\n" not in str(caught.value)


def test_the_store_is_made_anew_once_a_damaged_database_is_moved_away(project: Path) -> None:
    file = project / "data/mlflow.db"
    file.rename(file.with_name("aside"))
    assert sync(CONFIG, project)["runs_made"] == 1


def test_a_half_made_database_of_another_program_is_damaged_too(project: Path) -> None:
    file = project / "data/mlflow.db"
    file.unlink()
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE experiments (experiment_id INTEGER)")
    with pytest.raises(UserError, match="no such table: alembic_version"):
        sync(CONFIG, project)


def test_one_of_two_syncs_waits_for_the_other(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    (project / "data/mlflow.db").unlink()
    waits, counts = threading.Event(), []

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for another process" in record.getMessage():
                waits.set()

    logger, handler = logging.getLogger("pipelines.tracking.store"), Note()
    logger.addHandler(handler)
    with caplog.at_level(logging.INFO, logger.name), FileLock(CONFIG.lock_file(project)):
        second = threading.Thread(target=lambda: counts.append(sync(CONFIG, project)))
        second.start()
        assert waits.wait(60)
        assert not (project / "data/mlflow.db").exists()
    second.join()
    logger.removeHandler(handler)
    assert counts[0]["runs_made"] == 1


def in_processes(project: Path) -> Callable[[], subprocess.Popen[bytes]]:
    """Starts `python -m pipelines.tracking` in a project."""
    section = f"tracking: {{uri: {CONFIG.uri}, artifacts: {CONFIG.artifacts}, experiment: test, model: test}}\n"
    (project / "params.yaml").write_text(PARAMS + section)
    (project / "data/mlflow.db").unlink()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "pipelines.tracking"]
    return lambda: subprocess.Popen(words, cwd=project, env=environment, stderr=subprocess.PIPE)


def kill_once_there(process: subprocess.Popen[bytes], folder: Path, pattern: str) -> None:
    while process.poll() is None and not list(folder.glob(pattern)):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_killed_while_the_store_is_made_two_at_once_make_it_and_killed_within_a_run_the_next_repeats_it(
    project: Path,
) -> None:
    start = in_processes(project)
    # The lock is there before the database is made.
    kill_once_there(start(), project / "data", "mlflow.db.lock")
    both = [start(), start()]
    errors = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert len(runs(connect(CONFIG, project))) == 1

    save_clip(project / "data/checkpoints/siglip", seed=1)
    before = set((project / "data/mlflow").iterdir())
    process = start()
    while process.poll() is None and set((project / "data/mlflow").iterdir()) == before:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    sync(CONFIG, project)
    client = connect(CONFIG, project)
    assert {run.info.status for run in runs(client)} == {"FINISHED"}
    assert len(runs(client)) == len(client.search_model_versions("name = 'test'")) == 2


def test_the_page_of_the_experiment_opens_as_training(project: Path) -> None:
    sync(CONFIG, project)
    number = connect(CONFIG, project).get_experiment_by_name("test").experiment_id
    page = f"http://127.0.0.1:5000/#/experiments/{number}?workflowType=machine_learning"
    assert experiment_page(CONFIG, project) == page


def test_the_pictures_of_a_study_are_with_its_runs_once(project: Path) -> None:
    sync(CONFIG, project)
    pictures = project / "pictures"
    assert log_pictures(CONFIG, project, pictures, ["clip"]) == 0
    pictures.mkdir()
    (pictures / "roc.svg").write_text("<svg/>")
    assert [log_pictures(CONFIG, project, pictures, ["clip"]) for _ in range(2)] == [1, 0]
    (pictures / "masks.png").write_bytes(b"png")
    assert log_pictures(CONFIG, project, pictures, ["clip"]) == 1
    client = connect(CONFIG, project)
    (run,) = runs(client)
    files = [file.path for file in client.list_artifacts(run.info.run_id, "study")]
    assert files == ["study/masks.png", "study/roc.svg"]
