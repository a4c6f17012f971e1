"""Make MLflow runs and model versions from the files that training and evaluation leave.

A run and a model version belong to the digest of a checkpoint, so that doing it again changes nothing, and a checkpoint
restored from DVC's cache still gets its run. Nothing is logged while training runs. Not a stage of the DVC graph:
`make run`, the flow `reproduce` and `promote` call it.

Reads: data/checkpoints/<method>/, data/evaluation/<method>/metrics.json, params.yaml, dvc.lock, the tables and
manifests, for their digests.
Writes: the MLflow store that params.yaml (tracking) names.
Run alone: python -m pipelines.tracking
"""

import logging
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.tracking import MlflowClient

from models import checkpoint as checkpoints
from pipelines.config import load, method_names
from pipelines.files import digest_of, read_output
from pipelines.tracking import provenance
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.names import CHECKPOINT, ITEMS, metric_name
from pipelines.tracking.paths import without_machine_paths
from pipelines.tracking.store import locked_store
from pipelines.tracking.versions import find_version

logger = logging.getLogger(__name__)

_EVALUATION = "evaluation_sha256"
_EVALUATIONS = "evaluations"
# MLflow's limits for one batch, and for the text of a parameter.
_METRICS_A_BATCH, _PARAMS_A_BATCH, _PARAM_LENGTH = 1000, 100, 6000


def main() -> None:
    counts = sync(load(TrackingConfig, "tracking"), Path())
    logger.info("tracking: %s", ", ".join(f"{name} {count}" for name, count in counts.items()))


def sync(config: TrackingConfig, project: Path) -> dict[str, int]:
    """Bring the store up to date with the files.

    Returns:
        How many checkpoints there are, how many runs and versions were made, how many evaluations were logged, and how
        many were left out because they belong to another checkpoint than the one that lies there now.

    Raises:
        UserError: The store is damaged, or params.yaml names no method.
    """
    with locked_store(config, project) as client:
        return _sync(client, config, project)


def _sync(client: MlflowClient, config: TrackingConfig, project: Path) -> dict[str, int]:
    experiment = _experiment(client, config, project)
    counts = Counter(dict.fromkeys(("checkpoints", "runs_made", "versions_made", "evaluations_logged", "stale"), 0))
    for method in sorted(method_names(project / "params.yaml")):
        folder = project / "data/checkpoints" / method
        if not (folder / checkpoints.CONFIG).is_file():
            continue
        digest = checkpoints.digest(folder)
        counts["checkpoints"] += 1
        run = find_run(client, experiment, digest)
        if run is None:
            run = _make_run(client, experiment, project, folder, digest)
            counts["runs_made"] += 1
        evaluation = project / "data/evaluation" / method
        if (evaluation / "metrics.json").is_file():
            counts[_log_evaluation(client, run, evaluation, digest)] += 1
        if find_version(client, config.model, digest) is None:
            _make_version(client, config.model, run, digest)
            counts["versions_made"] += 1
    del counts["unchanged"]
    return dict(counts)


def _experiment(client: MlflowClient, config: TrackingConfig, project: Path) -> str:
    known = client.get_experiment_by_name(config.experiment)
    if known is not None:
        return str(known.experiment_id)
    return str(client.create_experiment(config.experiment, config.artifact_location(project)))


def find_run(client: MlflowClient, experiment: str, digest: str) -> Run | None:
    """The finished run of a checkpoint; one that was cut off while it was logged is deleted."""
    for run in client.search_runs([experiment], f"tags.{CHECKPOINT} = '{digest}'"):
        if run.info.status == RunStatus.to_string(RunStatus.FINISHED):
            return run
        client.delete_run(run.info.run_id)
    return None


