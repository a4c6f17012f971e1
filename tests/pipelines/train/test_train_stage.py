"""The stage: checkpoints, mistakes of the user, and runs that were killed, finished or changed."""

import contextlib
import copy
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from models import checkpoint
from models.data.batches import Tokenise
from models.pretrained.model import Pretrained
from models.regionmed_clip.model import RegionMedClip
from models.verified import seal, sha256_file
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.ray_session import ray_session
from pipelines.registry import PLUGINS
from pipelines.train import engine
from pipelines.train.config import TrainConfig
from pipelines.train.stage import prepare_run, run
from tests.fingerprints import write_fingerprint
from tests.models.small import ENCODERS, write_shards
from tests.pipelines.evaluate.small_world import image
from tests.pipelines.evaluate.small_world import write_shards as write_world
from tests.processes import start_ignoring_interrupts
from tests.tiny_clip import make_clip

PHASES = {
    "warm_up": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "losses": ["report"]},
    "joint": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "losses": list(RegionMedClip.losses)},
}


def settings(**engine: Any) -> dict[str, Any]:
    method = {
        "model": copy.deepcopy(ENCODERS) | {"heads": 2},
        "training": {
            "phases": copy.deepcopy(PHASES),
            "phase_order": list(PHASES),
            "vocabulary_size": 120,
            "max_length": 32,
        },
    }
    return {
        "engine": {"threads": 1, "num_workers": 0, "checkpoint_every": 2} | engine,
        "methods": {"regionmed_clip": method},
    }


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_shards(tmp_path / "data" / "shards", 40)
    return tmp_path


def train(study: Path, values: dict[str, Any], method: str = "regionmed_clip") -> dict[str, Any]:
    config = parse(TrainConfig, values, "params.yaml: train")
    data = study / "data"
    folders = {name: data / name for name in ("shards", "checkpoints", "cache", "summaries")}
    return run(method, config, **folders)


def files(study: Path) -> dict[str, str]:
    folder = study / "data" / "checkpoints" / "regionmed_clip"
    return {file.name: sha256_file(file) for file in sorted(folder.iterdir())}


def test_a_run_leaves_a_checkpoint_that_counts_add_up_to(study: Path) -> None:
    summary = train(study, settings())
    assert (summary["inputs"], summary["ok"], summary["rejected"]) == (40, 32, 8)
    assert summary["reasons"] == {"rejected": {"no_text_unannotated": 8}}
    # 32 // 8 = 4 steps an epoch, three epochs.
    assert summary["steps"] == 12
    folder = study / "data" / "checkpoints" / "regionmed_clip"
    model, tokenizer = checkpoint.load(folder, RegionMedClip)
    assert summary["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert len(tokenizer) <= 120
    assert len(json.loads((folder / "curve.json").read_text())["steps"]) == 12
    assert summary["checkpoint_sha256"] == checkpoint.digest(folder)
    assert not list((study / "data" / "cache").iterdir())


def test_the_same_inputs_give_the_same_bytes_and_a_finished_run_is_not_continued(study) -> None:
    first, before = train(study, settings()), files(study)
    again = train(study, settings())
    assert files(study) == before
    assert again["steps"] == first["steps"]
    other = settings(seed=1)
    train(study, other)
    assert files(study)["model.safetensors"] != before["model.safetensors"]


def test_a_checkpoint_says_which_terms_its_altered_captions_took(study: Path) -> None:
    values = settings()
    values["methods"]["regionmed_clip"]["model"]["negatives"] = {"adjective": 3, "position": 1, "term": 1}
    train(study, values)
    config = checkpoint.read_config(study / "data" / "checkpoints" / "regionmed_clip")["config"]
    assert config["terms"] == ["blue", "green", "red"]
    values["methods"]["regionmed_clip"]["model"]["negatives"] = {"adjective": 2, "term": 3}
    with pytest.raises(UserError, match=r"regionmed_clip: negatives.term 3 needs 4 different terms, and there are 3: "):
        train(study, values)


def start(study: Path, values: dict[str, Any], repository: Path) -> subprocess.Popen:
    (study / "params.yaml").write_text(yaml.safe_dump({"train": values}, sort_keys=False))
    write_fingerprint(study, "train@regionmed_clip", "pipelines.train")
    environment = os.environ | {"PYTHONPATH": str(repository), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "pipelines.train", "regionmed_clip"]
    return start_ignoring_interrupts(command, cwd=study, env=environment, stderr=subprocess.PIPE)


def start_and_kill(study: Path, values: dict[str, Any], repository: Path) -> Path:
    """Kill a run as soon as it has saved a state; return the folder of unfinished runs."""
    process = start(study, values, repository)
    cache = study / "data" / "cache" / "train"
    while not list(cache.glob("*/state.pt")):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (study / "data" / "checkpoints").exists()
    return cache


def test_two_runs_of_the_same_inputs_at_once_are_refused(study: Path) -> None:
    config = parse(TrainConfig, settings(), "train")
    shards, cache = study / "data" / "shards", study / "data" / "cache"
    running = prepare_run("regionmed_clip", config, shards, cache)
    with pytest.raises(UserError, match="another process is training regionmed_clip of these inputs"):
        train(study, settings())
    running.lock.release()
    train(study, settings())


def test_a_killed_run_goes_on_and_ends_with_the_bytes_of_an_unbroken_one(study: Path, repository: Path) -> None:
    values = settings()
    values["methods"]["regionmed_clip"]["training"]["phases"]["joint"]["epochs"] = 30
    start_and_kill(study, values, repository)
    resumed = start(study, values, repository)
    _, log = resumed.communicate(timeout=300)
    assert resumed.returncode == 0
    assert "warm_up" not in log
    assert "step 121 of 124 joint" in log
    after_a_kill = files(study)
    # With another folder for unfinished runs nothing can be continued.
    train(study, values)
    assert files(study) == after_a_kill


def test_changed_params_never_continue_an_old_run(study: Path, repository: Path) -> None:
    values = settings()
    values["methods"]["regionmed_clip"]["training"]["phases"]["joint"]["epochs"] = 30
    cache = start_and_kill(study, values, repository)
    config = parse(TrainConfig, settings(seed=5), "params.yaml: train")
    folders = {name: study / "data" / name for name in ("shards", "checkpoints", "summaries")}
    assert run("regionmed_clip", config, cache=cache, **folders)["steps"] == 12
    beside_an_old_run = files(study)
    run("regionmed_clip", config, cache=study / "empty", **folders)
    assert files(study) == beside_an_old_run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("model", "hedas", 2), r"model\.hedas: unknown key; did you mean 'heads'"),
        (("model", "embedding", "roi"), "embedding 'roi' is not one of: global, regions, mean"),
        (("training", "phases", "warm_up", "batch_size", 64), "only 32 training images have text: lower batch_size"),
        (("training", "phases", "warm_up", "losses", ["reprot"]), r"asks for the losses \['reprot'\]"),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_change(study, change: tuple, message: str) -> None:
    values = settings()
    place = values["methods"]["regionmed_clip"]
    for key in change[:-2]:
        place = place[key]
    place[change[-2]] = change[-1]
    with pytest.raises(UserError, match=message) as caught:
        train(study, values)
    assert "\n" not in str(caught.value)


