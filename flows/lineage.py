"""What a registered model was made from, stage by stage, and what of it still lies in this workspace.

The walk goes from the registered version to its checkpoint and evaluation, and on to shards, captions, prompts, regions,
proposals, tables and raw files, with the settings and the code of each stage. All of it is in the lineage that the
version's run keeps (`pipelines.tracking.lineage`).

Reads: the MLflow store, params.yaml, dvc.yaml, data/, .dvc/cache. Writes: nothing.
Run alone: python -m flows.lineage VERSION|ALIAS|models:/NAME/VERSION|models:/NAME@ALIAS [--json]
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from pipelines.config import load
from pipelines.errors import UserError
from pipelines.stage import command
from pipelines.tracking import provenance
from pipelines.tracking.checkpoints import checkpoint_folder, find_registered
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.lineage import FILE
from pipelines.tracking.lineage_comparison import FileComparison, StageComparison, compare
from pipelines.tracking.names import CHECKPOINT

_DIGITS = 12


def walk(reference: str, config: TrackingConfig, project: Path) -> dict[str, Any]:
    """The lineage of a registered version beside a workspace, as JSON.

    Args:
        reference: Version or alias of the study's own model, or `models:/...`.
        config: Where the registry is, and the study's own model.
        project: The workspace.

    Returns:
        `model`, `version`, `aliases`, `method`; `checkpoint` (`sha256`, and `fault` where the registry's files are not
        those that were registered); `commit` (`then` and `now`, each with whether files differed from it); `fault`,
        null or why no lineage is known; `stages`, as of `lineage_comparison.compare`.

    Raises:
        UserError: There is no such version, or the store or the workspace cannot be used.
    """
    name = reference if reference.startswith("models:") else _own(reference, config.model)
    client, version = find_registered(name, config, project)
    found = {
        "model": version.name,
        "version": str(version.version),
        # A version that was found by its number lists its aliases, one found by an alias does not.
        "aliases": sorted(client.get_model_version(version.name, version.version).aliases),
        "method": version.tags.get("method"),
        "checkpoint": {"sha256": version.tags.get(CHECKPOINT), "fault": _fault(name, config, project)},
    }
    kept = _kept(client, version)
    then = {"commit": kept.get("commit"), "dirty": kept.get("dirty")}
    now = dict(zip(("commit", "dirty"), provenance.commit(project), strict=True))
    stages = [asdict(stage) | {"same": stage.same} for stage in compare(kept["stages"], project)]
    return {**found, "commit": {"then": then, "now": now}, "fault": kept["fault"], "stages": stages}


def _own(reference: str, model: str) -> str:
    return f"models:/{model}/{reference}" if reference.isdigit() else f"models:/{model}@{reference}"


def _fault(reference: str, config: TrackingConfig, project: Path) -> str | None:
    """What is wrong with the files that the registry has of a version."""
    try:
        with checkpoint_folder(reference, config, project):
            return None
    except UserError as error:
        return str(error)


def _kept(client: MlflowClient, version: ModelVersion) -> dict[str, Any]:
    """The lineage that a version's run keeps; without one, the reason in its place."""
    try:
        if any(file.path == FILE for file in client.list_artifacts(version.run_id)):
            with tempfile.TemporaryDirectory(prefix="medregion-") as scratch:
                text = Path(client.download_artifacts(version.run_id, FILE, scratch)).read_text(encoding="utf-8")
            return dict(json.loads(text))
    except (MlflowException, OSError):
        return {"fault": "the files of its run are not where MLflow keeps them", "stages": []}
    except ValueError:
        raise UserError(f"{FILE} in the run {version.run_id} is no JSON: restore it where MLflow keeps it") from None
    return {"fault": "its run keeps no lineage: it was made before runs did", "stages": []}


def tree(found: dict[str, Any]) -> Tree:
    """The walk for people: a branch for each stage, what is not the same marked."""
    aliases = "".join(f" @{alias}" for alias in found["aliases"])
    root = Tree(Text(f"{found['model']} version {found['version']}{aliases}: {found['method']}"))
    checkpoint = found["checkpoint"]
    state = checkpoint["fault"] or "the registry's files are those that were registered"
    root.add(_text(f"checkpoint sha256 {_short(checkpoint['sha256'])}: {state}", checkpoint["fault"] is None))
    then, now = found["commit"]["then"], found["commit"]["now"]
    if then["commit"]:
        moved = "the same here" if then == now else f"here {_commit(now)}"
        root.add(_text(f"code at {_commit(then)}: {moved}", then == now))
    if found["fault"]:
        root.add(_text(f"no lineage: {found['fault']}", same=False))
    for stage in found["stages"]:
        files = [FileComparison(**file) for file in stage["files"]]
        branch = root.add(_text(_headline(stage), stage["same"]))
        for line, same in _lines(StageComparison(**{k: v for k, v in stage.items() if k != "same"} | {"files": files})):
            branch.add(_text(line, same))
    return root


def _headline(stage: dict[str, Any]) -> str:
    licence = f", licence {stage['licence']}" if stage["licence"] else ""
    return f"{stage['stage']}{licence}: {'same' if stage['same'] else stage['fault'] or 'not the same'}"


def _lines(stage: StageComparison) -> Iterator[tuple[str, bool]]:
    """What there is to say of a stage's files, settings and code, and whether it is the same."""
    for file in stage.files:
        yield _of_file(file), file.state == "same"
    for key, (then, now) in stage.params.items():
        yield f"params {key}: {_value(then)} -> {_value(now)}", False
    if stage.code is None:
        yield "code: not known", False
    elif stage.code:
        yield f"code: {', '.join(f'{name} {state}' for name, state in stage.code.items())}", False


def _of_file(file: FileComparison) -> str:
    words = [f"{file.path} ({'not made by a stage' if file.kind == 'input' else 'written'}) {file.state}"]
    words += [
        f"{name} {_short(file.then[name])}" + (f" -> {_short(file.now[name])}" if name in file.now else "")
        for name in ("md5", "sha256")
        if name in file.then
    ]
    rows = file.now.get("rows", {})
    words += [
        f"{table} {count:,}" + (f" -> {rows[table]:,}" if rows.get(table, count) != count else "") + " rows"
        for table, count in file.then.get("rows", {}).items()
    ]
    if "files" in file.then and "rows" not in file.then:
        words.append(f"{file.then['files']:,} files")
    words += [f"{name} {state}" for name, state in file.members.items()]
    if file.cached is not None:
        words.append("what it was is in DVC's cache" if file.cached else "what it was is not in DVC's cache")
    return ", ".join(words)


def _text(line: str, same: bool) -> Text:
    # Not as markup: names of files and settings may hold brackets.
    return Text(line, style="" if same else "bold red")


def _commit(of: dict[str, str]) -> str:
    changed = {"true": ", with changes", "false": ""}.get(of["dirty"], "")
    return f"commit {_short(of['commit'])}{changed}"


def _short(digest: str | None) -> str:
    head, dot, ending = (digest or "unknown").partition(".")
    return f"{head[:_DIGITS]}{dot}{ending}"


def _value(value: str | None) -> str:
    return "none" if value is None else value


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser("python -m flows.lineage", description="What a registered model was made from.")
    parser.add_argument("version", help="version or alias of the study's model, or models:/NAME/VERSION|@ALIAS")
    parser.add_argument("--json", action="store_true", help="all of it as JSON, digests in full")
    options = parser.parse_args(arguments)
    found = walk(options.version, load(TrackingConfig, "tracking"), Path())
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        Console(soft_wrap=True, highlight=False).print(tree(found))


if __name__ == "__main__":
    command(main)
