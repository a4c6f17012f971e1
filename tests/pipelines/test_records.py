"""The data contract: what goes in comes out, and what breaks the contract is refused by name."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet
import pytest

from pipelines.errors import UserError
from pipelines.records import (
    CAPTIONS,
    GIVEN_REGIONS,
    IMAGES,
    NEAR_DUPLICATES,
    PROPOSALS,
    QUESTIONS,
    REGIONS,
    REJECTED,
    SPLIT_IMAGES,
    Table,
    rows_of,
)

ID, OTHER, SHA = "0123456789abcdef", "fedcba9876543210", "0" * 64
WHERE = {"image_id": ID, "source": "s"}
IMAGE = {
    **WHERE,
    "path": "a.zip",
    "member": "x/a.png",
    "frame": 3,
    "sha256": SHA,
    "pixel_sha256": SHA,
    "perceptual_hash": SHA,
    "width": 8,
    "height": 9,
    "modality": "ct",
    "view": "frontal",
    "patient": "p",
    "split_conflict": False,
    "report": "Line one,\n“two” <b>",
    "labels": ["mass", "Ödem"],
    "mask_path": "m.png",
    "mask_sha256": SHA,
    "rows": 2,
}
BOX_AND_MASK = {
    "proposer": "grounding_dino",
    "segmenter": "medsam",
    "label": "mass",
    "adjective": "oval",
    "x0": 0.0,
    "y0": 0.0,
    "x1": 4.0,
    "y1": 4.5,
    "mask": "0b0",
    "area": 18,
    "area_fraction": 0.25,
    "score": 1.0,
    "mask_quality": 0.5,
    "mask_stability": 0.75,
    "box_agreement": 0.25,
}
# One row of each table with every value there.
FULL: dict[str, tuple[Table, dict[str, Any]]] = {
    "images": (IMAGES, {**IMAGE, "split": "test", "thumbnail": bytes(range(256)) * 4}),
    "given regions": (
        GIVEN_REGIONS,
        {
            **WHERE,
            "n": 0,
            "label": "mass",
            "adjective": "oval",
            "x0": 0.0,
            "y0": 0.5,
            "x1": 2.0,
            "y1": 3.25,
            "mask_path": "m.png",
            "mask_value": 7,
            "mask_sha256": SHA,
        },
    ),
    "questions": (
        QUESTIONS,
        {**WHERE, "question_id": "1", "question": "q?", "answer": "2", "answer_type": "open", "split": "train"},
    ),
    "rejected": (REJECTED, {"source": "s", "row": "m.csv:2", "path": "a.png", "reason": "corrupt", "detail": "why"}),
    "split images": (SPLIT_IMAGES, {**IMAGE, "given_split": "test", "group": ID, "split": "test", "leak": True}),
    "near duplicates": (
        NEAR_DUPLICATES,
        {"image_id": ID, "other_id": OTHER, "source": "s", "other_source": "t", "distance": 48, "correlation": 0.93},
    ),
    "proposals": (
        PROPOSALS,
        {
            **WHERE,
            "n": 3,
            "sees_annotations": False,
            "own_phrases": True,
            "truth_iou": 0.75,
            **BOX_AND_MASK,
            "reason": "beyond_max_proposals",
        },
    ),
    "regions": (
        REGIONS,
        {
            "region_id": f"{ID}-10",
            **WHERE,
            "n": 10,
            "role": "truth",
            **BOX_AND_MASK,
            "agreement": 0.125,
            "probability": 0.5,
            "certified": True,
            "round": 1,
            "review": "rejected",
            "status": "rejected",
            "reason": "too_small",
        },
    ),
    "captions": (
        CAPTIONS,
        {
            "item_id": f"{ID}-0",
            **WHERE,
            "kind": "region",
            "status": "ok",
            "reason": "none",
            "summary": "s",
            "report": "r",
            "region_caption": "a | b | left upper",
            "adjective": "a",
            "term": "b",
            "position": "left upper",
            "size": "small",
            "negatives": ["1", "2", "3", "4", "5"],
            "basis": "annotation",
            "oracle": True,
            "contradiction": "contradicts_side",
            "warnings": ["summary_too_short"],
            "raw_answer": '{"adjective": 1}',
            "attempts": 2,
            "captioner": "vllm",
            "prompt_sha256": SHA,
        },
    ),
}
every_table = pytest.mark.parametrize(("table", "row"), FULL.values(), ids=FULL.keys())


def without_nullable(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not table.contract.columns[name].nullable}


@every_table
def test_rows_come_back_as_they_went_in(tmp_path: Path, table: Table, row: dict[str, Any]) -> None:
    path = tmp_path / "folder" / "table.parquet"
    assert list(row.keys() ^ table.contract.columns.keys()) == []
    table.write(table.frame([row]), path)
    assert rows_of(table.read(path)) == [{name: row[name] for name in table.contract.columns}]


@every_table
def test_nulls_come_back_as_none(tmp_path: Path, table: Table, row: dict[str, Any]) -> None:
    path = tmp_path / "table.parquet"
    short = without_nullable(table, row)
    table.write(table.frame([short]), path)
    assert rows_of(table.read(path)) == [{name: short.get(name) for name in table.contract.columns}]


@every_table
def test_a_table_without_rows_keeps_its_columns(tmp_path: Path, table: Table, row: dict[str, Any]) -> None:
    path = tmp_path / "table.parquet"
    table.write(table.frame([]), path)
    found = table.read(path)
    assert len(found) == 0
    assert list(found.columns) == list(table.contract.columns)
    schema = pyarrow.parquet.read_schema(path)
    assert schema == table.arrow_schema
    assert schema.metadata is None  # it would name the version of pandas, which decides nothing


@every_table
def test_a_required_value_that_is_missing_is_named(table: Table, row: dict[str, Any]) -> None:
    for name in without_nullable(table, row):
        with pytest.raises(ValueError, match=f"table {table.name} breaks its contract: .*'column': '{name}'"):
            table.frame([{key: value for key, value in row.items() if key != name}])


@every_table
def test_equal_rows_give_equal_bytes(tmp_path: Path, table: Table, row: dict[str, Any]) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    table.write(table.frame([row]), first)
    table.write(table.frame([dict(reversed(row.items()))]), second)
    table.write(table.read(first).copy(), third)
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()


def test_no_list_an_empty_list_and_null_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    row = FULL["images"][1]
    labels: list[list[str] | None] = [None, [], ["a"], ["a", "b"]]
    rows = [{**row, "image_id": f"{n:016x}", "labels": value} for n, value in enumerate(labels)]
    IMAGES.write(IMAGES.frame(rows), path)
    assert [found["labels"] for found in rows_of(IMAGES.read(path))] == labels


def test_whole_numbers_stay_whole_beside_nulls(tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    row = FULL["images"][1]
    rows = [{**row, "frame": None}, {**row, "image_id": OTHER, "frame": 2**53 + 1}]
    IMAGES.write(IMAGES.frame(rows), path)
    frames = [found["frame"] for found in rows_of(IMAGES.read(path))]
    assert frames == [None, 2**53 + 1]  # a float64 would give 2**53
    assert isinstance(frames[1], int)


@every_table
def test_an_unknown_column_is_refused(tmp_path: Path, table: Table, row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"table {table.name} has no column \['labell'\]"):
        table.frame([{**row, "labell": 1}])
    frame = table.frame([row])
    frame["labell"] = "x"
    with pytest.raises(ValueError, match="labell"):
        table.write(frame, tmp_path / "table.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("images", {"image_id": ID.upper()}),
        ("images", {"image_id": ID[:-1]}),
        ("images", {"image_id": f"{ID}\n"}),
        ("images", {"sha256": "0" * 63}),
        ("images", {"width": 0}),
        ("images", {"modality": "xray"}),
        ("images", {"split": "val"}),
        ("images", {"frame": -1}),
        ("images", {"rows": 0}),
        ("regions", {"region_id": ID}),
        ("regions", {"region_id": f"{ID}-"}),
        ("regions", {"role": "oracle"}),
        ("regions", {"x0": -0.5}),
        ("regions", {"score": 1.01}),
        ("regions", {"area_fraction": float("nan")}),
        ("regions", {"status": "ok"}),
        ("captions", {"status": "accepted"}),
        ("captions", {"basis": "guess"}),
        ("captions", {"kind": "patient"}),
        ("captions", {"oracle": None}),
        ("questions", {"answer_type": "CLOSED "}),
        ("rejected", {"reason": "Not a code"}),
        ("near duplicates", {"distance": 257}),
        ("near duplicates", {"correlation": 1.5}),
    ],
)
def test_a_value_that_breaks_the_contract_is_named(name: str, changes: dict[str, Any]) -> None:
    table, row = FULL[name]
    (column,) = changes
    with pytest.raises(ValueError, match=f"table {name} breaks its contract: .*'{column}'"):
        table.frame([{**row, **changes}])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("images", {"path": "b.png"}),
        ("split images", {"path": "b.png"}),
        ("given regions", {"label": "other"}),
        ("questions", {"image_id": OTHER}),
        ("regions", {"n": 11}),
        ("regions", {"region_id": f"{ID}-11"}),
        ("captions", {"kind": "image"}),
    ],
)
def test_a_key_stands_once(name: str, changes: dict[str, Any]) -> None:
    table, row = FULL[name]
    with pytest.raises(ValueError, match=f"table {name} breaks its contract"):
        table.frame([row, {**row, **changes}])


def test_a_wrong_type_is_refused() -> None:
    frame = GIVEN_REGIONS.frame([FULL["given regions"][1]])
    frame["n"] = pd.Series([0.0])
    with pytest.raises(ValueError, match=r"table given regions breaks its contract: .*'n'"):
        GIVEN_REGIONS.check(frame)


def test_a_frame_that_breaks_the_contract_leaves_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "rejected.parquet"
    frame = REJECTED.frame([FULL["rejected"][1]])
    REJECTED.write(frame, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="reason"):
        REJECTED.write(frame.assign(reason=pd.Series(["Bad"], dtype=frame["reason"].dtype)), path)
    assert path.read_bytes() == before


def test_a_missing_table_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images.parquet not found: run `dvc repro` to make the table 'images'"):
        IMAGES.read(tmp_path / "images.parquet")
