"""The adapters of real data sets: on the data, with counts taken independently, and on small broken copies."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import UserError
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.record import SourceRecord, UnusableRow
from pipelines.ingest.sources.covid_chestxray import BOXES, CovidChestXray
from pipelines.ingest.sources.lvit import Lvit
from pipelines.ingest.sources.vqa_rad import FOLDER, LISTING, VqaRad
from pipelines.ingest.stage import run
from pipelines.records import ANNOTATIONS, IMAGES, QUESTIONS
from tests.rows import values_of


def ingest(tmp_path: Path, adapter: str, root: Path, **settings: Any) -> tuple[dict[str, Any], ...]:
    source = SourceConfig(adapter=adapter, root=str(root), patient_ids="public", **settings)
    config = IngestConfig(sources={adapter: source}, max_pixels=10_000_000, max_failed_fraction=0.0)
    summary = run(adapter, config, tmp_path / "out", tmp_path)
    tables = {"images": IMAGES, "annotations": ANNOTATIONS, "questions": QUESTIONS}
    return summary, {name: values_of(table, tmp_path / "out" / f"{name}.parquet") for name, table in tables.items()}


def sorted_out(source: Any) -> tuple[list[SourceRecord], list[tuple[str, str]]]:
    items = list(source.records())
    records = [item for item in items if isinstance(item, SourceRecord)]
    return records, [(item.row, item.reason) for item in items if isinstance(item, UnusableRow)]


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def grey(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (20, 30), dtype=np.uint8)


def test_qata(tmp_path: Path, shared_data: Path) -> None:
    limit = {"train": 12, "validation": 4, "test": 4}
    summary, tables = ingest(tmp_path, "lvit", shared_data / "qata_cov19", limit=limit)
    assert summary["available"] == {"train": 5716, "validation": 1429, "test": 1099}
    assert summary["selected"] == limit
    assert (summary["inputs"], summary["ok"]) == (20, 20)
    texts: dict[str, str] = {}
    for name in ("Train_Folder/Train_Val_text.csv", "Test_Folder/Test_text.csv"):
        with (shared_data / "qata_cov19" / name).open() as stream:
            texts |= {row["Image"]: row["Description"] for row in csv.DictReader(stream)}
    for image in tables["images"]:
        assert image["report"] == texts[f"mask_{Path(image['path']).stem}.png"]
        assert image["labels"] == ["pulmonary infection"]  # no mask of QaTa is empty
        assert (image["modality"], image["width"], image["height"]) == ("radiograph", 224, 224)
    assert Counter(region["label"] for region in tables["annotations"]) == {"pulmonary infection": 20}
    records, rejected = sorted_out(Lvit(shared_data / "qata_cov19", {}))
    assert (len(records), rejected) == (8244, [])
    # Counted with ls and grep: 122 names with vp-ll, 2,951 of covid_*, which name no patient.
    assert Counter(record.view for record in records) == {"lateral": 122, "frontal": 8122}
    assert Counter(record.patient is None for record in records) == {True: 2951, False: 5293}
    subjects = {split: {r.patient for r in records if r.split == split and r.patient} for split in limit}
    assert {split: len(names) for split, names in subjects.items()} == {"train": 809, "validation": 847, "test": 227}


def test_lvit_with_rows_and_files_that_do_not_match(tmp_path: Path) -> None:
    train = tmp_path / "Train_Folder"
    for seed, name in enumerate(("sick", "well", "unmasked", "untold")):
        save(train / "img" / f"{name}.png", grey(seed))
    save(train / "labelcol" / "mask_sick.png", np.eye(20, 30) > 0)
    save(train / "labelcol" / "well.png", np.zeros((20, 30), np.uint8))
    save(train / "labelcol" / "mask_untold.png", np.eye(20, 30) > 0)
    lines = [
        "Image;text",
        "mask_sick.png;One, two.",
        "well.png;Nothing.",
        "gone.png;?",
        "sick.png;Again.",
        "unmasked.png;!",
    ]
    (train / "t.csv").write_text("\n".join(lines))
    source = Lvit(tmp_path, {"modality": "ct", "view": None, "label": "infection"})
    records, rejected = sorted_out(source)
    assert {(Path(r.name).stem, r.report) for r in records} == {
        ("sick", "One, two."),
        ("well", "Nothing."),
        ("untold", None),
    }
    assert set(rejected) == {
        ("Train_Folder/t.csv:4", "missing_file"),
        ("Train_Folder/t.csv:5", "repeated_text"),
        ("Train_Folder/t.csv:6", "mask_missing_file"),
    }
    options = {"modality": "ct", "view": None, "label": "infection"}
    _, tables = ingest(tmp_path / "work", "lvit", tmp_path, options=options)
    labels = {Path(image["path"]).stem: image["labels"] for image in tables["images"]}
    assert labels == {"sick": ["infection"], "well": [], "untold": ["infection"]}
    (train / "t.csv").unlink()
    with pytest.raises(UserError, match=r"no \.csv"):
        list(source.records())
    with pytest.raises(UserError, match="no images in Train_Folder/img"):
        Lvit(tmp_path / "work", {})


def test_covid_chestxray(tmp_path: Path, shared_data: Path) -> None:
    root = shared_data / "covid_chestxray"
    summary, tables = ingest(tmp_path, "covid_chestxray", root)
    # 474 rows name 469 files; two of those show the same pixels; patients 339 and 340 repeat the files of 285 and 287.
    assert (summary["inputs"], summary["ok"]) == (474, 468)
    assert summary["reasons"] == {"duplicates": {"same_file": 5, "same_pixels": 1}}
    assert summary["patients_joined"] == 2
    images = tables["images"]
    assert Counter(image["modality"] for image in images)["ct"] == 53
    assert {image["view"] for image in images if image["modality"] == "ct"} == {None}
    assert {image["mask_path"] for image in images} == {None}  # lungs are no finding
    names = Counter(region["label"] for region in tables["annotations"])
    assert names == {"left lung": 67, "right lung": 67, "lungs": 136}
    with (root / "metadata.csv").open() as stream:
        findings = {f"images/{row['filename']}": row["finding"] for row in csv.DictReader(stream)}
    for image in images:
        finding = findings[image["path"]]
        expected = {"todo": None, "No Finding": [], "COVID-19, ARDS": ["COVID-19", "ARDS"]}.get(finding, [finding])
        assert image["labels"] == expected
    assert Counter(findings.values())["No Finding"] == 20


HEADER = "patientid,finding,view,modality,folder,filename,clinical_notes\n"


def test_covid_chestxray_with_the_faults_of_the_full_collection(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("a.png", "b.png", "c.png"):
        save(root / "images" / name, grey(ord(name[0])))
    (root / "metadata.csv").write_text(
        HEADER
        + "1,Pneumonia/Viral/COVID-19,AP Supine,X-ray,images,a.png,Note\n"
        + "2,Unknown,?,X-ray,images,b.png,\n"
        + "3,No Finding,Axial,CT,images,c.png,\n"
        + "4,Pneumonia,PA,X-ray,images,gone.png,\n"
        + "5,Pneumonia,Sideways,X-ray,images,a.png,\n"
        + "6,Pneumonia,PA,PET,images,a.png,\n"
    )
    pictures = [(1, "a.png", 60, 40), (2, "b.png", 30, 21), (3, "c.png", 30, 20), (4, "unlisted.png", 30, 20)]
    boxes = [(1, [10, 4, 20, 30], 1), (1, None, 2), (2, [1, 1, 4, 4], 1), (3, [0, 0, None, 4], 2), (4, [0, 0, 1, 1], 2)]
    coco = {
        "images": [{"id": i, "file_name": name, "width": w, "height": h} for i, name, w, h in pictures],
        "categories": [{"id": 1, "name": "Right Lung"}, {"id": 2, "name": "Left Lung"}],
        "annotations": [{"id": n, "image_id": i, "bbox": b, "category_id": c} for n, (i, b, c) in enumerate(boxes)],
    }
    (root / BOXES).parent.mkdir()
    (root / BOXES).write_text(json.dumps(coco))
    summary, tables = ingest(tmp_path, "covid_chestxray", root)
    assert summary["reasons"]["rejected"] == {
        "null_box": 2,
        "annotation_without_row": 1,
        "box_size_differs": 1,
        "missing_file": 1,
        "unknown_view": 1,
        "unknown_modality": 1,
    }
    first, third = sorted(tables["images"], key=lambda image: image["path"])
    assert (first["labels"], first["view"], first["report"]) == (["COVID-19"], "frontal", "Note")
    assert (third["labels"], third["view"], third["modality"]) == ([], None, "ct")
    (region,) = tables["annotations"]  # drawn in 60 x 40 pixels, the picture has 30 x 20
    assert [region[edge] for edge in ("label", "x0", "y0", "x1", "y1")] == ["right lung", 5, 2, 15, 17]
    (root / BOXES).write_text("{}")
    with pytest.raises(UserError, match="is not COCO's JSON"):
        list(CovidChestXray(root, {}).records())
    with pytest.raises(UserError, match=r"options\.view: unknown key"):
        CovidChestXray(root, {"view": "PA"})


def test_vqa_rad(tmp_path: Path, shared_data: Path) -> None:
    summary, tables = ingest(tmp_path, "vqa_rad", shared_data / "vqa_rad")
    # 2,248 questions about 314 of 315 pictures; 203 have test questions, and of those only one has no other.
    assert (summary["inputs"], summary["ok"], summary["duplicates"]) == (2249, 314, 2248 - 314)
    assert summary["reasons"]["rejected"] == {"unlisted_file": 1}
    assert Counter(question["split"] for question in tables["questions"]) == {"train": 1797, "test": 451}
    assert Counter(question["answer_type"] for question in tables["questions"]) == {"closed": 1299, "open": 949}
    items = json.loads((shared_data / "vqa_rad" / LISTING).read_text())
    assert {q["question_id"]: q["answer"] for q in tables["questions"]} == {
        str(i["qid"]): str(i["answer"]) for i in items
    }
    test, train = (
        {item["image_name"] for item in items if item["phrase_type"].startswith("test_") == wanted}
        for wanted in (True, False)
    )
    images = tables["images"]
    assert {Path(image["path"]).name for image in images if image["split"] == "test"} == test
    assert {Path(image["path"]).name for image in images if image["split_conflict"]} == test & train
    assert {image["labels"] for image in images} == {None}


def test_vqa_rad_with_bad_rows(tmp_path: Path) -> None:
    save(tmp_path / FOLDER / "a.png", grey(1))
    good = {
        "qid": 1,
        "phrase_type": "freeform",
        "image_name": "a.png",
        "question": "?",
        "answer": 0,
        "answer_type": "OPEN ",
    }
    items = [good, {**good, "qid": 2, "answer_type": "MAYBE"}, {**good, "answer": ""}, "text", {**good, "qid": 3}]
    (tmp_path / LISTING).write_text(json.dumps(items))
    records, rejected = sorted_out(VqaRad(tmp_path, {}))
    assert [record.questions[0].answer for record in records] == ["0", "0"]
    assert rejected == [(f"{LISTING}:1", "bad_questions"), (f"{LISTING}:2", "bad_row"), (f"{LISTING}:3", "bad_row")]
    (tmp_path / LISTING).write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        list(VqaRad(tmp_path, {}).records())


def test_kvasir(tmp_path: Path, shared_data: Path) -> None:
    options = {"modality": "endoscopy", "label": "polyp"}
    summary, tables = ingest(tmp_path, "image_mask_folders", shared_data / "kvasir_seg", options=options, limit=9)
    assert summary["available"] == {"train": 800, "validation": 100, "test": 100}
    assert (summary["inputs"], summary["ok"]) == (9, 9)
    for image, region in zip(tables["images"], tables["annotations"], strict=True):
        path = Path(image["path"])
        assert image["mask_path"] == region["mask_path"] == f"{path.parts[0]}/masks/{path.stem}.png"
        assert (image["split"], image["labels"], region["label"]) == (path.parts[0], ["polyp"], "polyp")
