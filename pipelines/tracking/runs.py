"""MLflow runs: found by the training or by the checkpoint, begun, given points of curves, and ended.

Whoever calls holds the store (`pipelines.tracking.store.locked_store`), so that no two runs are made of one training or
of one checkpoint.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient

from pipelines.tracking import dataset, description, provenance, settings
from pipelines.tracking.names import (
    BEST_EPOCH,
    CHECKPOINT,
    EXPERIMENT,
    NO_SOURCE,
    PROVENANCE,
    SECONDS,
    STOPPED_EARLY,
    TRAINING,
    metric_name,
)
from pipelines.tracking.paths import without_machine_paths
from pipelines.tracking.progress import Progress

# MLflow's limits for one batch.
_METRICS_A_BATCH, _PARAMS_A_BATCH, _TAGS_A_BATCH = 1000, 100, 100
# The curve of a point -> prefix of its metrics.
_CURVES = {"steps": "", "validation": "validation/"}
_DVC_EXPERIMENT = "DVC_EXP_NAME"


def find_run(client: MlflowClient, experiment: str, digest: str) -> Run | None:
    """The run of a checkpoint."""
    found = client.search_runs([experiment], f"tags.{CHECKPOINT} = '{digest}'", order_by=["attributes.start_time"])
    return found[0] if found else None


def find_training(client: MlflowClient, experiment: str, training: str) -> Run | None:
    """The run of a training that has no checkpoint yet."""
    for run in client.search_runs([experiment], f"tags.{TRAINING} = '{training}'"):
        if CHECKPOINT not in run.data.tags:
            return run
    return None


def make_run(client: MlflowClient, experiment: str, method: str, name: str, start: int, training: str | None) -> Run:
    """A run that holds no more than what it is of.

    Args:
        client: Of the store.
        experiment: Id of the experiment.
        method: What was trained.
        name: Of the run, for people.
        start: When the training began, in milliseconds since 1970.
        training: Name of the training; None where it is not known.
    """
    tags = {
        "method": method,
        "mlflow.source.name": f"python -m pipelines.train {method}",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": provenance.user(),
    }
    if training is not None:
        tags[TRAINING] = training
    return client.create_run(experiment, start, tags, name)


def log_provenance(client: MlflowClient, run_id: str, project: Path, learned: Sequence[str] | None) -> None:
    """Note what lies in a study's folder: digests of the inputs, commit, the dataset.

    Args:
        client: Of the store.
        run_id: The run.
        project: The study's folder.
        learned: The sources that the method learns from, none where nothing is trained; None: not known, perhaps all.
    """
    tags = {f"digest.{name}": value for name, value in provenance.digests(project).items()}
    commit, tags["git_dirty"] = provenance.commit(project)
    if commit != "unknown":
        tags["mlflow.source.git.commit"] = commit
    tags["sources"] = source_names(provenance.sources(project) if learned is None else learned)
    if used := provenance.weights(project):
        tags["weights"] = used
    if experiment := os.environ.get(_DVC_EXPERIMENT):
        tags[EXPERIMENT] = experiment
    log_tags(client, run_id, tags)
    if learned != []:
        dataset.log_dataset(client, run_id, project, learned)


def source_names(learned: Sequence[str]) -> str:
    """The tag `sources`."""
    return ", ".join(learned) or NO_SOURCE


def log_progress(client: MlflowClient, experiment: str, progress: Progress, project: Path | None) -> Run:
    """Bring the run of a training up to date with its progress file: made, continued, given points, or ended.

    Args:
        client: Of the store.
        experiment: Id of the experiment.
        progress: What the file says.
        project: Folder in which it trains; None: not known, and a new run holds nothing of where it came from.

    Returns:
        The run. Of a training that ended with a checkpoint that has a run already, that one; the other is deleted.
    """
    if progress.finished and (known := find_run(client, experiment, progress.finished)):
        if (other := find_training(client, experiment, progress.run)) is not None:
            client.delete_run(other.info.run_id)
        return known
    run = find_training(client, experiment, progress.run)
    if run is None:
        name = _name(progress.method, progress.run, os.environ.get(_DVC_EXPERIMENT) if project else None)
        run = make_run(client, experiment, progress.method, name, progress.start, progress.run)
        log_params(client, run, settings.of_run(progress.settings))
    elif progress.runs and run.info.status != "RUNNING":
        client.update_run(run.info.run_id, status="RUNNING")
    if project is not None and PROVENANCE not in run.data.tags:
        log_provenance(client, run.info.run_id, project, progress.sources)
        describe(client, run.info.run_id)
    for curve, points in progress.points.items():
        log_points(client, run.info.run_id, curve, points.values())
    _end(client, run, progress)
    return client.get_run(run.info.run_id)


def _end(client: MlflowClient, run: Run, progress: Progress) -> None:
    run_id = run.info.run_id
    if progress.finished:
        log_tags(client, run_id, {CHECKPOINT: progress.finished, SECONDS: f"{progress.seconds:.0f}"})
        client.set_terminated(run_id, "FINISHED", progress.end)
        describe(client, run_id)
    elif progress.failed:
        log_tags(client, run_id, {"failed": progress.failed})
        client.set_terminated(run_id, "FAILED", progress.end)
    elif not progress.runs and run.info.status != "KILLED":
        client.set_terminated(run_id, "KILLED", progress.end)


def chosen_epoch(curve: Mapping[str, Any]) -> dict[str, str]:
    """Tags that say what validation decided in a training; none where it decided nothing.

    Args:
        curve: curve.json of the checkpoint.
    """
    tags = {}
    if best := curve.get("best_epoch"):
        where = f"epoch {best['epoch']} of phase {best['phase']}, step {best['step']}"
        tags[BEST_EPOCH] = f"{where}: {best['by']} {best['value']:.6g}"
    if stopped := curve.get("stopped_early"):
        tags[STOPPED_EARLY] = ", ".join(f"{phase} after {epochs} epochs" for phase, epochs in stopped.items())
    return tags


def log_points(client: MlflowClient, run_id: str, curve: str, points: Iterable[Mapping[str, Any]]) -> None:
    """Log the points of a curve, `steps` or `validation`, whose steps the run does not have yet.

    Args:
        client: Of the store.
        run_id: The run.
        curve: Its name in curve.json.
        points: As there, each with `time` in milliseconds since 1970.
    """
    prefix = _CURVES[curve]
    points = list(points)
    known = {metric.step for metric in client.get_metric_history(run_id, f"{prefix}loss")} if points else set()
    # All metrics of a point are in one batch, so that a step that is there is there with all of them.
    batch: list[Metric] = []
    for point in points:
        if point["step"] in known:
            continue
        values = {"loss": point["loss"], **{f"loss/{term}": value for term, value in point["terms"].items()}}
        values |= point.get("scores", {})
        if "lr" in point:
            values["learning_rate"] = point["lr"]
        time, step = point["time"], point["step"]
        made = [Metric(metric_name(prefix + name), value, time, step) for name, value in values.items()]
        if len(batch) + len(made) > _METRICS_A_BATCH:
            client.log_batch(run_id, metrics=batch)
            batch = []
        batch += made
    if batch:
        client.log_batch(run_id, metrics=batch)


def log_params(client: MlflowClient, run: Run, params: Mapping[str, str]) -> None:
    """Log the params that the run does not have yet."""
    new = (Param(name, value) for name, value in params.items() if name not in run.data.params)
    for batch in _batches(new, _PARAMS_A_BATCH):
        client.log_batch(run.info.run_id, params=batch)


def log_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run; no path of the machine is in them."""
    made = (RunTag(name, without_machine_paths(value)) for name, value in tags.items())
    for batch in _batches(made, _TAGS_A_BATCH):
        client.log_batch(run_id, tags=batch)


def log_metrics(client: MlflowClient, run_id: str, metrics: Mapping[str, float], time: int, step: int) -> None:
    """Log single values at one step."""
    made = (Metric(name, value, time, step) for name, value in metrics.items())
    for batch in _batches(made, _METRICS_A_BATCH):
        client.log_batch(run_id, metrics=batch)


def describe(
    client: MlflowClient, run_id: str, rows: Sequence[Mapping[str, Any]] = (), files: Sequence[str] = ()
) -> None:
    """Write the description of a run from what it holds; arguments as of `description.of_run`."""
    client.set_tag(run_id, "mlflow.note.content", description.of_run(client.get_run(run_id), rows, files))


def _name(method: str, training: str, experiment: str | None) -> str:
    """What people see: the method, with DVC's name of the experiment or the first digits of the training's hash."""
    return f"{method}-{experiment or training.removeprefix(f'{method}-')[:8]}"


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(islice(items, size)):
        yield batch