def test_a_method_that_params_do_not_have(study: Path) -> None:
    config = parse(TrainConfig, settings(), "params.yaml: train")
    with pytest.raises(UserError, match=r"train\.methods has no 'clpi'; it has: regionmed_clip"):
        run("clpi", config, shards=study / "data" / "shards")


def test_the_validation_split_gives_a_curve_of_its_own(study: Path) -> None:
    add_validation(study, 20)
    values = settings()
    summary = train(study, values)
    folder = study / "data" / "checkpoints" / "regionmed_clip"
    curve = json.loads((folder / "curve.json").read_text())
    # 16 of the 20 have text.
    assert curve["validation_samples"] == 16
    assert curve["weights"] == {}
    assert [(point["step"], point["phase"]) for point in curve["validation"]] == [
        (4, "warm_up"),
        (8, "joint"),
        (12, "joint"),
    ]
    assert set(curve["validation"][-1]["terms"]) == set(RegionMedClip.losses)
    assert summary["samples_per_second"] > 0
    assert 0 < summary["data_wait_fraction"] < 1
    assert not {"samples_per_second", "data_wait_fraction", "throughput"} & curve.keys()


def add_validation(study: Path, count: int, sources: Sequence[str] = ("one",)) -> None:
    """A validation split beside the training split."""
    write_shards(study / "other", count, "validation", sources=sources)
    for family in ("images", "captions"):
        folder = study / "data" / "shards" / family
        (study / "other" / family / "validation").rename(folder / "validation")
        manifest, other = (
            json.loads((place / "manifest.json").read_text()) for place in (folder, study / "other" / family)
        )
        manifest["splits"] |= other["splits"]
        (folder / "manifest.json").write_text(json.dumps(manifest))
        seal(folder)


def test_a_pretrained_checkpoint_is_written_as_it_is_and_stands_alone(study: Path) -> None:
    original, _ = make_clip(study / "hub")
    method = {
        "model": {"pretrained": str(study / "hub"), "revision": None},
        "training": {"phases": {}, "max_length": 16},
    }
    values = {"engine": {"threads": 1, "num_workers": 2}, "methods": {"pretrained": method}}
    summary = train(study, values, "pretrained")
    assert (summary["ok"], summary["steps"], summary["last_loss"]) == (32, 0, None)
    shutil.rmtree(study / "hub")
    model, tokenizer = checkpoint.load(study / "data" / "checkpoints" / "pretrained", Pretrained)
    for name, value in original.state_dict().items():
        assert torch.equal(model.state_dict()[f"model.{name}"], value), name
    # Its own tokenizer, and texts as they are written: lower case without punctuation would be shorter.
    assert tokenizer.model_max_length == 16
    report = "The picture is red, number 0."
    own = Tokenise(tokenizer, 100, normalises=False).lengths([report])[0]
    assert own > Tokenise(tokenizer, 100).lengths([report])[0]
    assert summary["truncated_texts"] > 0


