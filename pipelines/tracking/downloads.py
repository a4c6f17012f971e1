"""The checkpoint of a registered model version, fetched from where MLflow keeps it and compared with its tag."""

import urllib.error
import urllib.request
from collections.abc import Mapping
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

_SECONDS = 10


def download_checkpoint(named: Mapping[str, str | None], config: TrackingConfig, project: Path, scratch: Path) -> Path:
    """Fetch the checkpoint of a version.

    Args:
        named: `name` of the registered model, and its `alias` or `version`.
        config: Where the registry is.
        project: What relative paths of `config` count from.
        scratch: Folder that takes the files.

    Raises:
        UserError: As `pipelines.tracking.checkpoints.checkpoint_folder`.
    """
    reference = f"models:/{named['name']}" + (f"@{named['alias']}" if named["alias"] else f"/{named['version']}")
    return _downloaded(reference, _client(config, project), named, scratch)


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


def _downloaded(reference: str, client: MlflowClient, named: Mapping[str, str | None], scratch: Path) -> Path:
    try:
        version = _version(client, named)
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


def _version(client: MlflowClient, named: Mapping[str, str | None]) -> ModelVersion:
    name, alias = str(named["name"]), named["alias"]
    if alias is not None:
        return client.get_model_version_by_alias(name, alias)
    return client.get_model_version(name, str(named["version"]))
