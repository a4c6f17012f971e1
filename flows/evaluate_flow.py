"""`flows.evaluate` as a flow, for a button and a schedule in Prefect's UI."""

import tempfile
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, Failed, State

from flows.artifacts import score_row
from flows.evaluate import failed_tasks, judge, score_rows
from flows.notify import tell_failure
from flows.one_run import one_run
from flows.parameters import ModelReference
from flows.stages import TRIED_AGAIN, failed_as, failure
from pipelines.config import PARAMS, load
from pipelines.errors import UserError
from pipelines.tracking.config import TrackingConfig


@flow(name="evaluate", log_prints=True, on_failure=[tell_failure], on_crashed=[tell_failure])
def evaluate(
    project: str = ".",
    model: ModelReference | None = None,
    study: str | None = None,
    split: Literal["test", "validation"] = "test",
    predictions: bool = False,
    out: str | None = None,
) -> State:
    """Score a model on the images of a study.

    Args:
        project: Folder with params.yaml, whose registry has the model; the other folders are relative to it.
        model: Folder of a checkpoint, models:/NAME@ALIAS or models:/NAME/VERSION; none: the champion.
        study: Folder of the study whose images are scored; none: this one.
        split: Its test or validation images.
        predictions: Write embeddings, nearest texts, heat maps and masks into `out`, too.
        out: Folder of the results, outside of data; one of an earlier evaluation is replaced. None: the scores stand on
            the page of this run alone.
    """
    root = Path(project).resolve()
    with one_run(root, "evaluate", get_run_logger().info):
        state = score(str(root), model, study, split, predictions, out, return_state=True)
    if not state.is_completed():
        return failed_as(state)
    scores: Any = state.result()
    create_table_artifact(
        key="evaluation", table=[score_row(row) for row in score_rows(scores)], description=state.message
    )
    if failed := failed_tasks(scores):
        return Failed(message=f"no scores of {', '.join(failed)}")
    return Completed(message=state.message)


@task(name="score", task_run_name="score", **TRIED_AGAIN)
def score(project: str, model: str | None, study: str | None, split: str, predictions: bool, out: str | None) -> State:
    """Evaluate; the completed state's result are the scores."""
    root = Path(project)
    try:
        if predictions and out is None:
            raise UserError("predictions need a folder: name one in `out`")
        tracking = load(TrackingConfig, "tracking", root / PARAMS)
        reference = model or f"models:/{tracking.model}@champion"
        with tempfile.TemporaryDirectory(prefix="medregion-") as scratch:
            folder = Path(scratch) / "scores" if out is None else root / out
            scores = judge(root, reference, root / (study or "."), split, folder, predictions=predictions)
    except UserError as error:
        return failure(error)
    where = "" if out is None else f"; results: {out}"
    return Completed(message=f"{reference} is scored on the {split} images{where}", data=scores)
