"""What `dvc repro` would run, and why.

Until the stage `code` has run, `dvc status` names that stage alone, for the others depend on the files that it writes.
Here the fingerprints are made anew, in memory, and compared with those that the stages ran with.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.code.config import load_code
from pipelines.code.fingerprint import FOLDER, as_text, from_text
from pipelines.code.graph import Stage, read_graph
from pipelines.code.stage import fingerprints
from pipelines.dvc_stages import locked_stages


def print_status(project: Path = Path()) -> None:
    """Print a line for each stage that would run, in the order in which they can."""
    reasons = outdated(project)
    for stage, why in reasons.items():
        print(f"{stage}: {'; '.join(why)}")
    if not reasons:
        print("everything is up to date")


def outdated(project: Path) -> dict[str, list[str]]:
    """Stage -> why it would run.

    A stage after one that would run is among them: it runs only if that one writes other bytes than before.

    Raises:
        UserError: dvc.yaml, or what params.yaml says about plug-ins, cannot be used.
    """
    stages = read_graph(project)
    new = {stage: as_text(digests) for stage, digests in fingerprints(load_code(project / "params.yaml")).items()}
    locked = locked_stages(project)
    changes = _dvc_status(project)
    found: dict[str, list[str]] = {}
    for stage in stages:
        why = []
        if stage.name in locked:
            why += _code_changes(project, locked[stage.name], stage, new.get(stage.name))
            why += _in_words(changes.get(stage.name, []))
        else:
            why.append("never ran")
        if not why:
            # Fingerprints are compared one by one, so that a new list for others is no reason here.
            why += [f"if {name} writes other bytes" for name in stage.upstream if name in found and name != "code"]
        if why:
            found[stage.name] = why
    return found


def _code_changes(project: Path, locked: dict[str, Any], stage: Stage, new: str | None) -> list[str]:
    """The files of code that are not what they were when the stage ran."""
    path = (FOLDER / f"{stage.name}.txt").as_posix()
    recorded = {dependency["path"]: dependency.get("md5") for dependency in locked.get("deps", [])}.get(path)
    if new is None or recorded is None or _md5(new) == recorded:
        return []
    old = _recorded_text(project, path, recorded)
    if old is None:
        return [f"{path} changed"]
    before, after = from_text(old), from_text(new)
    return [f"{name} changed" for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]


def _recorded_text(project: Path, path: str, md5: str) -> str | None:
    """The fingerprint that a stage ran with: the present file, or an older one in DVC's cache."""
    from dvc.repo import Repo

    file = project / path
    if not file.is_file() or _md5(file.read_text(encoding="utf-8")) != md5:
        with Repo(str(project)) as repo:
            file = Path(repo.cache.local.oid_to_path(md5))
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("utf-8"), usedforsecurity=False).hexdigest()


def _dvc_status(project: Path) -> dict[str, list[Any]]:
    """What DVC itself finds changed, by stage, as `dvc status --json` prints it."""
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        return repo.status()


def _in_words(changes: list[Any]) -> Iterator[str]:
    for change in changes:
        if isinstance(change, str):
            yield change
            continue
        for what in change.values():
            for path, state in what.items():
                if isinstance(state, dict):  # a params file, and the keys of it
                    yield from (f"{path}: {key} {how}" for key, how in state.items())
                elif not path.startswith(f"{FOLDER.as_posix()}/"):
                    yield f"{path} {state}"
