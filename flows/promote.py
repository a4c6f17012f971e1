"""Move the alias `champion` in MLflow's registry to a candidate that passes the gates of params.yaml.

The gates: a minimum, and no worse than the champion on the same test items. Where the test items or the tasks' options
have changed since the champion was scored, its checkpoint is fetched from MLflow and evaluated again. Exit code 0 when
the candidate is the champion afterwards, 1 with the reasons when it is not.

Reads: data/evaluation/, data/checkpoints/, data/shards/, params.yaml (promote, tracking, evaluate), the MLflow store.
Writes: the alias in the MLflow store.
Run alone: python -m flows.promote [--method METHOD]
"""

import argparse
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import MetricThreshold
from mlflow.models.evaluation import EvaluationResult
from mlflow.models.evaluation.validation import ModelValidationFailedException
from mlflow.tracking import MlflowClient

from flows.config import PromoteConfig
from models import checkpoint as checkpoints
from models.verified import DamagedError
from pipelines.config import load, method_names
from pipelines.errors import UserError
from pipelines.evaluate import stage as evaluate
from pipelines.evaluate.config import EvaluateConfig
from pipelines.files import read_output
from pipelines.stage import command
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.names import CHECKPOINT, ITEMS, metric_name
from pipelines.tracking.store import connect
from pipelines.tracking.sync import sync
from pipelines.tracking.versions import find_version

logger = logging.getLogger(__name__)

ALIAS = "champion"


@dataclass(frozen=True, kw_only=True)
class PromotionCandidate:
    """An evaluated method: its score on the metric of the gates, and which checkpoint got it on which items."""

    method: str
    value: float
    checkpoint: str
    items: str


@dataclass(frozen=True)
class PromotionDecision:
    """Whether the candidate is the champion now, and why or why not, in lines for a person."""

    promoted: bool
    reasons: list[str]


def promote(
    gates: PromoteConfig, tracking: TrackingConfig, evaluation: EvaluateConfig, project: Path, method: str | None = None
) -> PromotionDecision:
    """Judge a candidate and move the alias when it passes.

    Args:
        gates: What it must reach.
        tracking: Where the registry is.
        evaluation: How the champion is evaluated again where that is needed.
        project: Folder with data/.
        method: The candidate; None: the best evaluated method.

    Raises:
        UserError: There is no such candidate, or its evaluation is not of the present checkpoint or test items.
    """
    sync(tracking, project)
    client = connect(tracking, project)
    candidates = read_candidates(project, gates.metric)
    candidate = _choose(candidates, method, gates.metric)
    version = find_version(client, tracking.model, candidate.checkpoint)
    if version is None:
        raise UserError(
            f"{candidate.method}: its evaluation is of another checkpoint than the present one: `dvc repro`"
        )
    champion = find_champion(client, tracking.model)
    if champion is not None and champion.tags[CHECKPOINT] == candidate.checkpoint:
        return PromotionDecision(True, [f"{candidate.method} is the champion already (version {champion.version})"])
    thresholds = {"minimum": gates.minimum}
    if champion is not None:
        value = _champion_value(client, champion, candidates, candidate, gates, evaluation, project)
        thresholds[f"champion (version {champion.version}, {value:.4f}) less the tolerance"] = value - gates.tolerance
    refused = [reason for name, least in thresholds.items() if (reason := _gate(gates.metric, candidate, name, least))]
    if refused:
        return PromotionDecision(False, refused)
    client.set_registered_model_alias(tracking.model, ALIAS, version.version)
    return PromotionDecision(
        True,
        [f"{candidate.method} (version {version.version}) is the champion: {gates.metric} = {candidate.value:.4f}"],
    )


def read_candidates(project: Path, metric: str) -> list[PromotionCandidate]:
    """The evaluated methods that have a score on `<task>/<metric>`."""
    task, _, name = metric.partition("/")
    found = []
    for method in sorted(method_names(project / "params.yaml")):
        file = project / evaluate.EVALUATIONS / method / "metrics.json"
        if not file.is_file():
            continue
        results = read_output(file)
        score = results["tasks"].get(task, {}).get("metrics", {}).get(name)
        if score is not None:
            identity = {"checkpoint": results["checkpoint_sha256"], "items": results["items_sha256"]}
            found.append(PromotionCandidate(method=method, value=score["value"], **identity))
    return found


