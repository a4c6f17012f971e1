"""A small project whose runs are kept in a sqlite file."""

import shutil
from pathlib import Path

import pytest

from pipelines.config import parse
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.stage import run as evaluate
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.store import connect
from tests.pipelines.evaluate.small_world import image, save_clip, write_shards

CONFIG = TrackingConfig(uri="sqlite:///data/mlflow.db", artifacts="data/mlflow", experiment="test", model="test")
EVALUATE = parse(
    EvaluateConfig,
    {"tasks": {"retrieval": {"ks": [1, 5]}}, "batch_size": 8, "bootstrap": {"samples": 50, "seed": 0}},
    "evaluate",
)


PARAMS = """\
train: {methods: {clip: {}, siglip: {}}}
evaluate: {batch_size: 8}
captions: {prompts: prompts/mine}
"""


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sqlite file with MLflow's tables; making them takes seconds, copying them does not."""
    folder = tmp_path_factory.mktemp("store")
    connect(CONFIG, folder).search_experiments()
    return folder / "data/mlflow.db"


@pytest.fixture
def project(tmp_path: Path, empty_store: Path) -> Path:
    """A project with one trained and evaluated method."""
    folders = write_shards(tmp_path / "data/shards", [image(number) for number in range(8)])
    shutil.copy(empty_store, tmp_path / "data/mlflow.db")
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "prompts/mine").mkdir(parents=True)
    (tmp_path / "prompts/mine/region.txt").write_text("Describe the region.\n")
    folder = save_clip(tmp_path / "data/checkpoints/clip", seed=0)
    evaluate(EVALUATE, "clip", folder, *folders, tmp_path / "data/evaluation/clip", tmp_path / "data/summaries")
    return tmp_path
