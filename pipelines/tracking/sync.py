"""Bring MLflow up to date with the files that training and evaluation leave.

Runs of trainings are begun while they run (`pipelines.tracking.follow`). This completes them, and makes those that are
missing: of trainings that MLflow did not hear of, and of checkpoints restored from DVC's cache. A run and a model
version belong to the digest of a checkpoint, so that doing it again changes nothing. Not a stage of the DVC graph:
`make run`, the flow `reproduce` and `promote` call it.

Reads: data/checkpoints/<method>/, data/evaluation/<method>/, data/report/, data/summaries/, data/cache/progress/,
params.yaml, dvc.lock, the tables and manifests, for their digests.
Writes: the MLflow store that params.yaml (tracking) names; deletes the progress files of complete runs.
Run alone: python -m pipelines.tracking
"""

import logging
import tempfile
import time
from collections import Counter
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from models import checkpoint as checkpoints
from pipelines.config import load, method_names
from pipelines.errors import UserError
from pipelines.files import read_output, read_summary
from pipelines.tracking import evaluations, files, lineage, provenance, runs, settings, versions
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.mlflow_model import write_model
from pipelines.tracking.names import CHECKPOINT, EVALUATION, MODEL, PROVENANCE, SECONDS
from pipelines.tracking.progress import read_progress
from pipelines.tracking.store import experiment_id, experiment_page, locked_store
from pipelines.train.progress import FOLDER
from pipelines.workspace import main_workspace

logger = logging.getLogger(__name__)

# The folder of the MLflow model among a run's artifacts.
_ARTIFACT = "model"
_COUNTS = ("checkpoints", "runs_made", "runs_completed", "versions_made", "evaluations_logged", "stale")


def main() -> None:
    config = load(TrackingConfig, "tracking")
    counts = sync(config, Path())
    logger.info("tracking: %s", ", ".join(f"{name} {count}" for name, count in counts.items()))
    server = "" if config.database(Path()) is None else " (`make ui`)"
    logger.info("tracking: %s%s", experiment_page(config, Path()), server)


def sync(config: TrackingConfig, project: Path) -> dict[str, int]:
    """Bring the store up to date with the files.

    Returns:
        How many checkpoints there are, how many of their runs were made, how many that a training began were completed,
        how many versions were made, how many evaluations were logged, and how many evaluations were left out because
        they belong to another checkpoint than the one that lies there now.

    Raises:
        UserError: The store is damaged, locked or down, or params.yaml names no method.
    """
    with locked_store(config, project) as client:
        return _Sync(client, config, project).all()


