"""Readings that are kept: the tables of a run without them, and what is known is not decoded."""

import ast
import contextlib
import gc
import json
import sqlite3
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.code import PROJECT
from pipelines.code.closure import closure
from pipelines.formats.libraries import LIBRARIES, library_versions
from pipelines.ingest import stage
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.reading_cache import ReadingFile
from pipelines.workers.config import WorkersConfig
from tests.pipelines.formats.test_orientation import exif
from tests.pipelines.formats.volume_files import affine, nifti
from tests.pipelines.ingest.layouts import grey, mask, save, zipped
from tests.pipelines.ingest.test_ingest_dicom import picture, write
from tests.workers import few_are_worth_a_worker

TABLES = ("images", "annotations", "questions", "rejected")
PLACES = {"a.png": (2, 3), "b.png": (8, 9), "c.png": (20, 4)}


class Study:
    """Runs of the stage on one source, with a file of readings beside."""

    def __init__(self, folder: Path, adapter: str, root: Path, **options: Any) -> None:
        self.folder, self.adapter, self.root, self.options = folder, adapter, root, options
        self.path = folder / "cache" / "readings.sqlite"

    def run(
        self, *, keep: bool = True, code: str = "code", processes: int = 1, max_pixels: int = 10**6, **settings: Any
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        """The bytes of the tables, and the summary."""
        source = SourceConfig(
            **{"adapter": self.adapter, "root": str(self.root), "patient_ids": "public", "options": self.options}
            | settings
        )
        config = IngestConfig(sources={"here": source}, max_pixels=max_pixels, max_failed_fraction=0.0)
        output, results = self.folder / "out", self.folder / "cache" / "results.sqlite"
        readings = ReadingFile(path=self.path, code=code) if keep else None
        workers = WorkersConfig(processes=processes)
        summary = stage.run("here", config, output, self.folder, results, workers, readings)
        return {name: (output / f"{name}.parquet").read_bytes() for name in TABLES}, summary

    def from_cache(self, **how: Any) -> int:
        """How many images a run takes from the file; its tables are those of a run without it."""
        tables, summary = self.run(**how)
        assert (summary["corrupt_in_cache"], summary["caches_set_aside"]) == (0, 0)
        assert self.run(**{**how, "keep": False})[0] == tables
        count: int = summary["from_cache"]
        return count


@pytest.fixture
def table(tmp_path: Path) -> Study:
    """Eight images: masks in files of one and of several regions, boxes, a slice of a volume under a mask volume, a
    turned picture; and rows that are rejected."""
    root = tmp_path / "raw"
    for number, (name, place) in enumerate(PLACES.items()):
        save(root / name, grey(number))
        save(root / "masks" / name, mask(place))
    classes = mask((1, 1))
    classes[10:15, 10:15] = 3
    save(root / "map.png", classes)
    save(root / "d.png", grey(4))
    Image.fromarray(grey(5)).save(root / "e.jpg", exif=exif(6))
    save(root / "blank.png", np.full((20, 30), 9, np.uint8))
    values = np.random.default_rng(6).integers(1, 900, (12, 14, 5)).astype(np.int16)
    (root / "v.nii").write_bytes(nifti(values, affine()))
    (root / "v-mask.nii").write_bytes(nifti((values > 700).astype(np.uint8), affine()))
    rows: list[dict[str, Any]] = [{"file_name": name, "mask": f"masks/{name}"} for name in PLACES]
    rows.append({"file_name": "a.png", "objects": {"mask": ["map.png", "map.png"], "mask_value": [3, 255]}})
    rows.append({"file_name": "d.png", "objects": {"bbox": [[1, 2, 40, 12]], "label": ["nodule"]}, "text": "A nodule."})
    rows.append({"file_name": "e.jpg", "mask": "masks/c.png"})
    rows += [{"file_name": "v.nii", "frame": frame, "mask": "v-mask.nii", "modality": "mri"} for frame in (1, 3, 4)]
    rows += [{"file_name": "blank.png"}, {"file_name": "b.png", "mask": "none.png"}]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Study(tmp_path, "table", root, modality="other")


def folders(tmp_path: Path) -> Study:
    for number in range(6):
        save(tmp_path / "raw" / ("NORMAL" if number % 2 else "PNEUMONIA") / f"p{number}.png", grey(number))
    return Study(tmp_path, "class_folders", tmp_path / "raw", modality="radiograph")


def with_masks(tmp_path: Path) -> Study:
    """Pictures with two masks each, which together are one region."""
    for number, (name, place) in enumerate(PLACES.items()):
        save(tmp_path / "raw" / "images" / name, grey(number))
        for part, other in enumerate(((25, 15), (0, 0))):
            save(tmp_path / "raw" / "masks" / name.replace(".", f"_{part}."), mask(place, other))
    options = {"mask_names": "{stem}_{n}.png", "several": "parts", "splits": {".": None}}
    return Study(tmp_path, "image_mask_folders", tmp_path / "raw", modality="radiograph", label="lung", **options)


def test_nothing_is_decoded_twice(table: Study) -> None:
    assert table.from_cache(keep=False) == 0
    assert table.from_cache() == 0
    # Of eight images one is turned while its mask is not: its row is rejected, as every time.
    _, summary = table.run()
    assert (summary["inputs"], summary["reasons"]["rejected"]) == (
        11,
        {"blank_image": 1, "mask_missing_file": 1, "mask_size_differs": 1},
    )
    assert table.from_cache() == 7


def test_class_folders_and_their_archive(tmp_path: Path) -> None:
    study = folders(tmp_path)
    assert (study.from_cache(), study.from_cache()) == (0, 6)
    # The same bytes under other names: image_id has the member's name in it, the pixels are the same.
    study.root = zipped(study.root, tmp_path / "raw.zip")
    assert study.from_cache() == 6


def test_what_changed_is_decoded_and_nothing_else(table: Study) -> None:
    table.run()
    save(table.root / "d.png", grey(77))
    assert (table.from_cache(), table.from_cache()) == (6, 7)
    save(table.root / "masks" / "b.png", mask((1, 1)))
    before = table.run(keep=False)[0]["annotations"]
    save(table.root / "masks" / "b.png", mask((4, 4)))
    assert (table.from_cache(), table.from_cache()) == (6, 7)
    assert table.run()[0]["annotations"] != before
    values = np.ones((12, 14, 5), np.uint8)
    (table.root / "v-mask.nii").write_bytes(nifti(values, affine()))
    assert (table.from_cache(), table.from_cache()) == (4, 7)
    # The same mask, in another place: it marks other pixels of the same slices.
    moved = affine()
    moved[0, 3] += 4
    (table.root / "v-mask.nii").write_bytes(nifti(values, moved))
    assert table.from_cache() == 4


def test_a_listing_decides_what_is_read_of_a_known_image(table: Study) -> None:
    table.run()
    listing = table.root / "metadata.jsonl"
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    rows[4] |= {"text": "Two.", "objects": {"bbox": [[3, 3, 5, 5], [1, 1, 2, 2]], "label": ["mass", "cyst"]}}
    rows[3]["objects"] = {"mask": ["map.png"], "mask_value": [3]}
    listing.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert table.from_cache() == 7
    rows[1]["mask"] = "masks/c.png"
    listing.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert (table.from_cache(), table.from_cache()) == (6, 7)


def test_settings_and_code_that_decide_are_part_of_what_is_known(table: Study) -> None:
    table.run()
    assert (table.from_cache(max_pixels=400), table.from_cache(max_pixels=400)) == (0, 3)  # 20 x 30 is rejected
    assert table.from_cache() == 7
    assert (table.from_cache(code="other"), table.from_cache(code="other"), table.from_cache()) == (0, 7, 7)
    # The mask of the turned picture is read in stored pixels now, where it fits; all others stay.
    assert (table.from_cache(annotated_pixels="stored"), table.from_cache(annotated_pixels="stored")) == (7, 8)


@pytest.mark.slow
def test_text_in_pixels_is_looked_for_in_known_images(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr_onnxruntime", reason="the extra ocr")
    study = folders(tmp_path)
    study.run()
    for policy in ("flag", "mask"):
        assert (study.from_cache(burned_in=policy), study.from_cache(burned_in=policy)) == (0, 6)
    assert study.from_cache() == 6


def test_masks_of_several_files(tmp_path: Path) -> None:
    study = with_masks(tmp_path)
    assert (study.from_cache(), study.from_cache()) == (0, 3)
    save(study.root / "masks" / "b_1.png", mask((10, 10)))
    assert (study.from_cache(), study.from_cache()) == (2, 3)


@pytest.mark.slow
def test_workers_share_the_file(table: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    few_are_worth_a_worker(monkeypatch, stage, 2)
    whole, _ = table.run(keep=False)
    cold, first = table.run(processes=2)
    warm, second = table.run(processes=2)
    assert (cold, warm) == (whole, whole)
    assert (first["from_cache"], second["from_cache"]) == (0, 7)
    assert table.run(processes=3)[0] == table.run(processes=1)[0] == whole
    damaged_values(table.path)
    tables, summary = table.run(processes=2)
    assert (tables, summary["from_cache"], summary["corrupt_in_cache"]) == (whole, 0, 8)


def damaged_values(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE items SET value = replace(value, 'width', 'height')")


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all " * 1000)


@pytest.mark.parametrize(
    ("damage", "told"),
    [(damaged_values, {"corrupt_in_cache": 8}), (garbage, {"caches_set_aside": 1}), (Path.unlink, {})],
)
def test_a_damaged_or_deleted_file_costs_one_reading(
    table: Study, damage: Callable[[Path], None], told: dict[str, int]
) -> None:
    whole, _ = table.run()
    gc.collect()  # the reader's connection, whose log would mend the file
    assert [file.name for file in table.path.parent.iterdir()] == ["readings.sqlite"]
    damage(table.path)
    tables, summary = table.run()
    assert tables == whole
    counts = {"from_cache": 0, "corrupt_in_cache": 0, "caches_set_aside": 0, **told}
    assert {name: summary[name] for name in counts} == counts
    assert table.from_cache() == 7


def test_the_file_holds_no_id_no_name_and_no_word(tmp_path: Path) -> None:
    words = ("SURNAME-77123", "1.2.826.4711", "Clear lungs", "a-file-name")
    root = write(
        tmp_path / "raw",
        {
            f"{words[3]}-{number}.dcm": picture(number, PatientID=words[0], StudyInstanceUID=words[1])
            for number in range(3)
        },
    )
    (root / "reports.csv").write_text(f"PatientID,text\n{words[0]},{words[2]}\n")
    study = Study(tmp_path, "dicom", root, join="PatientID")
    assert study.from_cache() == 0
    _, summary = study.run()
    # The ids of a known image come from its header, which is read again.
    assert (summary["ok"], summary["from_cache"], summary["patients_from_headers"]) == (3, 3, 3)
    held = b"".join(file.read_bytes() for file in study.path.parent.glob("readings*"))
    assert b"perceptual_hash" in held
    assert [word for word in words if word.encode() in held] == []


def test_the_versions_of_all_libraries_that_read_are_in_the_digest() -> None:
    names = {
        name.partition(".")[0]
        for file in closure("pipelines.ingest.reading", "pipelines.shards.images")
        if file.startswith(
            (
                *("pipelines/formats/", "pipelines/images", "pipelines/masks", "pipelines/ingest/"),
                *("pipelines/shards/", "models/"),
            )
        )
        for node in ast.walk(ast.parse((PROJECT / file).read_text()))
        for name in imported(node)
    }
    known = metadata.packages_distributions()
    found = {known[name][0].lower() for name in names if name in known}
    # Checks of rows and params, and what `TextFinder.identity` holds.
    found -= {"medregion", "pydantic", "pandas", "pyarrow", "rapidocr-onnxruntime"}
    assert found <= {name.lower() for name in LIBRARIES}
    assert {"pillow", "pydicom", "imagehash"} <= found
    assert len(library_versions()) == len(LIBRARIES)


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [str(node.module)]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
