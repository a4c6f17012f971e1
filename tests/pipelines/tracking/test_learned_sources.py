"""What is said of checkpoints that learned from some of their study's sources alone, or were not trained: real ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

from models.data.shards import ShardSet
from models.verified import seal
from pipelines.evaluate.contamination import contamination
from pipelines.tracking.progress import read_progress
from pipelines.tracking.store import connect
from pipelines.tracking.sync import sync
from pipelines.try_model.about import about
from tests.models.small import write_shards
from tests.pipelines.tracking.conftest import CONFIG
from tests.pipelines.train.test_train_segmentation import settings, train
from tests.tiny_clip import make_clip

# Those of the images with an odd number.
THERE = [f"{number:016x}" for number in range(1, 24, 2)]


def untrained(hub: Path) -> dict[str, Any]:
    make_clip(hub)
    return {"model": {"pretrained": str(hub), "revision": None}, "training": {"phases": {}, "max_length": 16}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two sources with checkpoints that learned from one (`unet`), from both (`both`), and from none."""
    folder = tmp_path_factory.mktemp("study")
    write_shards(folder / "data/shards", 24, sources=("here", "there"))
    values = settings(sources=["there"])
    methods = values["methods"]
    methods |= {"both": {**settings()["methods"]["unet"], "method": "unet"}, "pretrained": untrained(folder / "hub")}
    (folder / "params.yaml").write_text(
        json.dumps({"train": {"methods": methods}, "ingest": {"sources": {"here": {}, "there": {}}}})
    )
    for method in methods:
        train(folder, values, method)
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path, empty_store: Path) -> Path:
    shutil.copytree(trained, tmp_path / "study")
    shutil.copy(empty_store, tmp_path / "study/data/mlflow.db")
    return tmp_path / "study"


def curve_of(project: Path, method: str) -> dict[str, Any]:
    return json.loads((project / "data/checkpoints" / method / "curve.json").read_text())


def forget(project: Path, method: str, *keys: str) -> None:
    """Let a checkpoint's curve.json say nothing of something."""
    folder = project / "data/checkpoints" / method
    values = {key: value for key, value in curve_of(project, method).items() if key not in keys}
    (folder / "curve.json").write_text(json.dumps(values))
    seal(folder)


def seen(project: Path, method: str, *studies: Path) -> list[str] | None:
    """The test images that were in a checkpoint's training data; all training images are test images, too."""
    write_shards(project / "other", 24, "test", sources=("here", "there"))
    split = ShardSet(project / "other/images", project / "other/captions", "test")
    images = contamination(project / "data/checkpoints" / method, studies, split).images
    return None if images is None else [key for key, how in images.items() if how == "same_bytes"]


def runs(project: Path) -> dict[str, Run]:
    client = connect(CONFIG, project)
    found = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    return {run.data.tags["method"]: run for run in found}


def test_a_checkpoint_and_its_progress_say_which_sources_it_learned_from(trained: Path) -> None:
    expected = {"unet": ["there"], "both": ["here", "there"], "pretrained": []}
    assert {method: curve_of(trained, method)["sources"] for method in expected} == expected
    progress = [read_progress(file) for file in (trained / "data/progress").glob("*.jsonl")]
    assert {one.method: one.sources for one in progress} == expected


def test_images_of_sources_that_it_did_not_learn_from_are_not_seen(project: Path) -> None:
    every = [f"{number:016x}" for number in range(24)]
    assert seen(project, "unet", project) == THERE
    assert seen(project, "both", project) == every
    # What was not trained learned from no image, wherever its shards are.
    assert seen(project, "pretrained") == []
    assert seen(project, "unet") is None
    # It may be any of the shards.
    forget(project, "unet", "sources")
    assert seen(project, "unet", project) == every


def test_runs_and_versions_name_the_sources_that_were_learned_from(project: Path) -> None:
    # Two are known by their progress, the third was restored.
    shutil.copytree(project / "data/progress", project / "data/cache/progress")
    (both,) = (project / "data/cache/progress").glob("both-*")
    both.unlink()
    sync(CONFIG, project)
    found = runs(project)
    tags = {method: run.data.tags["sources"] for method, run in found.items()}
    assert tags == {"unet": "there", "both": "here, there", "pretrained": "none"}
    versions = connect(CONFIG, project).search_model_versions("name = 'test'")
    assert {version.tags["method"]: version.tags["sources"] for version in versions} == tags
    (data,) = found["unet"].inputs.dataset_inputs
    assert data.dataset.name == "there alone, in shards of here, there"
    assert json.loads(data.dataset.source)["sources"] == ["there"]
    assert found["pretrained"].inputs.dataset_inputs == []
    of_runs = {method: run.data.tags["mlflow.note.content"] for method, run in found.items()}
    for said in (of_runs, {version.tags["method"]: version.description for version in versions}):
        assert said["unet"].startswith("unet, trained on there alone, in shards of here, there (images: train 24).")
        assert said["both"].startswith("both, trained on shards of here, there (images: train 24).")
        assert said["pretrained"].startswith("pretrained, as it was built: not trained here.")


@pytest.mark.parametrize(("forgotten", "named"), [((), "there"), (("sources",), "unknown")])
def test_a_restored_checkpoint_of_other_shards_names_its_sources(
    project: Path, forgotten: tuple[str, ...], named: str
) -> None:
    forget(project, "unet", *forgotten)
    write_shards(project / "data/shards", 8, sources=("elsewhere",))
    sync(CONFIG, project)
    assert runs(project)["unet"].data.tags["sources"] == named


def test_the_page_to_try_a_model_names_the_sources_that_were_learned_from(project: Path) -> None:
    said = {
        method: about(method, project / "data/checkpoints" / method, CONFIG, project).origin
        for method in ("unet", "both", "pretrained")
    }
    assert said == {
        "unet": ["unet, trained on there alone, in shards of here, there (images: train 24)."],
        "both": ["both, trained on shards of here, there (images: train 24)."],
        "pretrained": ["pretrained, as it was built: not trained here."],
    }