class _Sync:
    """One pass over a study's files, with the store held."""

    def __init__(self, client: MlflowClient, config: TrackingConfig, project: Path) -> None:
        self.client, self.config, self.project = client, config, project
        self.experiment = experiment_id(client, config, project)
        paths = sorted((main_workspace(project) / FOLDER).glob("*.jsonl"))
        self.progress = {path: progress for path in paths if (progress := read_progress(path)) is not None}

    def all(self) -> dict[str, int]:
        counts = Counter(dict.fromkeys(_COUNTS, 0))
        for method in sorted(method_names(self.project / "params.yaml")):
            folder = self.project / "data/checkpoints" / method
            if (folder / checkpoints.CONFIG).is_file():
                self._checkpoint(method, folder, counts)
        self._trainings()
        del counts["unchanged"]
        return dict(counts)

    def _checkpoint(self, method: str, folder: Path, counts: Counter[str]) -> None:
        digest = checkpoints.digest(folder)
        counts["checkpoints"] += 1
        run = runs.find_run(self.client, self.experiment, digest) or self._of_training(digest)
        if run is None:
            run = self._restored(method, digest)
            counts["runs_made"] += 1
        elif MODEL not in run.data.tags:
            counts["runs_completed"] += 1
        if completed := MODEL not in run.data.tags:
            run = self._complete(run, folder, digest)
        outcome, rows = evaluations.log_evaluation(self.client, run, self.project, digest)
        counts[outcome] += 1
        if completed or outcome == "evaluations_logged":
            self.client.log_dict(run.info.run_id, lineage.record(self.project, method), lineage.FILE)
        run = self.client.get_run(run.info.run_id)
        version = versions.find_version(self.client, self.config.model, digest)
        if version is None:
            versions.make_version(self.client, self.config.model, run, rows)
            counts["versions_made"] += 1
        elif outcome == "evaluations_logged":
            versions.describe(self.client, version, run, rows)

    def _of_training(self, digest: str) -> Run | None:
        """The run of a training that gave a checkpoint and that its follower did not bring to an end; None: no such."""
        for progress in self.progress.values():
            if progress.finished == digest:
                return runs.log_progress(self.client, self.experiment, progress, self.project)
        return None

    def _restored(self, method: str, digest: str) -> Run:
        """A run for a checkpoint that came from DVC's cache: when it was trained is not known, and how long perhaps."""
        seconds = self._seconds(method, digest)
        start = round((time.time() - (seconds or 0)) * 1000)
        run = runs.make_run(self.client, self.experiment, method, f"{method}-{digest[:8]}", start, None)
        known = "unknown" if seconds is None else f"{seconds:.0f}"
        runs.log_tags(self.client, run.info.run_id, {CHECKPOINT: digest, SECONDS: known})
        runs.log_params(self.client, run, settings.of_run(settings.of_params(self.project / "params.yaml", method)))
        return self.client.get_run(run.info.run_id)

    def _seconds(self, method: str, digest: str) -> float | None:
        """How long a checkpoint was trained, if the summary that lies there is that of its training."""
        try:
            summary = read_summary(self.project / f"data/summaries/train-{method}.json")
        except UserError:
            return None
        return summary["seconds"] if summary.get("checkpoint_sha256") == digest else None

    def _complete(self, run: Run, folder: Path, digest: str) -> Run:
        """Log what a run lacks, the files last; one that was cut off here is completed the next time."""
        client, run_id = self.client, run.info.run_id
        curve = read_output(folder / checkpoints.CURVE)
        if PROVENANCE not in run.data.tags:
            learned = curve.get("sources")
            if provenance.trained_on_present_shards(self.project, curve):
                runs.log_provenance(client, run_id, self.project, learned)
            else:
                named = "unknown" if learned is None else runs.source_names(learned)
                runs.log_tags(client, run_id, {"sources": named, PROVENANCE: "unknown"})
        runs.log_params(client, run, settings.of_checkpoint(checkpoints.read_config(folder)))
        ended = run.info.end_time or round(time.time() * 1000)
        for name in ("steps", "validation"):
            runs.log_points(client, run_id, name, [{**point, "time": ended} for point in curve[name]])
        with tempfile.TemporaryDirectory() as scratch:
            write_model(Path(scratch) / _ARTIFACT, folder)
            client.log_artifacts(run_id, str(Path(scratch) / _ARTIFACT), _ARTIFACT)
        files.log_settings(client, run_id, self.project)
        tags = {
            CHECKPOINT: digest,
            SECONDS: run.data.tags.get(SECONDS) or "unknown",
            "dvc_lock_stage": provenance.locked_stage(self.project, f"train@{folder.name}"),
            MODEL: _ARTIFACT,
        }
        runs.log_tags(client, run_id, tags | runs.chosen_epoch(curve))
        client.set_terminated(run_id, "FINISHED", ended)
        if EVALUATION not in run.data.tags:  # else it describes the scores, too
            runs.describe(client, run_id)
        return client.get_run(run_id)

    def _trainings(self) -> None:
        """Bring the runs of all other trainings up to date, and delete the progress files that are of no more use."""
        for path, progress in self.progress.items():
            if progress.runs:
                continue  # it has a follower
            runs.log_progress(self.client, self.experiment, progress, None)
            # Neither complete nor to be continued: an experiment, or inputs that have changed since.
            resumable = (main_workspace(self.project) / "data/cache/train" / progress.run).is_dir()
            if progress.finished or progress.failed or not resumable:
                path.unlink(missing_ok=True)
