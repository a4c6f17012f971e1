"""Versions of the registered model: one for each checkpoint, with what a promotion said of it."""

from collections.abc import Mapping

from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from pipelines.tracking.names import CHECKPOINT, VERDICT, metric_name
from pipelines.tracking.paths import without_machine_paths

# What follows it in a description is the last promotion's; the lines above are those of `sync`.
_HEADING = "\n\n## Promotion\n\n"
# MLflow's limit for the text of a tag.
_TAG_LENGTH = 5000


def find_version(client: MlflowClient, model: str, digest: str) -> ModelVersion | None:
    """The registered version of a checkpoint."""
    found = client.search_model_versions(f"name = '{model}' and tags.{CHECKPOINT} = '{digest}'")
    return found[0] if found else None


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