def _make_run(client: MlflowClient, experiment: str, project: Path, folder: Path, digest: str) -> Run:
    method = folder.name
    inputs = provenance.digests(project)
    commit, dirty = provenance.commit(project)
    tags = {
        CHECKPOINT: digest,
        "method": method,
        "mlflow.source.git.commit": commit,
        "git_dirty": dirty,
        "dvc_lock_stage": provenance.locked_stage(project, f"train@{method}"),
        **{f"digest.{name}": value for name, value in inputs.items()},
        _EVALUATIONS: "0",
    }
    run = client.create_run(experiment, tags=tags, run_name=f"{method}-{digest[:8]}")
    run_id = run.info.run_id
    for batch in _batches(_params(project, folder), _PARAMS_A_BATCH):
        client.log_batch(run_id, params=batch)
    for metrics in _batches(_curve(folder, run.info.start_time), _METRICS_A_BATCH):
        client.log_batch(run_id, metrics=metrics)
    # MLflow keeps at most 36 characters of a dataset's digest; the tag digest.shards has all of it.
    data = Dataset(name="shards", digest=inputs["shards"][:32], source_type="local", source="data/shards")
    client.log_inputs(run_id, [DatasetInput(data, tags=[InputTag("mlflow.data.context", "training")])])
    client.log_artifacts(run_id, str(folder), "checkpoint")
    for name in ("params.yaml", "dvc.lock"):
        if (project / name).is_file():
            text = yaml.safe_dump(_shareable(project / name), sort_keys=False, allow_unicode=True, width=120)
            client.log_text(run_id, text, name)
    client.set_terminated(run_id)
    return client.get_run(run_id)


def _make_version(client: MlflowClient, model: str, run: Run, digest: str) -> None:
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    tags = {CHECKPOINT: digest, "method": run.data.tags["method"]}
    client.create_model_version(model, f"{run.info.artifact_uri}/checkpoint", run.info.run_id, tags)


def _log_evaluation(client: MlflowClient, run: Run, folder: Path, digest: str) -> str:
    results = read_output(folder / "metrics.json")
    if results["checkpoint_sha256"] != digest:
        logger.warning("%s scores another checkpoint than the present one: run `dvc repro`", folder)
        return "stale"
    identity = digest_of(results)
    if run.data.tags.get(_EVALUATION) == identity:
        return "unchanged"
    run_id = run.info.run_id
    # Each evaluation is a step: the history of one checkpoint on changing test items stays.
    step = int(run.data.tags[_EVALUATIONS])
    metrics = [Metric(name, value, run.info.start_time, step) for name, value in scores(results).items()]
    for batch in _batches(iter(metrics), _METRICS_A_BATCH):
        client.log_batch(run_id, metrics=batch)
    client.log_artifacts(run_id, str(folder), "evaluation")
    # Last, and in one transaction: an evaluation that was cut off is logged again, to the same step, where equal points
    # are one.
    tags = {ITEMS: results["items_sha256"], _EVALUATIONS: str(step + 1), _EVALUATION: identity}
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    return "evaluations_logged"


def scores(results: dict[str, Any]) -> dict[str, float]:
    """metrics.json as MLflow metrics: `<task>/<metric>`, its `/low`, `/high` and `/chance`, and the sources' own."""
    found: dict[str, float] = {}
    for task, result in results["tasks"].items():
        for metric, score in result["metrics"].items():
            name = metric_name(f"{task}/{metric}")
            found[name] = score["value"]
            for part in ("low", "high", "chance"):
                if score[part] is not None:
                    found[f"{name}/{part}"] = score[part]
        for source, part in result["by_source"].items():
            for metric, score in part["metrics"].items():
                found[metric_name(f"{task}/by_source/{source}/{metric}")] = score["value"]
    return found


def _params(project: Path, folder: Path) -> Iterator[Param]:
    checkpoint = without_machine_paths(checkpoints.read_config(folder))
    values = {f"checkpoint.{name}": value for name, value in provenance.flat(checkpoint).items()}
    values |= provenance.flat(_shareable(project / "params.yaml"))
    for name, value in values.items():
        yield Param(metric_name(name)[:250], value[:_PARAM_LENGTH])


def _shareable(file: Path) -> Any:
    """A YAML file's values without paths of this machine; comments, which may hold some, are left out too."""
    return without_machine_paths(yaml.safe_load(file.read_text(encoding="utf-8")))


def _curve(folder: Path, timestamp: int) -> Iterator[Metric]:
    curve = read_output(folder / checkpoints.CURVE)
    points = [("", point, {"learning_rate": point["lr"]}) for point in curve["steps"]]
    points += [("validation/", point, {}) for point in curve["validation"]]
    for prefix, point, values in points:
        values |= {f"{prefix}loss": point["loss"]}
        values |= {f"{prefix}loss/{term}": value for term, value in point["terms"].items()}
        for name, value in values.items():
            yield Metric(metric_name(name), value, timestamp, point["step"])


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(islice(items, size)):
        yield batch
