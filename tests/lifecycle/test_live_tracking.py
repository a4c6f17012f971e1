"""Training seen in MLflow while it runs: killed and continued, as an experiment of DVC, and without a server."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from pipelines.errors import TRY_AGAIN
from tests.lifecycle.study import environment, run

# The first test of a worker makes the study, too.
pytestmark = [pytest.mark.lifecycle, pytest.mark.timeout(900)]

TRAIN = (sys.executable, "-m", "pipelines.train", "clip")
EPOCHS = "train.methods.clip.training.phases.global.epochs"


@pytest.fixture
def client(mlflow_server: str) -> MlflowClient:
    return MlflowClient(mlflow_server)


def change(study: Path, epochs: int, uri: str | None = None) -> None:
    settings = yaml.safe_load((study / "params.yaml").read_text())
    settings["train"]["methods"]["clip"]["training"]["phases"]["global"]["epochs"] = epochs
    settings["train"]["engine"] |= {"checkpoint_every": 5, "threads": 1}
    settings["tracking"]["uri"] = uri or settings["tracking"]["uri"]
    (study / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def runs(client: MlflowClient, study: Path, **tags: str) -> list[Run]:
    """The runs of the study's experiment with these tags; `training_run="%"` is any that a training began."""
    # Not from the file in the workspace: DVC writes that anew when it starts an experiment.
    committed = run("git", "show", "HEAD:params.yaml", cwd=study)
    experiment = client.get_experiment_by_name(yaml.safe_load(committed)["tracking"]["experiment"])
    wanted = " and ".join(f"tags.{name} LIKE '{value}'" for name, value in tags.items())
    return list(client.search_runs([experiment.experiment_id], wanted))


def wait_for(look: Callable[[], list[Run]], process: subprocess.Popen[str] | None = None) -> Run:
    """The first run that is found; while a process is given, it must be running still."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        ended = process is not None and process.poll() is not None
        if found := look():
            return found[0]
        assert not ended, process.communicate()[0]
        time.sleep(0.1)
    raise AssertionError("no such run after 120 s")


def wait_until_empty(folder: Path) -> None:
    """Until the follower, which has the lowest priority, deletes what it has told: it ends the run first."""
    end = time.monotonic() + 60
    while (left := list(folder.iterdir())) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left


def start(*command: str, cwd: Path) -> subprocess.Popen[str]:
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=cwd, env=environment(), text=True, start_new_session=True, **output)


def steps(client: MlflowClient, one: Run, name: str = "loss") -> list[int]:
    return sorted(metric.step for metric in client.get_metric_history(one.info.run_id, name))


def test_a_killed_training_goes_on_in_its_run_and_a_server_that_is_down_stops_nothing(
    fresh_study: Path, client: MlflowClient
) -> None:
    def with_status(status: str) -> list[Run]:
        return [one for one in runs(client, fresh_study, training_run="%") if one.info.status == status]

    change(fresh_study, epochs=60)
    killed = start(*TRAIN, cwd=fresh_study)
    live = wait_for(lambda: [one for one in runs(client, fresh_study, training_run="%") if "loss" in one.data.metrics])
    assert killed.poll() is None, killed.communicate()[0]
    assert (live.info.status, live.info.end_time) == ("RUNNING", None)
    assert live.data.tags["mlflow.source.name"] == "python -m pipelines.train clip"
    while not list((fresh_study / "data/cache/train").glob("*/state.pt")):
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    wait_for(lambda: with_status("KILLED"))

    run(*TRAIN, cwd=fresh_study)
    done = wait_for(
        lambda: [one for one in runs(client, fresh_study, training_run="%") if one.info.status == "FINISHED"]
    )
    assert [one.info.run_id for one in runs(client, fresh_study, training_run="%")] == [live.info.run_id]
    assert done.info.start_time == live.info.start_time
    # 180 training images in batches of 30, 60 epochs: 360 steps, each once.
    assert steps(client, done) == list(range(1, 361))
    assert len(steps(client, done, "validation/loss")) == 60
    before = set(done.data.tags)
    assert "runs_made 0, runs_completed 1" in run(sys.executable, "-m", "pipelines.tracking", cwd=fresh_study)
    completed = client.get_run(done.info.run_id)
    assert set(completed.data.tags) >= before
    assert (completed.info.end_time, completed.data.tags["model_artifact"]) == (done.info.end_time, "model")
    wait_until_empty(fresh_study / "data/cache/progress")

    server = client.tracking_uri
    change(fresh_study, epochs=2, uri="http://127.0.0.1:9")
    run(*TRAIN, cwd=fresh_study)
    refused = run(sys.executable, "-m", "pipelines.tracking", cwd=fresh_study, fails=TRY_AGAIN)
    assert "MLflow's server http://127.0.0.1:9 does not answer" in refused
    change(fresh_study, epochs=2, uri=server)
    assert "runs_made 0, runs_completed 1" in run(sys.executable, "-m", "pipelines.tracking", cwd=fresh_study)
    (offline,) = runs(client, fresh_study, training_run="%", model_artifact="model")[:1]
    assert (offline.info.status, steps(client, offline)) == ("FINISHED", list(range(1, 13)))


def test_an_experiment_of_dvc_is_seen_in_the_store_of_the_main_workspace(
    fresh_study: Path, client: MlflowClient
) -> None:
    settings = (f"--set-param={EPOCHS}=40", "--set-param=train.engine.threads=1")
    process = start("dvc", "exp", "run", "--temp", "--name=longer", *settings, "train@clip", cwd=fresh_study)
    live = wait_for(
        lambda: [one for one in runs(client, fresh_study, dvc_experiment="longer") if "loss" in one.data.metrics],
        process,
    )
    assert (live.info.status, live.info.run_name) == ("RUNNING", "clip-longer")
    assert live.data.params["phases.global.epochs"] == "40"
    assert "digest.shards" in live.data.tags
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    done = wait_for(lambda: [one for one in runs(client, fresh_study, dvc_experiment="longer") if one.info.end_time])
    assert (done.info.run_id, done.info.status) == (live.info.run_id, "FINISHED")
    assert steps(client, done) == list(range(1, 241))
    wait_until_empty(fresh_study / "data/cache/progress")
    # What the experiment trained becomes the workspace's, and its run complete.
    run("dvc", "exp", "apply", "longer", cwd=fresh_study)
    assert "runs_made 0, runs_completed 1" in run(sys.executable, "-m", "pipelines.tracking", cwd=fresh_study)
    assert client.get_run(done.info.run_id).data.tags["model_artifact"] == "model"
