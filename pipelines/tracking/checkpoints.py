"""A model reference -> the folder of a checkpoint: a folder itself, or a version of MLflow's registry, downloaded."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models import checkpoint as checkpoints
from models.verified import DamagedError
from pipelines.errors import UserError
from pipelines.tracking.config import TrackingConfig

_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


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
    # MLflow takes four seconds to import, and a folder needs nothing of it.
    from pipelines.tracking.downloads import download_checkpoint

    with tempfile.TemporaryDirectory(prefix="medregion-") as scratch:
        yield download_checkpoint(found.groupdict(), config, project, Path(scratch))


def _local(folder: Path) -> Path:
    if not (folder / checkpoints.CONFIG).is_file():
        raise UserError(f"{folder} holds no checkpoint ({checkpoints.CONFIG}): name its folder, or models:/NAME@ALIAS")
    try:
        checkpoints.digest(folder)
    except DamagedError as error:
        raise UserError(str(error)) from None
    return folder
