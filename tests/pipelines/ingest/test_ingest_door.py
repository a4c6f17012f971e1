"""Rows that no table can hold are rejected where they enter, and the others stay."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run
from pipelines.ingest.tables import Listings
from pipelines.records import REJECTED


def picture(file: Path, number: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 255, (16, 16), np.uint8)).save(file, "PNG")


def ingest(folder: Path, source: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str | None, str]]]:
    config = parse(
        IngestConfig,
        {"sources": {"here": {"root": str(folder / "raw"), **source}}, "max_pixels": 10**8, "max_failed_fraction": 0.1},
        "ingest",
    )
    summary = run("here", config, folder / "out", folder / "summaries")
    return summary, [(row.path, row.reason) for row in REJECTED.read(folder / "out" / "rejected.parquet")]


BIG = "9" * 400
HUGE = "9" * 5000


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ('"text": "half \\ud800"', "bad_text"),
        ('"text": "a \\u0000 b"', "bad_text"),
        ('"labels": ["\\udfff"]', "bad_text"),
        ('"patient_id": "\\ud800"', "bad_text"),
        ('"mask": "\\ud800.png"', "bad_text"),
        ('"objects": [{"bbox": [1, 1, 5, 5], "label": "\\ud800"}]', "bad_text"),
        ('"objects": [{"bbox": [1, 1, 5, 5], "phrase": "\\ud800"}]', "bad_text"),
        ('"objects": [{"bbox": [1, 1, 5, 5], "phrase": ["a", "b"]}]', "bad_value"),
        ('"objects": [{"bbox": [1, 1, 5, 5], "look_alike": "yes"}]', "bad_objects"),
        ('"objects": [{"bbox": [1, 1, 5, 5], "look_alike": 1}]', "bad_objects"),
        ('"attributes": {"age": "\\ud800"}', "bad_text"),
        ('"attributes": {"\\ud800": "61"}', "bad_text"),
        ('"attributes": {"age": [61]}', "bad_value"),
        ('"attributes": {"smoker": true}', "bad_value"),
        ('"attributes": {"age": 1e999}', "bad_value"),
        ('"attributes": {" ": "61"}', "bad_attributes"),
        ('"attributes": {"age": "61", "age ": "62"}', "bad_attributes"),
        ('"attributes": ["age"]', "bad_attributes"),
        ('"attributes": 61', "bad_attributes"),
        ('"attributes": "age 61"', "bad_attributes"),
        ('"objects": [{"bbox": [1e999, 1, 5, 5]}]', "bad_box"),
        (f'"objects": [{{"bbox": [{BIG}, 1, 5, 5]}}]', "bad_row"),
        (f'"objects": [{{"bbox": [1, 1, 5, 5], "mask_value": {BIG}}}]', "bad_value"),
        (f'"frame": {BIG}', "bad_value"),
        (f'"frame": {HUGE}', "bad_row"),
        (f'"frame": "{HUGE}"', "bad_value"),
        ('"frame": 1e999', "bad_value"),
        ('"objects": ' + "[" * 100_000, "bad_row"),
        ('"objects": "' + "[" * 100_000 + '"', "bad_objects"),
        ('"questions": "' + HUGE + '"', "bad_questions"),
    ],
)
def test_a_row_that_no_table_holds_is_rejected(tmp_path: Path, values: str, reason: str) -> None:
    for number in range(2):
        picture(tmp_path / "raw" / f"{number}.png", number)
    lines = '{"file_name": "0.png"}\n{"file_name": "1.png", ' + values + "}\n"
    (tmp_path / "raw" / "metadata.jsonl").write_text(lines)
    summary, rejected = ingest(tmp_path, {"adapter": "table"})
    assert (summary["ok"], summary["rejected"]) == (1, 1)
    assert [found for _, found in rejected] == [reason]


def test_cells_of_a_csv_file_are_at_the_door_too(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "raw" / f"{number}.png", number)
    lines = f'file_name,text,frame\n0.png,fine,\n1.png,"a\0b",\n2.png,fine,{HUGE}\n'
    (tmp_path / "raw" / "metadata.csv").write_text(lines)
    summary, rejected = ingest(tmp_path, {"adapter": "table"})
    assert (summary["ok"], rejected) == (1, [("1.png", "bad_text"), ("2.png", "bad_value")])


def test_names_of_undecodable_bytes_are_rejected_and_written_with_an_escape(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        for number, name in enumerate(("good.png", os.fsdecode(b"b\xffd.png"), os.fsdecode(b"lone\xff.png"))):
            if (kind, number) != ("masks", 2):
                picture(tmp_path / "raw" / "train" / kind / name, number)
    Image.fromarray(np.eye(16, dtype=np.uint8) * 255).save(tmp_path / "raw" / "train" / "masks" / "good.png")
    source = {"adapter": "image_mask_folders", "options": {"modality": "other", "splits": {"train": "train"}}}
    summary, rejected = ingest(tmp_path, source)
    assert summary["ok"] == 1
    assert rejected == [
        ("train/images/b\\udcffd.png", "bad_text"),
        ("train/images/lone\\udcff.png", "mask_missing_file"),
    ]


def test_a_damaged_parquet_table_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "metadata.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"file_name": ["a.png"] * 10}), file)
    good = file.read_bytes()
    for place in range(len(good) - 60, len(good) - 8, 4):
        file.write_bytes(good[:place] + b"\xff\xff\xff\xff" + good[place + 4 :])
        with contextlib.suppress(UserError):
            assert len(list(Listings(tmp_path).rows(file.name))) == 10
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    file.write_bytes(good[:footer] + b"\xff" * 32 + good[footer + 32 :])
    with pytest.raises(UserError, match=r"metadata.parquet cannot be read as its suffix says"):
        list(Listings(tmp_path).rows(file.name))


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "[1", '[{"image_name": []}, 3, null]', "3"])
def test_listings_in_json_that_are_none_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "VQA_RAD Dataset Public.json").write_text(text)
    (tmp_path / "raw" / "anns").mkdir()
    for name in ("train", "val", "test"):
        (tmp_path / "raw" / "anns" / f"{name}.json").write_text(text)
    for source in (
        {"adapter": "vqa_rad"},
        {"adapter": "prompt_json", "options": {"modality": "other", "label": "polyp"}},
    ):
        with pytest.raises(UserError) as caught:
            ingest(tmp_path, source)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [{}, [], 3, [[]], 10**400, {"a": {}}])
@pytest.mark.parametrize("key", ["img_name", "mask_name", "segment_id", "bbox", "prompts"])
def test_an_entry_of_a_list_that_is_no_entry_costs_itself_alone(tmp_path: Path, key: str, value: Any) -> None:
    raw = tmp_path / "raw"
    entry = {"img_name": "a.png", "mask_name": "a.png", "segment_id": "", "bbox": None, "prompts": {"p6": "one polyp"}}
    picture(raw / "images" / "a.png")
    (raw / "masks").mkdir()
    Image.fromarray(np.eye(16, dtype=np.uint8) * 255).save(raw / "masks" / "a.png")
    (raw / "anns").mkdir()
    for name, entries in (("train", [entry, {**entry, key: value}]), ("val", []), ("test", [])):
        (raw / "anns" / f"{name}.json").write_text(json.dumps(entries))
    summary, _ = ingest(tmp_path, {"adapter": "prompt_json", "options": {"modality": "other", "label": "polyp"}})
    assert summary["ok"] == 1
