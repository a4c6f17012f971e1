"""Small copies of published layouts, and what their adapters make of them."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.inspect.look import SourceLook, look
from pipelines.ingest.record import SourceRecord, UnusableRow
from pipelines.ingest.stage import run
from pipelines.records import ANNOTATIONS, IMAGES, REJECTED
from pipelines.registry import plugin
from tests.rows import values_of


def save(path: Path, seed: int, width: int = 40, height: int = 30) -> None:
    """A picture that no other seed has, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def zipped(folder: Path, archive: Path) -> Path:
    """A zip file of all files in a folder."""
    with zipfile.ZipFile(archive, "w") as stream:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                stream.write(file, file.relative_to(folder).as_posix())
    return archive


def rows(adapter: str, root: Path, **options: Any) -> tuple[list[SourceRecord], list[tuple[str, str]]]:
    """The records of a folder, which must be those of a zip file of it too, and rejected rows with their codes."""
    source, archive = (
        list(plugin("sources", adapter)(place, options).records())
        for place in (root, zipped(root, root.parent / f"{root.name}.zip"))
    )
    assert source == archive
    records = [item for item in source if isinstance(item, SourceRecord)]
    return records, [(item.row, item.reason) for item in source if isinstance(item, UnusableRow)]


def config(adapter: str, root: Path, **options: Any) -> IngestConfig:
    source = SourceConfig(adapter=adapter, root=str(root), options=options, patient_ids="public")
    return IngestConfig(sources={adapter: source}, max_pixels=2_000_000, max_failed_fraction=0.0)


def ingest(tmp_path: Path, adapter: str, root: Path, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Summary and tables of the stage."""
    summary = run(adapter, config(adapter, root, **options), tmp_path / "out", tmp_path)
    tables = {"images": IMAGES, "annotations": ANNOTATIONS, "rejected": REJECTED}
    return summary, {name: values_of(table, tmp_path / "out" / f"{name}.parquet") for name, table in tables.items()}


def looked(adapter: str, root: Path, **options: Any) -> SourceLook:
    """What `python -m pipelines.ingest.inspect` finds."""
    return look(adapter, config(adapter, root, **options), None)
