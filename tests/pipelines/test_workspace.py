"""An experiment of DVC in a folder of its own belongs to the main workspace."""

from pathlib import Path

import pytest

from pipelines.tracking.config import TrackingConfig
from pipelines.workspace import main_workspace


@pytest.mark.parametrize("place", [".dvc/tmp/exps/standalone/tmpabc", ".dvc/tmp/exps/tmpabc", "."])
def test_an_experiment_has_the_store_of_the_main_workspace(tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    assert main_workspace(folder) == tmp_path
    config = TrackingConfig(uri="sqlite:///data/runs.db", artifacts="data/files", experiment="x", model="x")
    assert config.tracking_uri(folder) == f"sqlite:///{tmp_path}/data/runs.db"
    assert config.artifact_location(folder) == f"file://{tmp_path}/data/files"
    assert config.lock_file(folder) == tmp_path / "data/runs.db.lock"
    # Without a folder the files lie beside the database, and not where a command happens to run; a server decides.
    beside = TrackingConfig(uri="sqlite:///data/runs.db", artifacts=None, experiment="x", model="x")
    assert beside.artifact_location(folder) == f"file://{tmp_path}/data/artifacts"
    server = TrackingConfig(uri="http://127.0.0.1:5000", artifacts=None, experiment="x", model="x")
    assert server.artifact_location(folder) is None


def test_another_folder_of_dvc_is_a_workspace_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / ".dvc/tmp/elsewhere/tmpabc"
    folder.mkdir(parents=True)
    assert main_workspace(folder) == folder
