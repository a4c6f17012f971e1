"""A model reference -> a checkpoint, or the MLflow model around it: in a folder, or a version of the registry."""

import re
import tempfile
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
from pipelines.tracking.mlflow_model import CHECKPOINT, write_model
from pipelines.tracking.signature import fetch_signature, verify
from pipelines.tracking.store import connect

_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@contextmanager
def checkpoint_folder(reference: str, config: TrackingConfig, project: Path) -> Iterator[Path]:
    """The checkpoint that a reference names, complete and unchanged.

    Args:
        reference: A folder, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        config: Where the registry is.
        project: What relative paths of `reference` and `config` count from.

    Yields:
        A folder. That of a registered model is temporary.

    Raises:
        UserError: There is no such folder, model, alias or version, the server does not answer, or the files are not
            those that were registered.
    """
    if not reference.startswith("models:"):
        yield _local(project / reference)
        return
    with model_folder(reference, config, project) as model:
        yield model / CHECKPOINT


@contextmanager
def model_folder(reference: str, config: TrackingConfig, project: Path) -> Iterator[Path]:
    """The MLflow model of a reference, in a temporary folder: as it was registered, or made of a checkpoint's folder.

    Its checkpoint is complete and unchanged. Its code is what was registered: only a signature (`tracking.signature`)
    says that nobody changed it since.

    Args:
        reference: As of `checkpoint_folder`.
        config: Where the registry is.
        project: As of `checkpoint_folder`.

    Raises:
        UserError: As `checkpoint_folder`.
    """
    with tempfile.TemporaryDirectory(prefix="medregion-") as name:
        scratch = Path(name)
        if not reference.startswith("models:"):
            write_model(scratch / "model", _local(project / reference))
            yield scratch / "model"
            return
        client, version = find_registered(reference, config, project)
        key = None if config.signature is None else project / config.signature.public_key
        yield _downloaded(reference, client, version, scratch, key)


def find_registered(reference: str, config: TrackingConfig, project: Path) -> tuple[MlflowClient, ModelVersion]:
    """The registry's client, and the version that `models:/NAME@ALIAS` or `models:/NAME/VERSION` names in it.

    Raises:
        UserError: The server does not answer, or there is no such model, alias or version.
    """
    found = _REGISTERED.fullmatch(reference)
    if found is None:
        raise UserError(f"{reference} names no model: write models:/NAME@ALIAS or models:/NAME/VERSION")
    client = connect(config, project)
    try:
        return client, _version(client, found)
    except MlflowException as error:
        name = found["name"]
        if found["alias"] == "champion" and _is_registered(client, name):
            raise UserError(
                f"{name} has no champion yet: run `python -m flows.promote`, or name a version, such as "
                f"models:/{name}/1"
            ) from None
        if found["alias"] == "champion":
            raise UserError(
                f"{reference} is not registered: `make run` trains and registers a study's models, then "
                "`python -m flows.promote` makes one of them champion; see `make ui` for what there is"
            ) from None
        raise UserError(f"{reference} is not registered ({one_line(error)}): see `make ui`") from None


def _is_registered(client: MlflowClient, name: str) -> bool:
    try:
        return bool(client.get_registered_model(name))
    except MlflowException:
        return False


def _local(folder: Path) -> Path:
    if not (folder / checkpoints.CONFIG).is_file():
        raise UserError(f"{folder} holds no checkpoint ({checkpoints.CONFIG}): name its folder, or models:/NAME@ALIAS")
    try:
        checkpoints.digest(folder)
    except DamagedError as error:
        raise UserError(str(error)) from None
    return folder


def _fetched(client: MlflowClient, version: ModelVersion, scratch: Path, public_key: Path | None) -> Path:
    """The files of a version; where its signature is asked for, compared with it, for all of them were signed."""
    source = str(version.source).rstrip("/")
    folder = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(scratch), tracking_uri=client.tracking_uri))
    if public_key is not None:
        verify(folder, fetch_signature(client, version, scratch), public_key)
    return folder


def _downloaded(
    reference: str, client: MlflowClient, version: ModelVersion, scratch: Path, public_key: Path | None
) -> Path:
    wanted = version.tags.get("checkpoint_sha256")
    if wanted is None:
        raise UserError(f"{reference} has no tag checkpoint_sha256: it was not registered by this project")
    try:
        folder = _fetched(client, version, scratch, public_key)
        if not (folder / CHECKPOINT).is_dir():
            raise FileNotFoundError("its checkpoint is missing there")
        same = checkpoints.digest(folder / CHECKPOINT) == wanted
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
