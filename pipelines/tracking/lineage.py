"""What a checkpoint came from, stage by stage, as its run keeps it in `lineage.json`.

It is made from dvc.lock, which says of each stage what it read and wrote. A stage may have run again since: it counts
only where it wrote what the stages after it read, so that nothing is told of a checkpoint that is true of a later one.
`flows.lineage` compares it with a workspace.
"""

from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import networkx
import pyarrow.parquet as pq

from models.verified import SUMS, DamagedError, read_digests, sha256_file
from pipelines.code import PROJECT
from pipelines.code.fingerprint import FOLDER, from_text
from pipelines.dvc_stages import digest_in, locked_stages
from pipelines.tracking import provenance
from pipelines.tracking.paths import without_machine_paths

FILE = "lineage.json"
# Where params.yaml names files that no stage writes, beside the sources' roots.
_SETTINGS = {"captions": "prompts", "regions": "review"}
_KEY = "patient key"


def record(project: Path, method: str) -> dict[str, Any]:
    """The lineage of the checkpoint that lies in a workspace.

    Args:
        project: Folder with dvc.lock, params.yaml and data/.
        method: Whose checkpoint.

    Returns:
        As JSON, without paths of this machine. `method`; `fault`, null or why nothing is known; `commit` and `dirty` of
        git, `unknown` where the code that trained is not the present one; `stages`, the last one first. Each has its
        `stage`; `fault`, null or why no more is known of it; `files` that it wrote (`output`) or that lay there before
        (`input`); `licence`, of a source; `params`; `code` (path -> SHA-256), null where it is not known. A file has
        `path`, `kind`, `md5` as in dvc.lock, and of `files`, `bytes`, `sha256`, `rows` (by table), `members` (SHA-256
        by path) and `setting` (the key of params.yaml that named it) what there is.
    """
    found: dict[str, Any] = {"method": method, "fault": None, "commit": "unknown", "dirty": "unknown", "stages": []}
    locked = locked_stages(project)
    if f"train@{method}" not in locked or not (project / ".dvc").is_dir():
        return {**found, "fault": f"dvc.lock has no train@{method}: it was trained without DVC"}
    # Here, for DVC's import takes half a second.
    from pipelines.dvc_digests import Digests

    with Digests(project) as digests:
        recorder = _Recorder(project, locked, digests)
        checkpoint = f"data/checkpoints/{method}"
        if digests.of(checkpoint) != _outs(locked[f"train@{method}"])[checkpoint]["md5"]:
            return {**found, "fault": f"dvc.lock is of another checkpoint than the one in {checkpoint}"}
        found["stages"] = recorder.stages(method)
    if _trained_by_present_code(project, method, found["stages"]):
        found["commit"], found["dirty"] = provenance.commit(project)
    return dict(without_machine_paths(found))


def _trained_by_present_code(project: Path, method: str, stages: list[dict[str, Any]]) -> bool:
    """Whether the files of this project that the training ran are as they were."""
    code = next((stage["code"] for stage in stages if stage["stage"] == f"train@{method}"), None)
    own = {name: digest for name, digest in (code or {}).items() if name.endswith(".py")}
    files = {name: PROJECT / name for name in own}
    return bool(own) and all(file.is_file() and sha256_file(file) == own[name] for name, file in files.items())


def sha256_of(path: Path) -> str | None:
    """The SHA-256 that `SHA256SUMS` has of a file, or that of this list itself of a folder; None without a list."""
    try:
        if path.is_dir():
            return sha256_file(path / SUMS) if (path / SUMS).is_file() else None
        return read_digests(path.parent).get(path.name)
    except DamagedError:
        return None


def rows_of(path: Path) -> dict[str, int]:
    """Rows of each table in a folder, by the table's name."""
    return {table.stem: pq.read_metadata(table).num_rows for table in sorted(path.glob("*.parquet"))}


