"""Small copies of published data sets: files as they lie there, what an adapter makes of them, and archives of them."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.record import Source, SourceRecord, UnusableRow
from pipelines.ingest.stage import run
from pipelines.records import ANNOTATIONS, IMAGES, QUESTIONS, REJECTED
from tests.rows import values_of

TABLES = {"images": IMAGES, "annotations": ANNOTATIONS, "questions": QUESTIONS, "rejected": REJECTED}


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def grey(seed: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def mask(*places: tuple[int, int], height: int = 20, width: int = 30) -> np.ndarray:
    """Black, with a white square of 3 x 3 pixels at each place (x, y)."""
    values = np.zeros((height, width), np.uint8)
    for x, y in places:
        values[y : y + 3, x : x + 3] = 255
    return values


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def sorted_out(source: Source) -> tuple[list[SourceRecord], list[tuple[str, str]]]:
    """The records, and row and reason of what the adapter cannot use."""
    items = list(source.records())
    rejected = [(item.row, item.reason) for item in items if isinstance(item, UnusableRow)]
    return [item for item in items if isinstance(item, SourceRecord)], rejected


def zipped(folder: Path, archive: Path) -> Path:
    """A zip file of all files in a folder."""
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                packed.write(file, file.relative_to(folder))
    return archive


def same_from_a_zip(adapter: Callable[..., Source], root: Path, options: dict[str, Any], archive: Path) -> None:
    """Compare what the adapter gives from a folder and from a zip of it."""
    zipped(root, archive)
    from_folder = list(adapter(root, options).records())
    assert from_folder
    assert list(adapter(archive, options).records()) == from_folder


def config(adapter: str, root: Path, options: dict[str, Any], name: str = "here") -> IngestConfig:
    source = SourceConfig(adapter=adapter, root=str(root), options=options, patient_ids="public")
    return IngestConfig(sources={name: source}, max_pixels=2 * 10**6, max_failed_fraction=0.0)


def ingest(
    work: Path, adapter: str, root: Path, options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The summary and the tables of a run of the stage."""
    summary = run("here", config(adapter, root, options), work / "out", work)
    return summary, {name: values_of(table, work / "out" / f"{name}.parquet") for name, table in TABLES.items()}
