"""Model references: folders, aliases and versions of a real registry."""

import shutil
import socket
from pathlib import Path

import pytest

from models import checkpoint
from models.clip.model import Clip
from models.text import train_tokenizer
from models.verified import seal, verify_folder
from pipelines.errors import UserError
from pipelines.tracking.checkpoints import checkpoint_folder
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.mlflow_model import write_model
from pipelines.tracking.store import locked_store
from tests.models.small import make_model
from tests.shards import INPUT_FORMAT

CONFIG = TrackingConfig(uri="sqlite:///mlflow.db", artifacts="artifacts", experiment="study", model="study")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the versions 1, the champion; 2, whose tag names other files; 3, which has no tag."""
    project = tmp_path_factory.mktemp("project")
    tokenizer = train_tokenizer(["red green blue"] * 3, 50)
    model = make_model(tokenizer, Clip).eval()
    (project / "checkpoint").mkdir()
    checkpoint.save(project / "checkpoint", "clip", model, model.state_dict(), tokenizer, {}, INPUT_FORMAT)
    write_model(project / "model", project / "checkpoint")
    tags = [{"checkpoint_sha256": digest} for digest in (checkpoint.digest(project / "checkpoint"), "0" * 64)]
    with locked_store(CONFIG, project) as client:
        run = client.create_run(client.create_experiment("study", CONFIG.artifact_location(project)))
        client.log_artifacts(run.info.run_id, str(project / "model"), "model")
        client.create_registered_model("study")
        for of_version in (*tags, {}):
            client.create_model_version("study", f"{run.info.artifact_uri}/model", run.info.run_id, of_version)
        client.set_registered_model_alias("study", "champion", "1")
    return project


@pytest.mark.parametrize("reference", ["models:/study@champion", "models:/study/1"])
def test_a_version_is_the_checkpoint_that_was_registered(project: Path, reference: str) -> None:
    with checkpoint_folder(reference, CONFIG, project) as folder:
        assert verify_folder(folder) == verify_folder(project / "checkpoint")
    assert not folder.exists()


def test_a_folder_is_itself_and_must_be_whole(project: Path, tmp_path: Path) -> None:
    with checkpoint_folder(str(project / "checkpoint"), CONFIG, project) as folder:
        assert folder == project / "checkpoint"
    assert folder.exists()
    shutil.copytree(project / "checkpoint", tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_text("{}")
    with (
        pytest.raises(UserError, match=r"config\.json has other bytes"),
        checkpoint_folder(str(tmp_path / "copy"), CONFIG, project),
    ):
        pass


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("models:/study@chamption", r"models:/study@chamption is not registered \(.*alias chamption not found"),
        ("models:/study/9", "models:/study/9 is not registered"),
        ("models:/other@champion", "models:/other@champion is not registered"),
        ("models:/study", "names no model: write models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/study/latest", "names no model"),
        ("models:/study/2", "the files of models:/study/2 have changed since it was registered"),
        ("models:/study/3", "has no tag checkpoint_sha256"),
        ("nowhere", "nowhere holds no checkpoint"),
    ],
)
def test_a_reference_that_names_nothing_is_one_line(project: Path, reference: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as told, checkpoint_folder(reference, CONFIG, project):
        pass
    assert "\n" not in str(told.value)


def test_a_model_without_a_champion_says_how_there_will_be_one(project: Path, tmp_path: Path) -> None:
    with locked_store(CONFIG, project) as client:
        client.create_registered_model("young")
    with (
        pytest.raises(UserError, match=r"young has no champion yet: run `python -m flows\.promote`"),
        checkpoint_folder("models:/young@champion", CONFIG, project),
    ):
        pass


@pytest.mark.parametrize("damage", ["changed", "sealed anew", "deleted"])
def test_files_that_changed_in_the_store_are_refused(project: Path, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "project"
    shutil.copytree(project, copy)
    with locked_store(CONFIG, copy) as client:
        run = client.create_run(client.create_experiment("another", CONFIG.artifact_location(copy)))
        client.log_artifacts(run.info.run_id, str(copy / "model"), "model")
        tags = {"checkpoint_sha256": checkpoint.digest(copy / "checkpoint")}
        version = client.create_model_version("study", f"{run.info.artifact_uri}/model", run.info.run_id, tags)
        place = Path(run.info.artifact_uri.removeprefix("file://")) / "model/artifacts/checkpoint"
    if damage == "deleted":
        shutil.rmtree(place)
    else:
        weights = bytearray((place / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (place / "model.safetensors").write_bytes(weights)
        if damage == "sealed anew":
            seal(place)
    message = "cannot be fetched" if damage == "deleted" else "have changed since it was registered"
    with (
        pytest.raises(UserError, match=message),
        checkpoint_folder(f"models:/study/{version.version}", CONFIG, copy),
    ):
        pass


def test_a_server_that_does_not_answer_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        config = TrackingConfig(
            uri=f"http://127.0.0.1:{taken.getsockname()[1]}", artifacts=None, experiment="study", model="study"
        )
        with (
            pytest.raises(UserError, match="does not answer: start it, or change"),
            checkpoint_folder("models:/study/1", config, tmp_path),
        ):
            pass
