"""Who is judged: the best method on the validation split, or a version; and the scores of either on test."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import checkpoint as checkpoints
from models.data.shards import ShardSet
from pipelines.config import method_names
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.scoring import ITEM_TABLE, METRICS, TEST, VALIDATION, load_model, score_split
from pipelines.evaluate.seen import trained_on
from pipelines.evaluate.stage import CAPTIONS, CHECKPOINTS, EVALUATIONS, IMAGES
from pipelines.evaluate.task import AMONG_SOURCE
from pipelines.files import read_output
from pipelines.records import ITEMS, ItemRow
from pipelines.shards.checks import shard_faults

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A checkpoint and what it scored on the test split.

    Attributes:
        method: Its name.
        checkpoint: Its digest.
        items_sha256: Of the test items; scores of two checkpoints compare where it is equal.
        tasks: The tasks of metrics.json.
        rows: Items of the metric's task.
        trained_on: SHA-256 of the manifest of the image shards that it was trained on; None: it does not say.
    """

    method: str
    checkpoint: str
    items_sha256: str
    tasks: dict[str, Any]
    rows: list[ItemRow]
    trained_on: str | None


def _validation_values(project: Path) -> dict[str, dict[str, float]]:
    """Method -> value by `<task>/<metric>`, of every score that it has on the validation split."""
    found = {}
    for method in sorted(method_names(project / "params.yaml")):
        file = project / EVALUATIONS / method / VALIDATION / METRICS
        tasks = read_output(file)["tasks"] if file.is_file() else {}
        found[method] = {
            f"{task}/{metric}": score["value"]
            for task, result in tasks.items()
            for metric, score in result["metrics"].items()
        }
    return found


def chosen_method(project: Path, task: str, metric: str, wanted: str | None) -> tuple[str, dict[str, float]]:
    """The candidate among the trained methods, and the values on validation that it was chosen by.

    Args:
        project: Folder with data/.
        task: Of the metric.
        metric: Its name within the task.
        wanted: The method that a person chose; None: the best on validation.

    Raises:
        UserError: No method has the score, or the wanted one has none on test.
    """
    every = _validation_values(project)
    values = {method: scores[f"{task}/{metric}"] for method, scores in every.items() if f"{task}/{metric}" in scores}
    if wanted is None:
        if not values:
            if others := {name for scores in every.values() for name in scores}:
                choose = ", ".join(sorted(others))
                raise UserError(f"promote.metric: no method has '{task}/{metric}' on validation: choose from {choose}")
            raise UserError(
                f"no method has a score '{task}/{metric}' on validation images: run `dvc repro`, change "
                "promote.metric, give the split validation images (split.fractions), or choose yourself with --method"
            )
        return max(values, key=lambda name: values[name]), values
    known = [
        name for name in method_names(project / "params.yaml") if (project / EVALUATIONS / name / METRICS).is_file()
    ]
    if wanted not in known:
        found = f"choose from {', '.join(known)}" if known else "no method is evaluated"
        raise UserError(f"'{wanted}' has no scores: {found}, or run `dvc repro evaluate@{wanted}`")
    return wanted, values


def read_scored(project: Path, method: str, task: str) -> Scored:
    """What the stage `evaluate` wrote of a method.

    Raises:
        UserError: Its scores are of another checkpoint than the present one.
    """
    checkpoint = project / CHECKPOINTS / method
    scored = _scored(project / EVALUATIONS / method, checkpoint, method, task)
    if checkpoints.digest(checkpoint) != scored.checkpoint:
        raise UserError(f"{method}: its evaluation is of another checkpoint than the present one: run `dvc repro`")
    return scored


def _scored(folder: Path, checkpoint: Path, method: str, task: str) -> Scored:
    results = read_output(folder / METRICS)
    return Scored(
        method=method,
        checkpoint=results["checkpoint_sha256"],
        items_sha256=results["items_sha256"],
        tasks=results["tasks"],
        rows=[row for row in ITEMS.rows(folder / ITEM_TABLE, task=task) if not row.metric.startswith(AMONG_SOURCE)],
        trained_on=trained_on(checkpoint),
    )


def scored_at_hand(project: Path, digest: str, task: str) -> Scored | None:
    """The scores of a checkpoint among those of the present methods."""
    for method in method_names(project / "params.yaml"):
        file = project / EVALUATIONS / method / METRICS
        if file.is_file() and read_output(file)["checkpoint_sha256"] == digest:
            return read_scored(project, method, task)
    return None


def score_again(checkpoint: Path, evaluation: EvaluateConfig, project: Path, task: str) -> Scored:
    """Evaluate a checkpoint on the present test split."""
    with _scratch() as folder, shard_faults():
        method = checkpoints.read_config(checkpoint)["method"]
        shards = ShardSet(project / IMAGES, project / CAPTIONS, TEST)
        model = load_model(method, checkpoint, project)
        score_split(evaluation, model, shards, folder, scores_only=True, study=project)
        return _scored(folder, checkpoint, method, task)


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="medregion-") as name:
        yield Path(name)
