"""A model reference -> the folder of a checkpoint: a folder itself, or a version of MLflow's registry, downloaded."""

import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from models import checkpoint as checkpoints
from models.verified import DamagedError
from pipelines.errors import UserError, one_line
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.mlflow_model import CHECKPOINT
from pipelines.tracking.store import connect

_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
_SECONDS = 10


@contextmanager
def checkpoint_folder(reference: str, config: TrackingConfig, project: Path) -> Iterator[Path]:
    """The checkpoint that a reference names, complete and unchanged.

    Args:
        reference: A folder, relative to the working folder; `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        config: Where the registry is.
        project: What relative paths of `config` count from.

    Yields:
        A folder. That of a registered model is temporary.

    Raises:
        UserError: There is no such folder, model, alias or version, the server does not answer, or the files are not
            those that were registered.
    """
    if not reference.startswith("models:"):
        yield _local(Path(reference))
        return
    found = _REGISTERED.fullmatch(reference)
    if found is None:
        raise UserError(f"{reference} names no model: write models:/NAME@ALIAS or models:/NAME/VERSION")
    with tempfile.TemporaryDirectory(prefix="medregion-") as scratch:
        yield _downloaded(reference, _client(config, project), found, Path(scratch))


def _local(folder: Path) -> Path:
    if not (folder / checkpoints.CONFIG).is_file():
        raise UserError(f"{folder} holds no checkpoint ({checkpoints.CONFIG}): name its folder, or models:/NAME@ALIAS")
    try:
        checkpoints.digest(folder)
    except DamagedError as error:
        raise UserError(str(error)) from None
    return folder


def _client(config: TrackingConfig, project: Path) -> MlflowClient:
    if config.database(project) is None:
        _check_server(config.uri)
    return connect(config, project)


def _check_server(uri: str) -> None:
    """MLflow itself would try for minutes."""
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except (OSError, ValueError) as error:
        raise UserError(
            f"the MLflow server of params.yaml (tracking.uri) does not answer: start it, or name a checkpoint's folder "
            f"({one_line(error)})"
        ) from None


def _downloaded(reference: str, client: MlflowClient, found: re.Match[str], scratch: Path) -> Path:
    try:
        version = _version(client, found)
    except MlflowException as error:
        raise UserError(f"{reference} is not registered ({one_line(error)}): see `make ui`") from None
    wanted = version.tags.get("checkpoint_sha256")
    if wanted is None:
        raise UserError(f"{reference} has no tag checkpoint_sha256: it was not registered by this project")
    try:
        source = f"{str(version.source).rstrip('/')}/{CHECKPOINT}"
        folder = Path(
            mlflow.artifacts.download_artifacts(source, dst_path=str(scratch), tracking_uri=client.tracking_uri)
        )
        same = checkpoints.digest(folder) == wanted
    except DamagedError:
        same = False
    except (MlflowException, OSError) as error:
        raise UserError(
            f"the files of {reference} cannot be fetched ({one_line(error)}): restore them where MLflow keeps them"
        ) from None
    if not same:
        raise UserError(f"the files of {reference} have changed since it was registered: restore them")
    return folder


def _version(client: MlflowClient, found: re.Match[str]) -> ModelVersion:
    name, alias = found["name"], found["alias"]
    if alias is not None:
        return client.get_model_version_by_alias(name, alias)
    return client.get_model_version(name, found["version"])
