"""Rejected rows and error lines name the column, the place and the fault, and repeat no value."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines.errors import UserError
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.details import kind_of, without_values
from pipelines.ingest.sources.table import COLUMNS
from pipelines.ingest.stage import run
from pipelines.records import REJECTED, RejectedRow

NAME = "SURNAME-A"


def save(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(file)


def ingest(tmp_path: Path, adapter: str = "table", **options: Any) -> list[RejectedRow]:
    source = SourceConfig(adapter=adapter, root=str(tmp_path / "root"), patient_ids="public", options=options)
    config = IngestConfig(sources={"here": source}, max_pixels=1_000_000, max_failed_fraction=0.0)
    run("here", config, tmp_path / "out", tmp_path)
    return REJECTED.read(tmp_path / "out" / "rejected.parquet")


def write_rows(root: Path, rows: list[dict[str, Any]]) -> None:
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def shapes(column: str) -> list[dict[str, Any]]:
    """Rows whose value of one column is a name, in the forms that some adapter refuses or takes."""
    inner = {"objects": "bbox", "questions": "answer_type"}.get(column, "name")
    values: list[Any] = [NAME, {NAME: NAME}, {inner: NAME}, f"[{NAME}"]
    if column != "questions":  # where a bad entry costs itself alone
        values += [[NAME], [{inner: NAME}], [{inner: [NAME]}]]
    values += [{"bbox": [[1, 2, 3, 4]], "label": [NAME], NAME: [NAME]}] if column == "objects" else []
    return [{"file_name": "0.png", column: value} for value in values]


@pytest.mark.parametrize("column", COLUMNS)
def test_no_column_of_a_table_is_quoted(tmp_path: Path, column: str) -> None:
    root = tmp_path / "root"
    save(root / "0.png")
    rows = shapes(column)
    write_rows(root, [{"file_name": "0.png"}, *rows])
    rejected = ingest(tmp_path)
    # A text is a good report, label and patient; everything else is refused.
    assert len(rejected) >= len(rows) - 3
    for row in rejected:
        assert NAME not in row.detail + row.reason, row
        assert row.detail
        assert row.row.startswith("metadata.jsonl:")
    named = [row for row in rejected if column in row.detail or "file" in row.detail or "root" in row.detail]
    assert len(named) == len(rejected), [row.detail for row in rejected]


def test_names_of_files_folders_and_members_stay_in_the_column_path(tmp_path: Path) -> None:
    root = tmp_path / "root"
    save(root / "0.png")
    (root / NAME).mkdir()
    (root / NAME / "cut.png").write_bytes((root / "0.png").read_bytes()[:60])
    (root / NAME / "empty.png").write_bytes(b"")
    (root / NAME / "text.png").write_text(f"'{NAME}' is no picture")
    dicom = b"\0" * 128 + b"DICM\x02\0\0\0UL\x04\0" + f"DICM {NAME}".encode()
    (root / NAME / "header.dcm").write_bytes(dicom)
    with zipfile.ZipFile(root / f"{NAME}.zip", "w") as archive:
        archive.writestr(f"{NAME}/a.png", (root / "0.png").read_bytes())
    packed = bytearray((root / f"{NAME}.zip").read_bytes())
    packed[packed.index(b"IDAT")] ^= 1  # another checksum than the archive's
    (root / f"{NAME}.zip").write_bytes(packed)
    (root / f"{NAME}.tar").write_bytes(f"{NAME} is no archive".encode() * 100)
    files = [
        *(f"{NAME}/{name}" for name in ("none.png", "cut.png", "empty.png", "text.png", "header.dcm")),
        *(f"{NAME}.zip/{NAME}/{name}" for name in ("a.png", "none.png")),
        *(f"{NAME}.tar/a.png", f"../{NAME}.png", f"/{NAME}/a.png"),
    ]
    write_rows(root, [{"file_name": "0.png"}, *({"file_name": name} for name in files)])
    rejected = ingest(tmp_path)
    # The header is read when slices are counted, before any image.
    assert sorted(str(row.path) for row in rejected) == sorted(files)
    assert {row.detail for row in rejected if NAME in row.detail} == set()
    masks = [{"file_name": "0.png", "mask": name} for name in files]
    write_rows(root, [{"file_name": "0.png"}, *masks])
    rejected = ingest(tmp_path)
    assert len(rejected) == len(files)
    assert {row.detail for row in rejected if NAME in row.detail + row.reason} == set()


def test_the_line_on_the_screen_names_no_file_of_a_folder(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    save(tmp_path / "root" / "images" / f"{NAME}.png")
    with pytest.raises(UserError, match="no image left of 1 rows") as caught:
        ingest(tmp_path, "image_mask_folders", modality="other", splits={".": None})
    assert "the first rejected: a file, mask_missing_file" in str(caught.value)
    assert NAME not in str(caught.value)


def test_what_a_detail_keeps_and_what_it_loses() -> None:
    kept = "20 x 10, the image has 5 pixels; the patient's and readers' values [1, 2] of 3"
    assert without_values(kept) == kept
    assert without_values(f"'{NAME}' of \"B'C\" and b'D' was cut: 'E", None) == "... of ... and ... was cut: ..."
    assert without_values("a/b.zip: a/b.zip/c.png and b.zip, not xb.zip", "a/b.zip/c.png") == (
        "the file: the file and the file, not xb.zip"
    )
    assert [kind_of(value) for value in (None, True, "x", 1, 1.5, [], {}, b"")] == [
        *("missing", "true or false", "a text", "a number", "a number", "a list", "an object"),
        "another kind of value",
    ]


@given(st.text(min_size=1), st.sampled_from("'\""))
def test_nothing_in_quotation_marks_stays(secret: str, mark: str) -> None:
    detail = without_values(f"header {mark}@{secret.replace(mark, '')}@{mark}")
    assert detail == "header ..."