def _choose(candidates: list[PromotionCandidate], method: str | None, metric: str) -> PromotionCandidate:
    if not candidates:
        raise UserError(f"no evaluated method has a score '{metric}': run `dvc repro`, or change promote.metric")
    if method is None:
        return max(candidates, key=lambda one: one.value)
    for one in candidates:
        if one.method == method:
            return one
    known = ", ".join(one.method for one in candidates)
    raise UserError(f"'{method}' has no score '{metric}': choose from {known}, or run `dvc repro evaluate@{method}`")


def find_champion(client: MlflowClient, model: str) -> ModelVersion | None:
    """The version that the alias names, or None before the first promotion."""
    version = client.get_registered_model(model).aliases.get(ALIAS)
    return None if version is None else client.get_model_version(model, version)


def _champion_value(
    client: MlflowClient,
    champion: ModelVersion,
    candidates: list[PromotionCandidate],
    candidate: PromotionCandidate,
    gates: PromoteConfig,
    evaluation: EvaluateConfig,
    project: Path,
) -> float:
    """The champion's score on the candidate's test items: from the files, from its run, or measured again."""
    for one in candidates:
        if (one.checkpoint, one.items) == (champion.tags[CHECKPOINT], candidate.items):
            return one.value
    logged = _logged_value(client, champion, candidate.items, gates.metric)
    if logged is not None:
        return logged
    logger.info("evaluating champion version %s again: the test items or the tasks have changed", champion.version)
    with tempfile.TemporaryDirectory() as scratch:
        results = _evaluate_again(client, champion, evaluation, project, Path(scratch))
    if results["items_sha256"] != candidate.items:
        raise UserError(f"the evaluation of {candidate.method} is not of the present test items: run `dvc repro`")
    task, _, name = gates.metric.partition("/")
    score = results["tasks"][task]["metrics"].get(name)
    # A champion that cannot be scored any more (a task it lacks) holds nobody back.
    return float("-inf") if score is None else float(score["value"])


def _logged_value(client: MlflowClient, champion: ModelVersion, items: str, metric: str) -> float | None:
    try:
        run = client.get_run(str(champion.run_id))
    except MlflowException:
        return None
    return run.data.metrics.get(metric_name(metric)) if run.data.tags.get(ITEMS) == items else None


def _evaluate_again(
    client: MlflowClient, champion: ModelVersion, evaluation: EvaluateConfig, project: Path, scratch: Path
) -> dict[str, Any]:
    folder = Path(
        mlflow.artifacts.download_artifacts(
            f"{champion.source}/artifacts/checkpoint", dst_path=str(scratch), tracking_uri=client.tracking_uri
        )
    )
    try:
        is_champion = checkpoints.digest(folder) == champion.tags[CHECKPOINT]
    except DamagedError:
        is_champion = False
    if not is_champion:
        raise UserError(
            f"the files of champion version {champion.version} at {champion.source} have changed: restore them"
        )
    images, captions = project / evaluate.IMAGES, project / evaluate.CAPTIONS
    output = scratch / "evaluation"
    evaluate.run(evaluation, "champion", folder, images, captions, output, summaries=scratch / "summaries")
    return read_output(output / "metrics.json")


def _gate(metric: str, candidate: PromotionCandidate, name: str, least: float) -> str | None:
    """Why the candidate does not pass one threshold, or None."""
    try:
        mlflow.validate_evaluation_results(
            {metric: MetricThreshold(threshold=least, greater_is_better=True)},
            EvaluationResult(metrics={metric: candidate.value}, artifacts={}),
        )
    except ModelValidationFailedException:
        return f"{candidate.method}: {metric} = {candidate.value:.4f} is below the {name}, {least:.4f}"
    return None


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser("python -m flows.promote", description="Promote a model that passes the gates.")
    parser.add_argument("--method", help="the candidate (default: the best evaluated method)")
    options = parser.parse_args(arguments)
    gates, tracking = load(PromoteConfig, "promote"), load(TrackingConfig, "tracking")
    decision = promote(gates, tracking, load(EvaluateConfig, "evaluate"), Path(), options.method)
    if not decision.promoted:
        raise UserError(f"not promoted: {'; '.join(decision.reasons)}")
    print("; ".join(decision.reasons))


if __name__ == "__main__":
    command(main)
