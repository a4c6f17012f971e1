"""`make try` and `make serve-model` where they cannot serve: one line each; tests/lifecycle has what they serve."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from flows import serve_model, try_model
from pipelines.errors import UserError
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.store import connect

COMMANDS = pytest.mark.parametrize("main", [try_model.main, serve_model.main], ids=["try", "serve-model"])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A workspace whose registered model has no champion."""
    folder = tmp_path_factory.mktemp("study")
    params = yaml.safe_load((repository / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    connect(TrackingConfig(**params["tracking"]), folder).create_registered_model("medregion")
    return folder


@COMMANDS
def test_without_a_champion_it_is_said_how_there_will_be_one(
    main: Callable[..., None], study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study)
    with pytest.raises(UserError, match=r"medregion has no champion yet: run `python -m flows\.promote`"):
        main("--port", "0")
    with pytest.raises(UserError, match=r"models:/other@champion is not registered: `make run` trains"):
        main("models:/other@champion", "--port", "0")


@COMMANDS
def test_a_folder_without_a_checkpoint_is_one_line(
    main: Callable[..., None], study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study)
    with pytest.raises(UserError, match="nowhere holds no checkpoint"):
        main("nowhere", "--port", "0")