def members_of(path: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder, by its path there; empty where there is no folder."""
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {file.relative_to(path).as_posix(): sha256_file(file) for file in files}


def without_key_path(code: dict[str, str]) -> dict[str, str]:
    """A fingerprint whose line of the key for patient ids does not say where the key lies."""
    return {_KEY if name.startswith(f"{_KEY} ") else name: digest for name, digest in code.items()}


class _Recorder:
    """Reads one dvc.lock, and what still lies in the workspace of what it names."""

    def __init__(self, project: Path, locked: dict[str, Any], digests: Any) -> None:
        self.project, self.digests = project, digests
        self.locked = {stage: entry for stage, entry in locked.items() if stage != "code"}

    def stages(self, method: str) -> list[dict[str, Any]]:
        """Records of the evaluation, the training and all that it came from."""
        train, evaluate = f"train@{method}", f"evaluate@{method}"
        order, moved = self._walk(train)
        others = None
        if evaluate in self.locked:
            checkpoint = f"data/checkpoints/{method}"
            read, trained = (
                {dependency["path"]: digest_in(dependency) for dependency in self.locked[stage]["deps"]}
                for stage in (evaluate, train)
            )
            if read.get(checkpoint) == _outs(self.locked[train])[checkpoint]["md5"]:
                order.insert(0, evaluate)
                if any(read[path] != trained[path] for path in read.keys() & trained.keys()):
                    others = "it scored on other shards than those that training read"
        found = [self._moved(stage, moved[stage]) if stage in moved else self._stage(stage) for stage in order]
        return [stage | {"fault": others} if stage["stage"] == evaluate else stage for stage in found]

    def _walk(self, start: str) -> tuple[list[str], dict[str, dict[str, str]]]:
        """The stages behind one, each before those that it read from; and what was read of those that ran again."""
        behind: dict[str, list[str]] = {}
        moved: dict[str, dict[str, str]] = {}
        waiting = [start]
        while waiting:
            stage = waiting.pop(0)
            if stage in behind:
                continue
            behind[stage] = []
            for dependency in self.locked[stage].get("deps", []):
                path, md5 = dependency["path"], digest_in(dependency)
                for other, out in self._writers(path):
                    behind[stage].append(other)
                    if not self._is_of(path, md5, out):
                        moved.setdefault(other, {})[path] = md5
            waiting += [other for other in behind[stage] if other not in moved]
        for other in moved:
            behind[other] = []
        reached = {start} | networkx.descendants(networkx.DiGraph(behind), start)
        order = [stage for stage in TopologicalSorter(behind).static_order() if stage in reached]
        return order[::-1], moved

    def _writers(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for stage, entry in self.locked.items():
            yield from ((stage, out) for name, out in _outs(entry).items() if _overlap(path, name))

    def _is_of(self, path: str, md5: str, out: dict[str, Any]) -> bool:
        """Whether a path that a stage read, which is an output, in it or around it, is what dvc.lock says of that."""
        if path == out["path"]:
            return bool(md5 == out["md5"])
        if self.digests.of(path) == md5 and self.digests.of(out["path"]) == out["md5"]:
            return True
        members = self.digests.members(out["md5"]) or {}
        return _inside(path, out["path"]) and members.get(path.removeprefix(f"{out['path']}/")) == md5

    def _moved(self, stage: str, read: dict[str, str]) -> dict[str, Any]:
        return {
            "stage": stage,
            "fault": "not known: what dvc.lock says of it is not what the stages after it read",
            "files": [{"path": path, "kind": "output", "md5": md5} for path, md5 in read.items()],
            "params": {},
            "code": None,
        }

    def _stage(self, stage: str) -> dict[str, Any]:
        entry = self.locked[stage]
        # Timings, and numbers that stand in the evaluation too, are in other files of `data/`.
        params = entry.get("params", {}).get("params.yaml", {})
        settings = _settings(params)
        files = [self._file(out, "output", None) for path, out in _outs(entry).items() if not path.endswith(".json")]
        for dependency in entry.get("deps", []):
            path = dependency["path"]
            if not _inside(path, FOLDER.as_posix()) and not any(self._writers(path)):
                files.append(self._file(dependency, "input", settings.get(path)))
        source = params.get(f"ingest.sources.{stage.removeprefix('ingest@')}") or {}
        return {
            "stage": stage,
            "fault": None,
            **({"licence": source.get("licence") or "not given"} if stage.startswith("ingest@") else {}),
            "files": files,
            "params": params,
            "code": self._code(stage, entry),
        }

    def _file(self, entry: dict[str, Any], kind: str, setting: str | None) -> dict[str, Any]:
        path = self.project / entry["path"]
        found = {
            "path": entry["path"],
            "kind": kind,
            "md5": digest_in(entry),
            "files": entry.get("nfiles"),
            "bytes": entry.get("size"),
            "setting": setting,
        }
        if self.digests.of(entry["path"]) == digest_in(entry):
            if kind == "output":
                found |= {"sha256": sha256_of(path), "rows": rows_of(path)}
            elif setting == "captions.prompts":
                # Not of a source: there are many, and their names may be patients'.
                found["members"] = members_of(path)
        return {name: value for name, value in found.items() if value not in (None, {})}

    def _code(self, stage: str, entry: dict[str, Any]) -> dict[str, str] | None:
        path = (FOLDER / f"{stage}.txt").as_posix()
        md5 = next((dependency["md5"] for dependency in entry.get("deps", []) if dependency["path"] == path), None)
        if md5 is None:
            return None
        if self.digests.of(path) == md5:
            text = (self.project / path).read_text(encoding="utf-8")
        else:
            text = self.digests.text(md5)
        return None if text is None else without_key_path(from_text(text))


def _settings(params: dict[str, Any]) -> dict[str, str]:
    """Path of what no stage writes -> the key of params.yaml that named it when a stage ran.

    Args:
        params: The stage's in dvc.lock.
    """
    names = {**_SETTINGS, **{key: "root" for key in params if key.startswith("ingest.sources.")}}
    sections = {key: params[key] for key in names if isinstance(params.get(key), dict)}
    return {
        str(section[names[key]]): f"{key}.{names[key]}" for key, section in sections.items() if names[key] in section
    }


def _outs(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {out["path"]: out for out in entry.get("outs", [])}


def _inside(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def _overlap(one: str, other: str) -> bool:
    return one == other or _inside(one, other) or _inside(other, one)
