"""The dataset of a run as MLflow shows it: its sources, its digest and how much there is of what."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.tracking import MlflowClient

from pipelines.files import read_output, sha256_files
from pipelines.tracking.provenance import manifests, sources

# MLflow keeps at most 36 characters of a dataset's digest; the tag digest.shards has all of it.
_DIGEST_LENGTH = 32
_MEMBERS = {
    "image.jpg": "RGB image in a padded square",
    "target.png": "mask of all findings that the source outlined",
    "crops.bin": "JPEG of each region",
    "masks.bin": "PNG of each region's mask",
    "meta.json.txt": "source, split, labels, regions (JSON)",
    "captions.json.txt": "captions and report (JSON)",
}


def counts(project: Path) -> dict[str, int]:
    """Images and regions of each split, from the manifest of the image shards; empty where there is none."""
    file = manifests(project).get("images")
    if file is None:
        return {}
    splits: dict[str, Any] = read_output(file)["splits"]
    kinds = {"samples": "images", "regions": "regions"}
    return {f"{split} {shown}": part[kind] for split, part in splits.items() for kind, shown in kinds.items()}


def in_words(project: Path, learned: Sequence[str] | None) -> str:
    """The shards by their sources, and which of these a checkpoint learned from where it did not from all.

    Args:
        project: Folder with params.yaml.
        learned: The sources that it learned from, at least one; None: not known, and perhaps all.
    """
    every = sources(project)
    shards = f"shards of {', '.join(every)}"
    return shards if learned is None or sorted(learned) == every else f"{', '.join(learned)} alone, in {shards}"


def log_dataset(client: MlflowClient, run_id: str, project: Path, learned: Sequence[str] | None) -> None:
    """Make the shards the run's input, unless it has one; `learned` as of `in_words`."""
    files = list(manifests(project).values())
    known = client.get_run(run_id).inputs
    if not files or (known and known.dataset_inputs):
        return
    columns = [{"name": name, "type": "string" if "json" in name else "binary"} for name in _MEMBERS]
    data = Dataset(
        name=in_words(project, learned)[:500],
        digest=sha256_files(project, files)[:_DIGEST_LENGTH],
        source_type="local",
        source=json.dumps({"uri": "data/shards", "sources": sources(project) if learned is None else list(learned)}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps(counts(project)),
    )
    client.log_inputs(run_id, [DatasetInput(data, tags=[InputTag("mlflow.data.context", "training")])])
