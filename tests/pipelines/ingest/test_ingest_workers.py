"""Ingest with several workers: the tables of one process, and an image that ends its worker fails alone."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import UserError
from pipelines.ingest import stage
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.reading import ImageReader, ImageReading, ListedImage
from pipelines.records import IMAGES
from pipelines.workers.config import WorkersConfig
from tests.pipelines.formats.volume_files import affine, nifti
from tests.workers import few_are_worth_a_worker

TABLES = ("images", "annotations", "questions", "rejected")
TIMES = ("seconds", "items_per_second", "peak_memory_mb")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few images are worth a worker, and a batch holds three."""
    few_are_worth_a_worker(monkeypatch, stage, 3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """27 rows: pictures with masks, boxes, questions; the same pixels and file again; two that are broken; a volume."""
    root, random = tmp_path / "raw", np.random.default_rng(0)
    root.mkdir()
    rows: list[dict[str, Any]] = []
    for number in range(14):
        pixels = random.integers(0, 256, (24, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
        row: dict[str, Any] = {"file_name": f"{number}.png", "text": f"Picture {number}.", "patient_id": number // 2}
        if number % 3 == 0:
            mask = np.zeros((24, 30), np.uint8)
            mask[number : number + 6, 3:9] = 255
            Image.fromarray(mask).save(root / f"{number}-mask.png")
            row |= {"mask": f"{number}-mask.png", "labels": ["mass"]}
        elif number % 3 == 1:
            row["objects"] = {"bbox": [[1, 2, 40, 12]], "label": ["nodule"]}
        rows.append(row)
    Image.open(root / "5.png").save(root / "again.bmp")
    (root / "broken.png").write_bytes((root / "2.png").read_bytes()[:60])
    Image.fromarray(np.full((24, 30), 7, np.uint8)).save(root / "blank.png")
    (root / "volume.nii").write_bytes(nifti(random.integers(1, 900, (20, 18, 7)).astype(np.int16), affine()))
    rows.insert(3, {"file_name": "again.bmp", "text": "Again.", "patient_id": "other"})
    rows.insert(6, {"file_name": "broken.png", "text": "Broken."})
    rows.insert(6, {"file_name": "broken.png", "text": "Broken, too."})
    rows += [{"file_name": "4.png", "text": "Twice."}, {"file_name": "4.png", "mask": "none.png"}]
    rows.append({"file_name": "blank.png"})
    rows[9:9] = [{"file_name": "volume.nii", "frame": frame, "modality": "mri"} for frame in range(7)]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def ingest(root: Path, processes: int, allowed: float = 0.5) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The bytes of each table, and the summary without its times."""
    source = SourceConfig(adapter="table", root=str(root), patient_ids="public", options={"modality": "other"})
    config = IngestConfig(sources={"here": source}, max_pixels=10_000, max_failed_fraction=allowed)
    output = root.parent / f"out-{processes}"
    cache = root.parent / "results.sqlite"
    summary = stage.run("here", config, output, root.parent, cache, WorkersConfig(processes=processes))
    tables = {name: (output / f"{name}.parquet").read_bytes() for name in TABLES}
    return tables, {name: value for name, value in summary.items() if name not in TIMES}


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(root: Path) -> None:
    tables, summary = ingest(root, 1)
    assert (summary["inputs"], summary["ok"]) == (27, 21)
    assert summary["reasons"] == {
        "rejected": {"blank_image": 1, "mask_missing_file": 1, "truncated": 2},
        "duplicates": {"same_file": 1, "same_pixels": 1},
    }
    assert (summary["clipped_boxes"], summary["patients_joined"]) == (5, 1)
    for processes in (2, 3):
        assert ingest(root, processes) == (tables, summary)


class Mortal(ImageReader):
    """Ends its process at one picture and at one slice."""

    def __call__(self, images: Sequence[ListedImage]) -> list[ImageReading]:
        if any(image.name == "4.png" or image.cut.frame == 5 for image in images):
            os._exit(9)
        return super().__call__(images)


@pytest.mark.slow
def test_an_image_that_ends_its_worker_fails_with_its_rows_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = ingest(root, 1)
    names = [(row.path, row.frame) for row in IMAGES.read(root.parent / "out-1" / "images.parquet")]
    # In a process of its own a worker may die; built here, it only proves that it can be built.
    monkeypatch.setattr(stage, "ImageReader", Mortal)
    _, summary = ingest(root, 2)
    left = [(row.path, row.frame) for row in IMAGES.read(root.parent / "out-2" / "images.parquet")]
    assert left == [name for name in names if name not in (("4.png", None), ("volume.nii", 5))]
    # One of the three rows of 4.png named a mask that is not there.
    assert summary["reasons"]["failed"] == {"worker_died": 4}
    assert "mask_missing_file" not in summary["reasons"]["rejected"]
    outcomes = ("ok", "rejected", "failed", "duplicates")
    assert sum(summary[outcome] for outcome in outcomes) == whole["inputs"] == summary["inputs"]
    with pytest.raises(UserError, match=r"items failed \(worker_died 3\), more than the fraction 0\.1 that"):
        ingest(root, 2, allowed=0.1)
