"""Which parameters, code, tables and libraries the report speaks of."""

import importlib.metadata
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from models.verified import sha256_file
from pipelines.git_command import changes, git

LIBRARIES = ("torch", "transformers", "ray", "webdataset", "dvc", "mlflow", "numpy", "pandas", "pillow", "scikit-image")


def provenance(params: Path, files: list[Path]) -> dict[str, Any]:
    """Digests and versions.

    Args:
        params: params.yaml.
        files: Tables and manifests; one that is not there is left out.
    """
    return {
        "params": sha256_file(params),
        "git": git_state(params.resolve().parent),
        "files": {path.as_posix(): sha256_file(path) for path in files if path.is_file()},
        "versions": versions(LIBRARIES),
    }


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Of Python and of installed libraries, by name."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in libraries}}


def git_state(folder: Path) -> dict[str, Any] | None:
    """The commit that is checked out, and whether tracked files differ from it; None where there is no commit."""
    commit = git(folder, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(changes(folder))}
