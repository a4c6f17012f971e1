"""What dvc.lock says of the stages that ran."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import UserError

# The parser in C, where PyYAML was built with it: dvc.lock is long, and read for each method.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def locked_stages(project: Path) -> dict[str, Any]:
    """Stage -> its entry (`cmd`, `deps`, `params`, `outs`), which no caller changes; empty where there is no dvc.lock.

    Raises:
        UserError: The file is not what DVC writes.
    """
    file = project / "dvc.lock"
    if not file.is_file():
        return {}
    stages = _stages(file.read_bytes())
    if stages is None:
        raise UserError(f"{file} is damaged: bring it back from git (`git checkout dvc.lock`), or delete it")
    return stages


def digest_in(entry: dict[str, Any]) -> str:
    """The digest of a dependency or an output: DVC's own, or the ETag that the server gave of a source's archive."""
    return str(entry.get("md5") or entry["etag"])


@lru_cache(maxsize=1)
def _stages(text: bytes) -> dict[str, Any] | None:
    try:
        value = yaml.load(text, Loader=_LOADER)
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    stages = value.get("stages") if isinstance(value, dict) else None
    return stages if isinstance(stages, dict) else None
