"""Tasks that flows are made of: a stage of the DVC graph each, MLflow brought up to date, and the check at the end."""

import re
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from pipelines.code.graph import Stage
from pipelines.dvc_lock import mend
from pipelines.dvc_process import dvc_process, may_pass_again
from pipelines.errors import TemporaryError, UserError
from pipelines.files import read_summary

# What became of a stage: its command ran, DVC's cache had its outputs, or nothing had changed.
RAN, RESTORED, UNCHANGED = "ran", "restored", "unchanged"
# A failed state with this name is tried again.
TEMPORARY = "TemporaryFailure"
# Seconds until the second and third try: a server that was started anew is back by then.
RETRY_DELAYS: list[float] = [10, 60]


def is_temporary(task: Any, task_run: Any, state: State) -> bool:
    """Whether Prefect should try a task again: after a fault of a network or a server, never after a mistake."""
    return state.name == TEMPORARY


# How a task is declared that is tried again where `is_temporary` says so. DVC is the cache, not Prefect.
TRIED_AGAIN: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "retries": len(RETRY_DELAYS),
    "retry_delay_seconds": RETRY_DELAYS,
    "retry_condition_fn": is_temporary,
}


def failure(error: UserError) -> State:
    """The state of a task that ended with an error that has one line."""
    name = TEMPORARY if isinstance(error, TemporaryError) else "Failed"
    return Failed(message=str(error), name=name)


def failed_as(state: State) -> State:
    """The state of a flow that ends with a task that failed; given the task's own, Prefect says `1/1 states failed`."""
    return Failed(message=state.message, name=state.name)


def run_stages(project: Path, stages: list[Stage], force: bool) -> dict[str, State]:
    """Run stages in their order, a task each; one whose upstream failed is not run."""
    mend(project)
    states: dict[str, State] = {}
    for stage in stages:
        run = run_stage.with_options(name=stage.name, task_run_name=stage.name, tags=["stage"])
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


@task(**TRIED_AGAIN)
def run_stage(project: str, stage: Stage, force: bool) -> State:
    """Run one stage, its output line by line in the log, and publish its counts.

    Returns:
        The completed state's result is `RAN`, `RESTORED` or `UNCHANGED`.
    """
    arguments = ["--wait-for-lock", "repro", "--single-item", *(["--force"] if force else []), stage.name]
    lines, code = run_dvc(Path(project), arguments)
    if code:
        name = TEMPORARY if may_pass_again(lines) else "Failed"
        last = lines[-1] if lines else ""
        return Failed(message=f"{stage.name}: exit code {code}: {last}", name=name)
    summary = Path(project) / stage.summary
    if summary.is_file():
        create_table_artifact(
            key=f"counts-{_key(stage.name)}",
            table=_table(read_summary(summary)),
            description=f"Counts of {stage.name}, from {stage.summary}",
        )
    return Completed(message=f"{stage.name} is up to date", data=_outcome(stage.name, lines))


def run_dvc(project: Path, arguments: list[str]) -> tuple[list[str], int]:
    """Run `dvc`, each line of its output in the log of the task; the lines and the exit code."""
    logger = get_run_logger()
    lines = []
    with dvc_process(project, arguments) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if text := line.rstrip():
                logger.info("%s", text)
                lines.append(text)
    return lines, process.returncode


def _outcome(stage: str, lines: list[str]) -> str:
    if f"Running stage '{stage}':" in lines:
        return RAN
    return RESTORED if any(line.startswith(f"Stage '{stage}' is cached") for line in lines) else UNCHANGED


@task(name="tracking", task_run_name="tracking", **TRIED_AGAIN)
def track(project: str) -> State:
    """Make the MLflow runs and model versions that the checkpoints lack."""
    from pipelines.config import load
    from pipelines.tracking.config import TrackingConfig
    from pipelines.tracking.sync import sync

    root = Path(project)
    try:
        counts = sync(load(TrackingConfig, "tracking", root / "params.yaml"), root)
    except UserError as error:
        return failure(error)
    text = ", ".join(f"{name} {count}" for name, count in counts.items())
    get_run_logger().info("%s", text)
    return Completed(message=text)


@task(name="dvc status", task_run_name="dvc status", cache_policy=NO_CACHE)
def check_clean(project: str, stages: list[str]) -> State:
    """Check that DVC finds nothing left to do in the stages that ran."""
    with dvc_process(Path(project), ["--wait-for-lock", "status", *stages]) as process:
        assert process.stdout is not None
        output = process.stdout.read().strip()
    if process.returncode or "up to date" not in output:
        return Failed(message=f"dvc status is not clean after the run: {output}")
    return Completed(message=output)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A stage's summary as rows of a table: single values first, then the reasons."""
    rows = [{"what": name, "value": value} for name, value in summary.items() if not isinstance(value, dict)]
    for outcome, reasons in summary.get("reasons", {}).items():
        rows += [{"what": f"{outcome}: {reason}", "value": count} for reason, count in reasons.items()]
    return rows
