"""`flows.lineage` on a real sqlite store: versions by number and by alias, with a lineage and without one."""

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from flows.lineage import as_json, tree, walk
from models import checkpoint
from pipelines.errors import UserError
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.lineage import FILE, record
from pipelines.tracking.store import connect
from tests.pipelines.evaluate.small_world import save_clip
from tests.pipelines.tracking.lineage_world import make

CONFIG = TrackingConfig(uri="sqlite:///data/mlflow.db", artifacts="data/mlflow", experiment="test", model="test")


@pytest.fixture(scope="module")
def study(empty_dvc_project: Path, tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """Version 1 with a lineage, the champion; version 2 without."""
    project = make(empty_dvc_project, tmp_path_factory.mktemp("lineage") / "study", repository)
    client = connect(CONFIG, project)
    experiment = client.create_experiment("test", str(project / "data/mlflow"))
    client.create_registered_model("test")
    folder = save_clip(project / "data/trained", seed=0)
    for lineage in (record(project, "clip"), None):
        run = client.create_run(experiment)
        client.log_artifacts(run.info.run_id, str(folder), "model/artifacts/checkpoint")
        if lineage is not None:
            client.log_dict(run.info.run_id, lineage, FILE)
        tags = {"checkpoint_sha256": checkpoint.digest(folder), "method": "clip"}
        client.create_model_version("test", f"{run.info.artifact_uri}/model", run.info.run_id, tags)
    client.set_registered_model_alias("test", "champion", "1")
    return project


def printed(found: dict) -> str:
    console = Console(width=1000)
    with console.capture() as capture:
        console.print(tree(found))
    return capture.get()


def test_a_version_is_found_by_number_alias_and_uri(study: Path) -> None:
    found = [walk(name, CONFIG, study) for name in ("1", "champion", "models:/test/1", "models:/test@champion")]
    assert all(one == found[0] for one in found)
    assert (found[0]["version"], found[0]["aliases"], found[0]["fault"]) == ("1", ["champion"], None)
    assert [stage.stage for stage in found[0]["stages"]] == ["evaluate@clip", "train@clip", "captions", "ingest@clinic"]


def test_the_tree_names_what_changed_and_with_which_digests(study: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(study, tmp_path / "study", symlinks=True))
    (project / "prompts/region.txt").write_text("[bold]Where?")
    (project / "prompts/region.txt").rename(project / "prompts/[red].txt")
    found = walk("1", CONFIG, study) | {"stages": walk("1", CONFIG, project)["stages"]}
    lines = printed(found).splitlines()
    assert lines[0] == "test version 1 @champion: clip"
    assert "├── train@clip: same" in lines
    (prompts,) = [line for line in lines if "prompts (not made by a stage) changed, md5 " in line]
    assert prompts.endswith("[red].txt added, region.txt missing, what it was is not in DVC's cache")
    assert any("ingest@clinic, licence CC0-1.0: same" in line for line in lines)
    stages = {stage["stage"]: stage for stage in json.loads(as_json(found))["stages"]}
    assert [name for name, stage in stages.items() if not stage["same"]] == ["captions"]
    table, folder = stages["captions"]["files"]
    assert (table["state"], folder["state"]) == ("same", "changed")
    assert folder["then"]["md5"] != folder["now"]["md5"]


def test_an_older_version_is_told_to_have_no_lineage(study: Path) -> None:
    found = walk("2", CONFIG, study)
    assert (found["fault"], found["stages"]) == ("its run keeps no lineage: it was made before runs did", [])
    assert "no lineage: its run keeps no lineage" in printed(found)


def test_files_that_the_registry_lost_are_told(study: Path, tmp_path: Path) -> None:
    client = connect(CONFIG, study)
    source = Path(client.get_run(client.get_model_version("test", "2").run_id).info.artifact_uri) / "model"
    source.rename(tmp_path / "aside")
    try:
        found = walk("2", CONFIG, study)
    finally:
        (tmp_path / "aside").rename(source)
    assert found["checkpoint"]["fault"].startswith("the files of models:/test/2 cannot be fetched")


@pytest.mark.parametrize("name", ["3", "best", "models:/other@champion", "models:/test", "runs:/x"])
def test_an_unknown_version_is_one_line(study: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"^[^\n]+$"):
        walk(name, CONFIG, study)
