"""A run with changed settings: an experiment of DVC in a workspace of its own, which is deleted at its end.

`dvc exp run --temp` leaves params.yaml, data/ and dvc.lock here as they are. What the experiment made is in DVC's cache
and in git, as a commit that `dvc exp show` lists. The same settings in params.yaml bring it here from the cache with
`dvc repro`; `dvc exp apply` would also take back what is not committed, such as people's answers.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.states import Completed, Failed, State

from flows.stages import TEMPORARY, TRIED_AGAIN, failed_as, run_dvc
from models.urls import is_url
from pipelines.code.graph import dvc_boundary
from pipelines.config import PARAMS, load_section
from pipelines.dvc_process import may_pass_again
from pipelines.errors import UserError

_NAMED = re.compile(r"^Ran experiment\(s\): (\S+)$")
_FOLDERS = ".dvc/tmp/exps/standalone/tmp*"


def run_experiment(project: Path, targets: Sequence[str], settings: Sequence[str], force: bool) -> State:
    """Run the graph with other settings; the workspace stays as it is.

    Args:
        project: The workspace.
        targets: Stages, with all that they depend on; empty: all.
        settings: `key=value` each, of keys that params.yaml has.
        force: Run the stages even where nothing changed.
    """
    try:
        check_sources(project)
    except UserError as error:
        return Failed(message=str(error))
    state = experiment(str(project), list(targets), list(settings), force, return_state=True)
    if not state.is_completed():
        return failed_as(state)
    name: Any = state.result()
    publish_experiment(project, name, settings)
    return Completed(message=f"experiment {name} with {', '.join(settings)}; this workspace is as it was")


def check_sources(project: Path) -> None:
    """See that an experiment, which runs in another folder, will find the raw data.

    Raises:
        UserError: A source lies where neither git nor DVC brings it to another folder.
    """
    from dvc.repo import Repo

    sources = load_section("ingest", project / PARAMS).get("sources") or {}
    named = {name: str(source["root"]) for name, source in sources.items()}
    roots = {name: root for name, root in named.items() if not is_url(root) and not Path(root).is_absolute()}
    with dvc_boundary(), Repo(str(project)) as repo:
        brought = {Path(out.fs_path) for out in repo.index.outs}
    for name, root in roots.items():
        path = project / root
        if not brought & {path, *path.parents} and not _is_tracked(project, root):
            raise UserError(
                f"ingest.sources.{name}.root is {root}, which an experiment's own folder does not have: write it as an "
                f"absolute path, or version it with `dvc add {root}`; or change params.yaml and run without settings"
            )


def _is_tracked(project: Path, root: str) -> bool:
    command = ["git", "ls-files", "--error-unmatch", "--", root]
    return subprocess.run(command, cwd=project, capture_output=True, check=False).returncode == 0


@task(name="experiment", task_run_name="experiment", **TRIED_AGAIN)
def experiment(project: str, targets: list[str], settings: list[str], force: bool) -> State:
    """Run DVC's experiment; the completed state's result is its name."""
    root = Path(project)
    arguments = [
        *("--wait-for-lock", "exp", "run", "--temp"),
        *(word for setting in settings for word in ("--set-param", setting)),
        *_patient_key(root),
        *(["--force"] if force else []),
        *targets,
    ]
    with _swept(root):
        lines, code = run_dvc(root, arguments)
    name = next((found[1] for line in reversed(lines) if (found := _NAMED.match(line))), None)
    if code or name is None:
        last = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1] if lines else "")
        return Failed(message=f"exit code {code}: {last}", name=TEMPORARY if may_pass_again(lines) else "Failed")
    return Completed(message=name, data=name)


def _patient_key(project: Path) -> list[str]:
    """Have DVC copy the key, which neither git nor DVC has, for as long as the experiment runs."""
    key = Path(load_section("ingest", project / PARAMS).get("keys", "keys")) / "patient.key"
    return ["--copy-paths", str(key)] if not key.is_absolute() and (project / key).is_file() else []


@contextmanager
def _swept(project: Path) -> Iterator[None]:
    """Delete the folder of an experiment that DVC could not delete, for it was killed; no other's."""
    before = set(project.glob(_FOLDERS))
    try:
        yield
    finally:
        for folder in set(project.glob(_FOLDERS)) - before:
            if not any(_works_in(process, folder) for process in psutil.process_iter()):
                shutil.rmtree(folder, ignore_errors=True)


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except (psutil.Error, OSError):
        return False


def publish_experiment(project: Path, name: str, settings: Sequence[str]) -> None:
    """The experiment's scores beside those of the workspace, and how to go on with it."""
    lines = [f"Experiment **{name}**. This workspace is as it was.", "", "| | |", "|---|---|"]
    lines += [f"| `{setting}` | for this run alone |" for setting in settings]
    lines += [
        "",
        "To take it over, write these values into params.yaml and run `dvc repro`: DVC's cache has what was made.",
    ]
    lines += ["", "`dvc exp show --only-changed` compares it with the others."]
    create_markdown_artifact(key="experiment", markdown="\n".join(lines), description=f"Experiment {name}")
    create_table_artifact(
        key="scores",
        table=scores_beside(project, name),
        description=f"Scores of experiment {name} beside those of this workspace",
    )


def scores_beside(project: Path, name: str) -> list[dict[str, Any]]:
    """A row for each score of an experiment, and what the workspace has in its place (null: nothing)."""
    from dvc.repo import Repo

    with dvc_boundary(), Repo(str(project)) as repo:
        found = repo.metrics.show(revs=[name, "workspace"])
    theirs, ours = (_scores(found.get(revision, {})) for revision in (name, "workspace"))
    keys = ("split", "method", "task", "metric")
    rows = ((dict(zip(keys, key, strict=True)), value, ours.get(key)) for key, value in theirs.items())
    return [{**row, name: value, "workspace": present} for row, value, present in rows]


def _scores(revision: dict[str, Any]) -> dict[tuple[str, str, str, str], float]:
    """Split, method, task, metric -> value, of DVC's metrics of one revision."""
    return {
        (Path(file).parent.name, Path(file).stem, task, metric): value
        for file, content in sorted(revision.get("data", {}).items())
        for task, metrics in content.get("data", {}).items()
        for metric, value in metrics.items()
    }
