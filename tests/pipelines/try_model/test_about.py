"""What is said of a checkpoint that lies in a folder; registered models are in tests/lifecycle/test_try_model.py."""

import json
from pathlib import Path

import pytest

from models import checkpoint
from models.clip.model import Clip
from models.text import train_tokenizer
from models.verified import seal, sha256_file
from pipelines.tracking.config import TrackingConfig
from pipelines.try_model.about import About, about
from tests.models.small import make_model, write_shards
from tests.shards import INPUT_FORMAT

CONFIG = TrackingConfig(uri="sqlite:///mlflow.db", artifacts=None, experiment="study", model="study")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A study of 6 training images, with a checkpoint that was trained on them, and its scores."""
    (tmp_path / "params.yaml").write_text("ingest: {sources: {toys: {}}}\n")
    write_shards(tmp_path / "data/shards", 6)
    manifest = tmp_path / "data/shards/images/manifest.json"
    tokenizer = train_tokenizer(["red green blue"] * 3, 50)
    model = make_model(tokenizer, Clip).eval()
    folder = tmp_path / "data/checkpoints/clip"
    folder.mkdir(parents=True)
    curve = {"method": "clip", "shards": {"images": sha256_file(manifest)}}
    checkpoint.save(folder, "clip", model, model.state_dict(), tokenizer, curve, INPUT_FORMAT)
    write_scores(tmp_path, checkpoint.digest(folder))
    return tmp_path


def write_scores(project: Path, digest: str) -> None:
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "chance": 0.1}
    task = {"metrics": {"pointing": score}, "by_source": {}, "details": {}, "items": 8}
    folder = project / "data/evaluation/clip"
    folder.mkdir(parents=True, exist_ok=True)
    results = {"checkpoint_sha256": digest, "split": "test", "tasks": {"grounding": task}}
    (folder / "metrics.json").write_text(json.dumps(results))
    seal(folder)


def said(project: Path) -> About:
    folder = project / "data/checkpoints/clip"
    return about(str(folder), folder, CONFIG, project)


def test_a_checkpoint_of_the_study_is_known_by_its_shards(project: Path) -> None:
    found = said(project)
    assert found.origin == ["clip, trained on shards of toys (images: train 6)."]
    assert found.scores == {"grounding": "pointing 0.5 (0.4 to 0.6); chance 0.1"}
    assert not (project / "mlflow.db").exists(), "nobody asked the registry"


def test_what_is_not_known_of_another_checkpoint_is_not_told(project: Path) -> None:
    write_scores(project, "0" * 64)
    write_shards(project / "other", 4)
    manifest = project / "data/shards/images/manifest.json"
    manifest.write_bytes((project / "other/images/manifest.json").read_bytes())
    seal(manifest.parent)
    found = said(project)
    assert found.origin == ["clip. What it was trained on is not known: its shards are not those of this study."]
    assert found.scores == {}
