"""What a person must know of a model before its answers: what it was trained on, when, and how it scored."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from models import checkpoint as checkpoints
from models.verified import verified_sha256
from pipelines.evaluate.seen import learned_sources, trained_on
from pipelines.files import read_output
from pipelines.tracking import dataset, description, provenance, scores
from pipelines.tracking.checkpoints import find_registered
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.evaluations import METRICS

_SCORE = "score."
_COMMIT, _DIRTY = "mlflow.source.git.commit", "git_dirty"


@dataclass(frozen=True, kw_only=True)
class About:
    """A model in words.

    Attributes:
        name: What it is called.
        origin: What it was trained on, and when; sentences.
        scores: Task -> its first score on the test images, with interval and chance.
    """

    name: str
    origin: list[str]
    scores: dict[str, str] = field(default_factory=dict)


def about(reference: str, folder: Path, config: TrackingConfig, project: Path) -> About:
    """What is known of a model.

    Args:
        reference: As of `checkpoint_folder`.
        folder: The checkpoint that the reference names.
        config: Where the registry is.
        project: The study in whose folder the command runs.
    """
    if not reference.startswith("models:"):
        return _of_folder(folder, project)
    client, version = find_registered(reference, config, project)
    return _of_version(version, client.get_run(str(version.run_id)))


def _of_version(version: ModelVersion, run: Run) -> About:
    tags = run.data.tags
    origin = [description.what(run) if "method" in tags else "What it was trained on is not known."]
    when = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    line = f"Registered on {when:%Y-%m-%d}"
    if _COMMIT in tags:
        line += f", made at commit {tags[_COMMIT][:12]}{' with changes' if tags.get(_DIRTY) == 'true' else ''}"
    of_tasks = {tag.removeprefix(_SCORE): text for tag, text in version.tags.items() if tag.startswith(_SCORE)}
    return About(name=f"{version.name}, version {version.version}", origin=[*origin, f"{line}."], scores=of_tasks)


def _of_folder(folder: Path, project: Path) -> About:
    """Of a checkpoint that lies in a folder; what lies in the study counts where it is this checkpoint's."""
    method = read_output(folder / checkpoints.CURVE)["method"]
    origin = f"{method}. What it was trained on is not known: its shards are not those of this study."
    manifest, learned = provenance.manifests(project).get("images"), learned_sources(folder)
    if learned == []:
        origin = f"{method}, {description.UNTRAINED}."
    elif manifest is not None and trained_on(folder) == verified_sha256(manifest):
        counts = description.images_in_words(dataset.counts(project))
        origin = f"{method}, trained on {dataset.in_words(project, learned)}{counts}."
    found: dict[str, str] = {}
    metrics = project / "data/evaluation" / method / METRICS
    if metrics.is_file():
        results = read_output(metrics)
        if results["checkpoint_sha256"] == checkpoints.digest(folder):
            found = description.scores_in_short(list(scores.rows(results)))
    return About(name="A checkpoint that is not registered", origin=[origin], scores=found)
