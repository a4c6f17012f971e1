"""What a checkpoint came from, step by step, as the run keeps it (`lineage.json`): the stages of dvc.lock that led to it.

`flows.lineage` walks along it and compares it with a workspace. It is made when the run is, from what lies in the
workspace then; `record` refuses where dvc.lock is of another checkpoint.
"""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from models.verified import SUMS, DamagedError, read_digests, sha256_file
from pipelines.code.fingerprint import FOLDER, from_text
from pipelines.config import load_params
from pipelines.tracking import provenance
from pipelines.tracking.paths import without_machine_paths

FILE = "lineage.json"

# Where the files that no stage writes are named in params.yaml.
_SETTINGS = (("captions", "prompts"), ("regions", "review"))


def record(project: Path, method: str) -> dict[str, Any]:
    """The lineage of the checkpoint that lies in a workspace.

    Args:
        project: Folder with dvc.lock, params.yaml and data/.
        method: Whose checkpoint.

    Returns:
        As JSON, without paths of this machine: `method`; `fault`, null or why nothing is known; `git` (`commit`,
        `dirty`); `stages`, from the evaluation back to the sources, each with its `stage`, `files` (written or read;
        `path`, `kind`, `md5` as in dvc.lock and, where there are any, `files`, `bytes`, `sha256`, `rows`, `members`,
        `setting`), `params` and `code` (path -> SHA-256).
    """
    commit, dirty = provenance.commit(project)
    found: dict[str, Any] = {"method": method, "fault": None, "git": {"commit": commit, "dirty": dirty}, "stages": []}
    lock = project / "dvc.lock"
    locked = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.is_file() else {}
    if f"train@{method}" not in locked:
        found["fault"] = f"dvc.lock does not have train@{method}: it was trained without DVC"
        return found
    if not (project / ".dvc").is_dir():
        found["fault"] = "the folder is no DVC project"
        return found
    # Here, for DVC's import takes a second.
    from pipelines.dvc_digests import Digests

    checkpoint = f"data/checkpoints/{method}"
    with Digests(project) as digests:
        if digests.of(checkpoint) != _outs(locked[f"train@{method}"])[checkpoint]["md5"]:
            found["fault"] = f"dvc.lock is of another checkpoint than the one in {checkpoint}"
            return found
    settings = _settings(load_params(project / "params.yaml"))
    for stage in closure(locked, method):
        found["stages"].append(_stage(project, stage, locked, settings))
    return dict(without_machine_paths(found))


def closure(locked: dict[str, Any], method: str) -> list[str]:
    """The stages that a method's evaluation, or its checkpoint, came from, each before those that it depends on."""
    start = f"evaluate@{method}" if f"evaluate@{method}" in locked else f"train@{method}"
    found: list[str] = []
    waiting = [start]
    while waiting:
        stage = waiting.pop(0)
        if stage in found:
            # Behind all that depend on it.
            found.remove(stage)
        found.append(stage)
        read = [dependency["path"] for dependency in locked[stage].get("deps", [])]
        waiting += [
            other
            for other, entry in locked.items()
            if other not in ("code", stage) and any(_overlap(path, out) for path in read for out in _outs(entry))
        ]
    return found


def sha256_of(path: Path) -> str | None:
    """SHA-256 that a sealed folder's list has of a file of it, or of that list for the folder; None without a list."""
    try:
        if (path / SUMS).is_file():
            return sha256_file(path / SUMS)
        return read_digests(path.parent).get(path.name)
    except (DamagedError, OSError):
        return None


def rows_of(path: Path) -> dict[str, int]:
    """Rows of a table, or of each table in a folder, by the table's name."""
    tables = [path] if path.suffix == ".parquet" else sorted(path.glob("*.parquet"))
    return {table.stem: pq.read_metadata(table).num_rows for table in tables if table.is_file()}


def members_of(path: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder of texts, by its path there."""
    return {
        file.relative_to(path).as_posix(): sha256_file(file) for file in sorted(path.rglob("*")) if file.is_file()
    }


def _stage(project: Path, stage: str, locked: dict[str, Any], settings: dict[str, str]) -> dict[str, Any]:
    entry = locked[stage]
    files = [
        _file(project, out, "output", None)
        for path, out in _outs(entry).items()
        if not path.startswith(("data/summaries/", "data/scores/"))
    ]
    written = {path for name, other in locked.items() if name != "code" for path in _outs(other)}
    for dependency in entry.get("deps", []):
        path = dependency["path"]
        if not path.startswith(f"{FOLDER.as_posix()}/") and not any(_overlap(path, out) for out in written):
            files.append(_file(project, dependency, "input", settings.get(path)))
    fingerprint = project / FOLDER / f"{stage}.txt"
    return {
        "stage": stage,
        "files": files,
        "params": entry.get("params", {}).get("params.yaml", {}),
        "code": from_text(fingerprint.read_text(encoding="utf-8")) if fingerprint.is_file() else {},
    }


def _file(project: Path, entry: dict[str, Any], kind: str, setting: str | None) -> dict[str, Any]:
    path = project / entry["path"]
    found = {
        "path": entry["path"],
        "kind": kind,
        "setting": setting,
        "md5": entry.get("md5"),
        "files": entry.get("nfiles"),
        "bytes": entry.get("size"),
        "sha256": sha256_of(path) if kind == "output" else None,
        "rows": rows_of(path) if kind == "output" else {},
        # What people edit is named file by file; raw files, which are many and called after patients, are not.
        "members": members_of(path) if setting == "captions.prompts" else {},
    }
    return {name: value for name, value in found.items() if value not in (None, {})}


def _settings(params: dict[str, Any]) -> dict[str, str]:
    """Path of what no stage writes -> the key of params.yaml that names it."""
    found = {}
    for section, key in _SETTINGS:
        if isinstance(path := (params.get(section) or {}).get(key), str):
            found[path] = f"{section}.{key}"
    for name, source in ((params.get("ingest") or {}).get("sources") or {}).items():
        found[source["root"]] = f"ingest.sources.{name}.root"
    return found


def _outs(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {out["path"]: out for out in entry.get("outs", [])}


def _overlap(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")
