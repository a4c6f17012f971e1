"""The DVC graph under Prefect: one task a stage, live logs, a table of counts a stage, a link to the report.

dvc.yaml stays the only definition of the graph, and DVC the only cache: each task is `dvc repro --single-item <stage>`
in a process of its own, so that the files are those of a plain `dvc repro`. A stage that fails stops what depends on
it; the others still run. Afterwards MLflow's runs are brought up to date and `dvc status` must be clean.

Reads: dvc.yaml, data/summaries/. Writes: what the stages write, the MLflow store, artifacts in Prefect.
Run alone: python -m flows.reproduce [--help]
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from flows.server import start_server
from pipelines.code.graph import Stage, read_graph
from pipelines.dvc_lock import mend
from pipelines.errors import UserError
from pipelines.files import read_summary
from pipelines.stage import command

REPORT = Path("data/report/index.html")


@flow(name="reproduce", log_prints=True)
def reproduce(project: str = ".", targets: list[str] | None = None, force: bool = False) -> State:
    """Bring the outputs of dvc.yaml up to date.

    Failures are returned as states, not raised: what went wrong is in the stage's log, not in a traceback.

    Args:
        project: Folder with dvc.yaml and params.yaml.
        targets: Stages to bring up to date, with all that they depend on; none: all.
        force: Run the stages even where nothing changed.
    """
    root = Path(project).resolve()
    stages = read_graph(root, targets or ())
    states = run_stages(root, stages, force)
    if fault := unfinished(states):
        return Failed(message=fault)
    if (root / "data/checkpoints").is_dir():
        track(str(root))
    status = check_clean(str(root), [stage.name for stage in stages], return_state=True)
    if (root / REPORT).is_file():
        create_link_artifact(key="report", link=(root / REPORT).as_uri(), link_text=f"Report: {root / REPORT}")
    return status if status.is_failed() else Completed(message=f"{len(stages)} stages are up to date")


def run_stages(project: Path, stages: list[Stage], force: bool) -> dict[str, State]:
    """Run stages in their order, a task each; one whose upstream failed is not run."""
    mend(project)
    states: dict[str, State] = {}
    for stage in stages:
        run = run_stage.with_options(name=stage.name, task_run_name=stage.name)
        upstream = [states[name] for name in stage.upstream]
        states[stage.name] = run(str(project), stage, force, wait_for=upstream, return_state=True)
    return states


def unfinished(states: dict[str, State]) -> str | None:
    """Which stages failed and which did not run for it, in words; None where all are complete."""
    failed = [name for name, state in states.items() if state.is_failed() or state.is_crashed()]
    stopped = [name for name, state in states.items() if not state.is_completed() and name not in failed]
    if not failed and not stopped:
        return None
    depend = f"; not run, for they depend on it: {', '.join(stopped)}" if stopped else ""
    return f"failed: {', '.join(failed)}{depend}"


@task(cache_policy=NO_CACHE)
def run_stage(project: str, stage: Stage, force: bool) -> State:
    """Run one stage, its output line by line in the log, and publish its counts.

    Returns:
        The completed state's result says whether its command ran; else DVC had its outputs for these inputs.
    """
    arguments = ["--wait-for-lock", "repro", "--single-item", *(["--force"] if force else []), stage.name]
    logger = get_run_logger()
    last, ran = "", False
    with _dvc(Path(project), arguments) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if text := line.rstrip():
                logger.info(text)
                last = text
                ran = ran or text == f"Running stage '{stage.name}':"
    if process.returncode:
        return Failed(message=f"{stage.name}: exit code {process.returncode}: {last}")
    summary = Path(project) / stage.summary
    if summary.is_file():
        create_table_artifact(
            key=f"counts-{_key(stage.name)}",
            table=_table(read_summary(summary)),
            description=f"Counts of {stage.name}, from {stage.summary}",
        )
    return Completed(message=f"{stage.name} is up to date", data=ran)


@task(name="tracking", task_run_name="tracking", cache_policy=NO_CACHE)
def track(project: str) -> dict[str, int]:
    """Make the MLflow runs and model versions that the checkpoints lack."""
    from pipelines.config import load
    from pipelines.tracking.config import TrackingConfig
    from pipelines.tracking.sync import sync

    root = Path(project)
    counts = sync(load(TrackingConfig, "tracking", root / "params.yaml"), root)
    get_run_logger().info("%s", counts)
    return counts


@task(name="dvc status", task_run_name="dvc status", cache_policy=NO_CACHE)
def check_clean(project: str, stages: list[str]) -> State:
    """Check that DVC finds nothing left to do in the stages that ran."""
    with _dvc(Path(project), ["--wait-for-lock", "status", *stages]) as process:
        assert process.stdout is not None
        output = process.stdout.read().strip()
    if process.returncode or "up to date" not in output:
        return Failed(message=f"dvc status is not clean after the run: {output}")
    return Completed(message=output)


@contextmanager
def _dvc(project: Path, arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A `dvc` process in the project's folder; it and the stage that it runs end with the block."""
    # Stages are written as `python -m ...`: they must find this interpreter first.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=project,
        env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        yield process
        process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A stage's summary as rows of a table: single values first, then the reasons."""
    rows = [{"what": name, "value": value} for name, value in summary.items() if not isinstance(value, dict)]
    for outcome, reasons in summary.get("reasons", {}).items():
        rows += [{"what": f"{outcome}: {reason}", "value": count} for reason, count in reasons.items()]
    return rows


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser("python -m flows.reproduce", description="Run the DVC graph under Prefect.")
    parser.add_argument("targets", nargs="*", help="stages to bring up to date, with all they depend on; none: all")
    parser.add_argument("--project", default=".", help="folder with dvc.yaml (default: this one)")
    parser.add_argument("--force", action="store_true", help="run the stages even where nothing changed")
    options = parser.parse_args(arguments)
    read_graph(Path(options.project), options.targets)
    start_server()
    state = reproduce(options.project, options.targets, options.force, return_state=True)
    if not state.is_completed():
        raise UserError(f"{state.message}; the stages' own lines are above")


if __name__ == "__main__":
    command(main)
