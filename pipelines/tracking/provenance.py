"""What a checkpoint came from: digests of its inputs, parameters and code."""

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.data.format import EXTENSIONS, MANIFEST
from models.verified import sha256_file
from pipelines.config import load_params
from pipelines.dvc_stages import locked_stages
from pipelines.files import digest_of, sha256_files
from pipelines.git_command import changes, git
from pipelines.weights import used_weights

# Tag -> folder of the tables whose digest it holds.
_TABLES = {"tables": "split", "regions": "regions", "captions": "captions"}


def sources(project: Path) -> list[str]:
    """The sources that params.yaml names."""
    return sorted(load_params(project / "params.yaml").get("ingest", {}).get("sources") or {})


def weights(project: Path) -> str:
    """The published weights that the study starts from, each with its stages, package, licence and digest."""
    rows = used_weights(load_params(project / "params.yaml"), project)
    return "; ".join(
        f"{row['stages']}: {row['folder']} ({row['package']}, {row['licence']}, SHA-256 {row['sha256'][:16]}, "
        f"trained on {row['trained_on']})"
        for row in rows
    )


def manifests(project: Path) -> dict[str, Path]:
    """Family of shards -> its manifest, of those that are there."""
    files = {family: project / "data/shards" / family / MANIFEST for family in EXTENSIONS}
    return {family: file for family, file in files.items() if file.is_file()}


def digests(project: Path) -> dict[str, str]:
    """SHA-256 of each kind of input by its name, and of each source by `sources.<name>`; `absent` where none exists.

    They are of the files that lie there now: those that a checkpoint is made from while it trains, and afterwards as
    long as `trained_on_present_shards` says so.
    """
    params = load_params(project / "params.yaml")
    of_source = {name: sorted((project / "data/ingest" / name).glob("*.parquet")) for name in sources(project)}
    inputs = {
        "sources": [file for files in of_source.values() for file in files],
        **{f"sources.{name}": files for name, files in of_source.items()},
        **{name: sorted((project / "data" / folder).glob("*.parquet")) for name, folder in _TABLES.items()},
        "shards": list(manifests(project).values()),
    }
    found = {name: sha256_files(project, files) if files else "absent" for name, files in inputs.items()}
    found["params"] = sha256_file(project / "params.yaml")
    found["prompts"] = _prompts(project, params.get("captions", {}).get("prompts"))
    return found


def trained_on_present_shards(project: Path, curve: Mapping[str, Any]) -> bool:
    """Whether nothing in a checkpoint's curve.json says that it was trained on other shards than those that lie there.

    Else none of the present tables, settings and code need be what it came from.
    """
    present = {family: sha256_file(file) for family, file in manifests(project).items()}
    return bool(curve.get("shards", present) == present)


def _prompts(project: Path, folder: str | None) -> str:
    """Digest of the files in the folder that `captions.prompts` names, which may lie outside the project."""
    if folder is None:
        return "absent"
    root = project / folder
    return sha256_files(root, [file for file in root.rglob("*") if file.is_file()])


def locked_stage(project: Path, stage: str) -> str:
    """Digest of what dvc.lock says of a stage (command, dependencies, params, outputs), or `absent`."""
    stages = locked_stages(project)
    return digest_of(stages[stage]) if stage in stages else "absent"


def commit(project: Path) -> tuple[str, str]:
    """The git commit of the project and whether tracked files differ from it, as `true` or `false`; else `unknown`."""
    head = git(project, "rev-parse", "--verify", "HEAD")
    changed = changes(project)
    if head is None or changed is None:
        return "unknown", "unknown"
    return head, "true" if changed else "false"


def user() -> str:
    """The login name of whoever runs this."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # no such user in the container
        return "unknown"
