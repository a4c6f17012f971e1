"""`flows.promote` as a flow, for a button and a schedule in Prefect's UI."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, Failed, State

from flows.artifacts import link_mlflow, plain
from flows.notify import tell_failure
from flows.one_run import one_run
from flows.promote import decide
from flows.stages import TRIED_AGAIN, failed_as, failure
from pipelines.errors import UserError
from pipelines.promotion.decision import PromotionDecision


@flow(name="promote", log_prints=True, on_failure=[tell_failure], on_crashed=[tell_failure])
def promote(project: str = ".", method: str | None = None, version: int | None = None, rollback: bool = False) -> State:
    """Make a candidate the champion if it passes every gate.

    A refusal is a completed run with the name `Refused`: the gates did what they are for, nothing has to be mended, and
    nobody is woken for it. A run fails where it could not decide.

    Args:
        project: Folder with params.yaml, data and the registry's address.
        method: The candidate; none: the method that is best on the validation split.
        version: The candidate is this registered version.
        rollback: Make the champion before this one champion again, without gates.
    """
    root = Path(project).resolve()
    if sum((method is not None, version is not None, rollback)) > 1:
        return Failed(message="choose one of method, version and rollback")
    with one_run(root, "promote", get_run_logger().info):
        number = None if version is None else str(version)
        state = judge_candidate(str(root), method, number, rollback, return_state=True)
    if not state.is_completed():
        return failed_as(state)
    decision: Any = state.result()
    create_markdown_artifact(key="promotion", markdown=gates(decision), description=decision.text)
    link_mlflow(root)
    return Completed(message=decision.text, name="Completed" if decision.promoted else "Refused")


@task(name="decide", task_run_name="decide", **TRIED_AGAIN)
def judge_candidate(project: str, method: str | None, version: str | None, rollback: bool) -> State:
    """Decide; the completed state's result is the decision."""
    try:
        decision = decide(Path(project), method, version, rollback=rollback)
    except UserError as error:
        return failure(error)
    return Completed(message=decision.text, data=decision)


def gates(decision: PromotionDecision) -> str:
    """The decision and its gates as Markdown."""
    words = {True: "passed", False: "**refused**"}
    rows = [f"| {plain(gate.name)} | {words[gate.passed]} | {plain(gate.text)} |" for gate in decision.gates]
    table = ["", "| gate | outcome | figures |", "|---|---|---|", *rows] if rows else []
    return "\n".join([plain(decision.text), *table])
