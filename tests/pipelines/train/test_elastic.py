"""A node is lost, and training goes on with the workers that are left, on the same global batches."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from models.training.config import EngineConfig, Phase, TrainingConfig
from pipelines.registry import PLUGINS
from pipelines.train.engine import worker_numbers
from tests.pipelines.train.test_train_stage import seen, settings, study, train
from tests.pipelines.workers.test_actors import cluster

__all__ = ["cluster", "study"]

STAGE = """
import json
import sys
from pathlib import Path
from pipelines.registry import PLUGINS
from tests.pipelines.train.test_train_stage import train

PLUGINS["methods"]["regionmed_clip"] = "tests.pipelines.train.mortal:Mortal"
train(Path.cwd(), json.loads(sys.argv[1]))
"""


def numbers(least: int | None, most: int, *batches: int) -> list[int]:
    phases = {str(size): Phase(epochs=1, batch_size=size, learning_rate=1e-3, losses=("report",)) for size in batches}
    training = TrainingConfig(phases=phases, phase_order=tuple(phases))
    return worker_numbers(training, EngineConfig(num_workers=most, min_workers=least, max_failures=1))


def test_a_run_goes_on_with_numbers_of_workers_that_share_every_batch() -> None:
    assert numbers(1, 8, 24) == [1, 2, 3, 4, 6, 8]
    assert numbers(3, 8, 24, 16) == [4, 8]
    assert numbers(None, 8, 24) == [8]
    assert numbers(8, 8, 24) == [8]


@pytest.fixture
def _notes(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the method writes what it saw, for the nodes too, which take the environment of their start."""
    monkeypatch.setitem(PLUGINS["methods"], "regionmed_clip", "tests.pipelines.train.mortal:Mortal")
    monkeypatch.setenv("MORTAL_FOLDER", str(study))


def until(condition, process: subprocess.Popen, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the stage ended"
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("_notes")
def test_a_lost_node_leaves_the_batches_to_the_worker_of_the_other(study: Path, cluster: dict[str, str]) -> None:
    values = settings(checkpoint_every=5)
    # No dropout: the rows of two workers would lose other features than those of one.
    for part in ("image_encoder", "text_encoder"):
        architecture = values["methods"]["regionmed_clip"]["model"][part]["architecture"]
        architecture |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    train(study, values)
    (alone,) = seen(study)
    weights = study / "data/checkpoints/regionmed_clip/model.safetensors"
    expected = load_file(weights)
    weights.unlink()

    values["engine"] |= {"num_workers": 2, "min_workers": 1, "max_failures": 2}
    (study / "WAIT").touch()
    # At first Ray asks for two workers again, for it learns of the lost node later; it gives that up after a minute.
    known = cluster | {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15"}
    stage = subprocess.Popen([sys.executable, "-c", STAGE, json.dumps(values)], cwd=study, env=known)
    # Ray's controller learns of a state some seconds after it was reported.
    until(lambda: len(list(study.glob("waits-*"))) == 2, stage)
    until(lambda: list(study.glob("data/cache/*/ray/checkpoint_manager_snapshot.json")), stage)
    second = int((study / "second").read_text())
    for process in [*psutil.Process(second).children(recursive=True), psutil.Process(second)]:
        os.kill(process.pid, signal.SIGKILL)
    (study / "WAIT").unlink()
    assert stage.wait(timeout=600) == 0

    for name, value in load_file(weights).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-8, msg=name)
    # Two workers up to step 7, and one from the state after step 5, with all rows of each batch.
    first, other, left = seen(study)
    assert [len(first), len(other), len(left)] == [7, 7, 7]
    steps = [{*line.split(), *beside.split()} for line, beside in zip(first, other, strict=True)]
    assert steps[:5] + [set(line.split()) for line in left] == [set(line.split()) for line in alone]
