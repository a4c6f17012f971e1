"""The evaluations of a checkpoint in its run: scores as metrics and as a table, the plots, and the report's files."""

import json
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from pipelines.files import digest_of, read_output
from pipelines.tracking import files, runs, scores
from pipelines.tracking.names import EVALUATION, EVALUATIONS, ITEMS, MODEL, REPORT, VALIDATION_ITEMS

METRICS = "metrics.json"
TABLE = "scores.json"


def log_evaluation(client: MlflowClient, run: Run, project: Path, digest: str) -> tuple[str, list[dict[str, Any]]]:
    """Log what lies in data/evaluation/ and data/report/ of a run's checkpoint and is not in the run yet.

    Args:
        client: Of the store, which the caller holds.
        run: The checkpoint's run.
        project: Folder with data/.
        digest: Of the checkpoint.

    Returns:
        `evaluations_logged`, `unchanged`, or `stale` where the scores are of another checkpoint; and the scores as rows
        of `scores.rows`, of the test split and, where it was scored, of validation.
    """
    folder = project / "data/evaluation" / run.data.tags["method"]
    splits = [file for file in (folder / METRICS, folder / "validation" / METRICS) if file.is_file()]
    every = [read_output(file) for file in splits]
    if any(results["checkpoint_sha256"] != digest for results in every):
        return "stale", []
    if not every:
        return "unchanged", []
    rows = [row for results in every for row in scores.rows(results)]
    report = files.report_of(project, run.data.tags["method"], rows)
    evaluation_tag, report_tag = digest_of(every), digest_of(report)
    new = run.data.tags.get(EVALUATION) != evaluation_tag
    if not new and run.data.tags.get(REPORT) == report_tag:
        return "unchanged", rows
    run_id = run.info.run_id
    for name, text in report.items():
        client.log_text(run_id, text, f"report/{name}")
    tags = {REPORT: report_tag}
    if new:
        tags |= {EVALUATION: evaluation_tag, **_log_scores(client, run, folder, every, rows)}
    shown = [run.data.tags[MODEL], f"evaluation/{METRICS}", TABLE, *(f"report/{name}" for name in report)]
    runs.describe(client, run_id, rows, shown)
    # Last, and in one transaction: what was cut off is logged again, to the same step, where equal points are one.
    runs.log_tags(client, run_id, tags)
    return ("evaluations_logged" if new else "unchanged"), rows


def _log_scores(
    client: MlflowClient, run: Run, folder: Path, every: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> dict[str, str]:
    """Log the scores; the tags that say so."""
    run_id = run.info.run_id
    # Each evaluation is a step: the history of one checkpoint on changing test items stays.
    step = int(run.data.tags.get(EVALUATIONS, 0))
    for results in every:
        runs.log_metrics(client, run_id, scores.metrics(results), run.info.end_time or run.info.start_time, step)
    client.log_artifacts(run_id, str(folder), "evaluation")
    client.log_text(run_id, scores.table(rows), TABLE)
    # As mlflow.log_table does, so that MLflow's page of evaluations finds the table.
    client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([{"path": TABLE, "type": "table"}]))
    items = {ITEMS if results["split"] == "test" else VALIDATION_ITEMS: results["items_sha256"] for results in every}
    return {**items, EVALUATIONS: str(step + 1)}