@pytest.mark.parametrize(
    "changes", [{"report": None, "split": "train"}, {}], ids=["no training text", "no training image"]
)
def test_a_pretrained_checkpoint_needs_nothing_to_learn_from(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_world(tmp_path / "data" / "shards", [image(0), image(1), image(2, **changes)])
    make_clip(tmp_path / "hub")
    method = {"model": {"pretrained": str(tmp_path / "hub")}, "training": {"phases": {}, "max_length": 16}}
    summary = train(tmp_path, {"engine": {"threads": 1}, "methods": {"pretrained": method}}, "pretrained")
    assert (summary["ok"], summary["steps"]) == (0, 0)
    checkpoint.load(tmp_path / "data" / "checkpoints" / "pretrained", Pretrained)


def test_a_loss_that_is_not_finite_is_one_line(study: Path) -> None:
    values = settings()
    values["methods"]["regionmed_clip"]["training"]["phases"]["warm_up"]["learning_rate"] = 1e30
    line = r"(loss|gradient) is (nan|inf) at step \d+ \(warm_up\); images: [0-9a-f]{16}, .*; lower learning_rate"
    with pytest.raises(UserError, match=line) as caught:
        train(study, values)
    assert "\n" not in str(caught.value)


def seen(folder: Path) -> list[list[str]]:
    """What each process saw, a line a step, and it is forgotten."""
    files = sorted(folder.glob("seen-*"), key=lambda file: file.stat().st_mtime_ns)
    lines = [file.read_text().splitlines() for file in files]
    for file in files:
        file.unlink()
    return lines


@pytest.mark.slow
def test_two_ray_workers_of_which_one_is_killed_end_as_one_process(study, repository, monkeypatch, capfd) -> None:
    """One start of Ray for all of it: the killed worker, and then a loss that no restart mends."""
    monkeypatch.setitem(PLUGINS["methods"], "regionmed_clip", "tests.pipelines.train.mortal:Mortal")
    monkeypatch.setenv("MORTAL_FOLDER", str(study))
    monkeypatch.chdir(repository)
    values = settings(checkpoint_every=5)
    # No dropout: the rows of two workers would lose other features than those of one.
    method = values["methods"]["regionmed_clip"]
    for part in ("image_encoder", "text_encoder"):
        method["model"][part]["architecture"] |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    train(study, values)
    (alone,) = seen(study)
    checkpoint_folder = study / "data" / "checkpoints" / "regionmed_clip"
    expected = load_file(checkpoint_folder / "model.safetensors")
    expected_curve = json.loads((checkpoint_folder / "curve.json").read_text())

    values["engine"] |= {"num_workers": 2, "max_failures": 2}
    (study / "DIE").touch()
    root = logging.getLogger()
    own = root.level, list(root.handlers)
    with ray_session():
        assert (root.level, root.handlers) == own  # of this process, while its workers' are set
        monkeypatch.setattr(engine, "ray_session", contextlib.nullcontext)
        for old in (study / "data/progress").iterdir():
            old.unlink()
        train(study, values)
        workers = seen(study)
        (progress,) = (study / "data/progress").iterdir()
        # Ray shows the workers' lines on the driver's standard error.
        assert "models.training.loop: step 1 of " in capfd.readouterr().err
        (study / "SPOIL").touch()
        values["engine"]["seed"] = 1
        with pytest.raises(UserError, match=r"loss is nan at step 3 \(warm_up\); images: ([0-9a-f]{16}, ){7}"):
            train(study, values)
    assert len(seen(study)) == 2, "it was tried again"
    assert not (study / "DIE").exists()
    for name, value in load_file(checkpoint_folder / "model.safetensors").items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-8, msg=name)
    curve = json.loads((checkpoint_folder / "curve.json").read_text())
    assert [point["step"] for point in curve["steps"]] == [point["step"] for point in expected_curve["steps"]]
    assert [point["loss"] for point in curve["steps"]] == pytest.approx(
        [point["loss"] for point in expected_curve["steps"]], abs=1e-7
    )
    # One of the two workers writes; steps 6 and 7 came again.
    lines = [json.loads(line) for line in progress.read_text().splitlines()]
    steps = [line["step"] for line in lines if line.get("curve") == "steps"]
    assert steps in ([*range(1, 7 + more), *range(6, 13)] for more in (0, 1))
    # Two processes died or were stopped in step 7, and two went on from the state after step 5.
    assert [len(lines) for lines in workers] == [7, 7, 7, 7]
    steps = [{*first.split(), *second.split()} for first, second in zip(*workers[:2], strict=True)]
    steps[5:] = [{*first.split(), *second.split()} for first, second in zip(*workers[2:], strict=True)]
    assert steps == [set(line.split()) for line in alone]
