"""The files that a run keeps: its model, its evaluation, the report's pages without images, the settings."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from mlflow.tracking import MlflowClient

from models.verified import DamagedError, read_bytes
from pipelines.tracking.paths import without_machine_paths
from pipelines.tracking.scores import ALL

# Neither shows an image or a text; index.html does, and stays here.
REPORT = ("dataset_card.md", "comparison.csv")


def log_settings(client: MlflowClient, run_id: str, project: Path) -> None:
    """Keep params.yaml and dvc.lock, without paths of this machine; comments, which may hold some, are left out too."""
    for name in ("params.yaml", "dvc.lock"):
        if (project / name).is_file():
            client.log_text(run_id, _shareable((project / name).read_bytes()), name)


@lru_cache(maxsize=2)
def _shareable(text: bytes) -> str:
    """Both files are long, and the same for each method of a pass."""
    values = without_machine_paths(yaml.safe_load(text))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def report_of(project: Path, method: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Name -> text of the report's files that a run keeps, if the report is of these scores of the method; else empty.

    Args:
        project: Folder with data/report/.
        method: Its name.
        rows: Its scores, as of `scores.rows`.
    """
    try:
        texts = {name: read_bytes(project / "data/report" / name).decode() for name in REPORT}
    except (FileNotFoundError, DamagedError):
        return {}
    tested = (row for row in rows if (row["split"], row["source"]) == ("test", ALL))
    mine = {(row["task"], row["metric"]): float(row["value"]) for row in tested}
    compared = dict(_compared(texts["comparison.csv"], method))
    return texts if compared and compared == mine else {}


def _compared(text: str, method: str) -> Iterator[tuple[tuple[str, str], float]]:
    for row in csv.DictReader(io.StringIO(text)):
        if row["method"] == method:
            yield (row["task"], row["metric"]), float(row["value"])
