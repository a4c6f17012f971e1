"""A lineage (`pipelines.tracking.lineage`) beside a workspace: what is the same, what changed, what is not here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipelines.code.config import load_code
from pipelines.code.graph import dvc_boundary
from pipelines.code.stage import fingerprints
from pipelines.config import load_params
from pipelines.tracking.lineage import members_of, rows_of, sha256_of, without_key_path
from pipelines.tracking.paths import without_machine_paths
from pipelines.tracking.settings import flat

State = Literal["same", "changed", "missing"]


@dataclass(frozen=True, kw_only=True)
class FileComparison:
    """A file or folder of a lineage.

    Attributes:
        path: As dvc.lock had it; of one outside the project the last name.
        kind: output of the stage, or input that no stage wrote.
        state: same, changed, or missing in the workspace.
        then: `md5`, and of `sha256`, `rows`, `files` and `bytes` what the lineage has.
        now: The same of the workspace, where it changed: `md5`, `sha256`, `rows`.
        members: Files of a folder of prompts that are not the same -> changed, added or missing.
        cached: Whether DVC's cache here has what it was; None where it is the same.
    """

    path: str
    kind: str
    state: State
    then: dict[str, Any]
    now: dict[str, Any]
    members: dict[str, str]
    cached: bool | None


@dataclass(frozen=True, kw_only=True)
class StageComparison:
    """A stage of a lineage.

    Attributes:
        stage: As dvc.yaml calls it.
        fault: Why less is known of it or of the workspace; None where all is.
        licence: Of a source.
        files: What it wrote and what it read that no stage wrote.
        params: Key -> [then, now] of each that is not the same; null where there is none.
        code: Files that are not the same -> changed, added or missing; None where it is not known.
    """

    stage: str
    fault: str | None
    licence: str | None
    files: list[FileComparison]
    params: dict[str, list[Any]]
    code: dict[str, str] | None

    @property
    def same(self) -> bool:
        """Whether all of it is known, and as it was."""
        all_files = all(file.state == "same" for file in self.files)
        return self.fault is None and all_files and not self.params and self.code == {}


def compare(stages: list[dict[str, Any]], project: Path) -> list[StageComparison]:
    """Compare the stages of a lineage with a workspace.

    Args:
        stages: `stages` of `lineage.record`.
        project: The workspace: dvc.yaml, params.yaml and data/.

    Raises:
        UserError: The workspace is no DVC project, or its params.yaml or dvc.yaml cannot be used.
    """
    from pipelines.dvc_digests import Digests

    params = load_params(project / "params.yaml")
    code = fingerprints(load_code(project / "params.yaml"))
    with dvc_boundary(), Digests(project) as digests:
        return [
            StageComparison(
                stage=stage["stage"],
                fault=stage["fault"] or (None if stage["stage"] in code else "params.yaml has no such stage now"),
                licence=stage.get("licence"),
                files=[_file(file, project, params, digests) for file in stage["files"]],
                params=_params(stage["params"], params),
                code=_code(stage["code"], code.get(stage["stage"])),
            )
            for stage in stages
        ]


def _file(file: dict[str, Any], project: Path, params: dict[str, Any], digests: Any) -> FileComparison:
    path = _place(file, params)
    md5 = digests.of(path) if path is not None else None
    state: State = "missing" if md5 is None else "same" if md5 == file["md5"] else "changed"
    now: dict[str, Any] = {}
    members: dict[str, str] = {}
    if path is not None and state == "changed":
        now = {"md5": md5}
        if file["kind"] == "output":
            now |= {"sha256": sha256_of(project / path), "rows": rows_of(project / path)}
        if "members" in file:
            members = _differences(file["members"], members_of(project / path))
    return FileComparison(
        path=file["path"],
        kind=file["kind"],
        state=state,
        then={name: file[name] for name in ("md5", "sha256", "rows", "files", "bytes") if name in file},
        now={name: value for name, value in now.items() if value},
        members=members,
        cached=None if state == "same" else digests.cached(file["md5"]),
    )


def _place(file: dict[str, Any], params: dict[str, Any]) -> str | None:
    """Where a file would be now: where params.yaml says, of one that it names; None where it names none any more."""
    if "setting" not in file:
        return str(file["path"])
    value: Any = params
    for key in file["setting"].split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def _params(then: dict[str, Any], params: dict[str, Any]) -> dict[str, list[Any]]:
    """The settings of a stage that are not the same."""
    before, after = {}, {}
    for name, section in then.items():
        value: Any = params
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        before |= flat({name: section})
        after |= flat({name: without_machine_paths(value)}) if value is not None else {}
    keys = dict.fromkeys([*before, *after])
    return {key: [before.get(key), after.get(key)] for key in keys if before.get(key) != after.get(key)}


def _code(then: dict[str, str] | None, now: dict[str, str] | None) -> dict[str, str] | None:
    return None if then is None or now is None else _differences(then, without_key_path(now))


def _differences(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    words = {name: "changed" if name in now else "missing" for name in then if now.get(name) != then[name]}
    return dict(sorted((words | {name: "added" for name in now if name not in then}).items()))
