"""Versions of the registered model: one for each checkpoint, with what a promotion said of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.tracking import MlflowClient

from pipelines.tracking import description
from pipelines.tracking.names import CHECKPOINT, EXPERIMENT, MODEL, SECONDS, TRAINING, VERDICT, metric_name
from pipelines.tracking.paths import without_machine_paths

# What follows it in a description is the last promotion's; the lines above are those of `sync`.
_HEADING = "\n\n## Promotion\n\n"
# MLflow's limit for the text of a tag.
_TAG_LENGTH = 5000
# The tags of a run that its version has too; the run has the digests of all that it was made from.
_KEPT = (CHECKPOINT, TRAINING, SECONDS, EXPERIMENT, "method", "sources", "digest.shards")
_MODEL = (
    "Methods trained by medregion. A version is one checkpoint; its description says what it was trained on and how it "
    "scores. The alias `champion` names the version that passed the gates of the last promotion."
)


def find_version(client: MlflowClient, model: str, digest: str) -> ModelVersion | None:
    """The registered version of a checkpoint."""
    found = client.search_model_versions(f"name = '{model}' and tags.{CHECKPOINT} = '{digest}'")
    return found[0] if found else None


def make_version(client: MlflowClient, model: str, run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
    """Register the model of a complete run, with its lineage and scores.

    Args:
        client: Of the store, which the caller holds.
        model: Name of the registered model; made where there is none.
        run: The checkpoint's run.
        rows: Its scores, as of `scores.rows`.
    """
    try:
        client.create_registered_model(model, description=_MODEL)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    tags = {name: value for name, value in run.data.tags.items() if name in _KEPT} | _score_tags(rows)
    source = f"{run.info.artifact_uri}/{run.data.tags[MODEL]}"
    text = description.of_version(run, rows)
    client.create_model_version(model, source, run.info.run_id, tags, description=text)


def describe(client: MlflowClient, version: ModelVersion, run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the description of a version anew, with the scores that its run has now; a promotion's verdict stays."""
    _, heading, verdict = (version.description or "").partition(_HEADING)
    text = description.of_version(run, rows) + heading + verdict
    client.update_model_version(version.name, version.version, text)
    for name, value in _score_tags(rows).items():
        client.set_model_version_tag(version.name, version.version, name, value)


def _score_tags(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {f"score.{task}": text for task, text in description.scores_in_short(rows).items()}


def record_verdict(client: MlflowClient, model: str, version: str, verdict: Mapping[str, str], text: str) -> None:
    """Write on a version what a promotion said of it, in the place of what an earlier one said.

    Args:
        client: Of the store.
        model: Name of the registered model.
        version: Its version.
        verdict: Short facts by name, such as the outcome and each gate's figures; tag `verdict.<name>` each.
        text: The same for a reader, as Markdown; the end of the version's description.
    """
    present = client.get_model_version(model, version)
    tags = {metric_name(f"{VERDICT}{name}"): without_machine_paths(value) for name, value in verdict.items()}
    for name in present.tags:
        if name.startswith(VERDICT) and name not in tags:
            client.delete_model_version_tag(model, version, name)
    for name, value in tags.items():
        client.set_model_version_tag(model, version, name, value[:_TAG_LENGTH])
    made, _, _ = (present.description or "").partition(_HEADING)
    client.update_model_version(model, version, f"{made}{_HEADING}{text.strip()}\n")
