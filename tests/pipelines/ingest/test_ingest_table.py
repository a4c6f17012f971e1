"""The `table` source: the file formats, HF ImageFolder's convention, volumes, and metadata that cannot be used."""

import json
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines.errors import UserError
from pipelines.ingest.record import SourceRecord, UnusableRow
from pipelines.ingest.sources.table import TableSource


def records(root: Path, **options: Any) -> list[SourceRecord]:
    items = list(TableSource(root, options).records())
    assert all(isinstance(item, SourceRecord) for item in items), items
    return [item for item in items if isinstance(item, SourceRecord)]


ROWS: list[dict[str, Any]] = [
    {"file_name": "a.png", "text": 'Says "so",\nin two lines', "labels": ["mass", "nodule"], "split": "dev"},
    {"file_name": "b.png", "text": None, "labels": [], "split": "test"},
    {"file_name": "c.png", "text": "Ä", "labels": None, "split": None},
]


def flat(labels: list[str] | None) -> str | None:
    return None if labels is None else "; ".join(labels) or "No Finding"


def write(folder: Path, kind: str) -> None:
    rows = pd.DataFrame(ROWS)
    if kind in ("csv", "tsv", "semicolons.csv"):
        rows["labels"] = [flat(row["labels"]) for row in ROWS]
        separator = {"csv": ",", "tsv": "\t", "semicolons.csv": ";"}[kind]
        encoding = "utf-8-sig" if kind == "semicolons.csv" else "utf-8"  # as spreadsheets write it
        rows.to_csv(folder / f"metadata.{kind}", index=False, sep=separator, encoding=encoding)
    elif kind == "jsonl":
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        rows.to_parquet(folder / "metadata.parquet", index=False)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "semicolons.csv"])
def test_every_format_says_the_same(tmp_path: Path, kind: str) -> None:
    write(tmp_path, kind)
    options = {"metadata": f"metadata.{kind}"} if kind == "semicolons.csv" else {}
    found = [(r.name, r.report, r.labels, r.split) for r in records(tmp_path, **options)]
    assert found == [
        ("a.png", 'Says "so",\nin two lines', ("mass", "nodule"), "validation"),
        ("b.png", None, (), "test"),
        ("c.png", "Ä", None, None),
    ]


def test_a_row_is_named_by_its_line(tmp_path: Path) -> None:
    write(tmp_path, "csv")
    # The first row has a line break in its text: it starts in line 2 and ends in line 3.
    assert [record.row for record in records(tmp_path)] == ["metadata.csv:2", "metadata.csv:4", "metadata.csv:5"]


def test_objects_and_questions_in_a_csv_are_json(tmp_path: Path) -> None:
    objects = json.dumps(
        {"bbox": [[1, 2, 3, 4]], "categories": ["mass"], "id": [7], "mask_value": [2], "mask": ["m.png"]}
    )
    asked = json.dumps([{"question_id": 1, "question": "q", "answer": "a", "answer_type": "open"}])
    pd.DataFrame([{"file_name": "a.png", "objects": objects, "questions": asked}]).to_csv(tmp_path / "metadata.csv")
    (record,) = records(tmp_path)
    (region,) = record.regions
    assert (region.box, region.label, region.mask, region.mask_value) == ((1, 2, 4, 6), "mass", "m.png", 2)
    assert record.questions[0].question_id == "1"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "struct", "map"])
def test_attributes_look_alikes_and_phrases(tmp_path: Path, kind: str) -> None:
    objects = {
        "bbox": [[1, 2, 3, 4], [5, 6, 1, 1], [7, 8, 1, 1]],
        "phrase": ["A mass, upper left.", None, None],
        "look_alike": [False, None, True],
    }
    known = {"age": 61.0, " sex ": " F ", "pain": None, "weight": "n/a"}
    if kind == "csv":
        row = {"file_name": "a.png", "attributes": json.dumps(known), "objects": json.dumps(objects)}
        pd.DataFrame([row, {"file_name": "b.png"}]).to_csv(tmp_path / "metadata.csv", index=False)
    elif kind == "jsonl":
        row = {"file_name": "a.png", "attributes": known, "objects": objects}
        (tmp_path / "metadata.jsonl").write_text(json.dumps(row) + '\n{"file_name": "b.png", "attributes": null}\n')
    else:
        texts = {"age": "61", " sex ": " F ", "pain": None, "weight": "n/a"}
        of_rows = [texts, None] if kind == "struct" else [list(texts.items()), []]
        names = pyarrow.struct([(name, pyarrow.string()) for name in texts])
        column = pyarrow.array(of_rows, names if kind == "struct" else pyarrow.map_(pyarrow.string(), pyarrow.string()))
        columns = {"file_name": ["a.png", "b.png"], "attributes": column, "objects": [objects, None]}
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "metadata.parquet")
    first, second = records(tmp_path)
    assert (first.attributes, second.attributes) == ({"age": "61", "sex": "F"}, {})
    assert [(region.phrase, region.look_alike) for region in first.regions] == [
        ("A mass, upper left.", False),
        (None, False),
        (None, True),
    ]


def test_a_key_that_stands_twice_in_a_cell_rejects_its_row(tmp_path: Path) -> None:
    cells = ['{""age"": 1, ""age"": 2}', '{""bbox"": [[1, 2, 3, 4]], ""bbox"": []}']
    lines = ["file_name,attributes,objects", f'a.png,"{cells[0]}",', f'b.png,,"{cells[1]}"', "c.png,,"]
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    items = list(TableSource(tmp_path, {}).records())
    assert [item.reason for item in items if isinstance(item, UnusableRow)] == ["bad_row", "bad_row"]
    assert [item.name for item in items if isinstance(item, SourceRecord)] == ["c.png"]


def test_other_names_box_formats_folders_and_modalities(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    row = {"Path": "a.png", "Report": "r", "Age": 60, "objects": [{"bbox": [1, 2, 3, 4], "mask": "m/a.png"}]}
    (tmp_path / "train" / "list.jsonl").write_text(json.dumps(row) + "\n")
    options = {"metadata": "train/list.jsonl", "columns": {"file_name": "Path", "text": "Report"}, "modality": "ct"}
    source = TableSource(tmp_path, {**options, "box_format": "xyxy"})
    (record,) = source.records()
    assert isinstance(record, SourceRecord)
    assert (record.name, record.report, record.modality) == ("train/a.png", "r", "ct")
    assert (record.regions[0].box, record.regions[0].mask) == ((1, 2, 3, 4), "train/m/a.png")
    assert source.warnings == ["columns not used: Age"]


def test_a_root_that_is_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("metadata.csv", "file_name\nimages/a.png\n")
    assert [record.name for record in records(tmp_path / "all.zip")] == ["images/a.png"]


def test_slices_of_volumes_and_pages(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 5), np.int16), np.eye(4)), tmp_path / "v.nii.gz")
    pages = [Image.new("L", (3, 3), page) for page in range(4)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "single.tif")
    (tmp_path / "metadata.csv").write_text("file_name,frame\nv.nii.gz,\npages.tif,\nsingle.tif,\nv.nii.gz,4\na.png,\n")
    first = [(record.name, record.frame) for record in records(tmp_path)]
    assert first == [("v.nii.gz", 2), ("pages.tif", None), ("single.tif", None), ("v.nii.gz", 4), ("a.png", None)]
    middle = [(record.name, record.frame) for record in records(tmp_path, pages_are_frames=True)]
    assert middle == [("v.nii.gz", 2), ("pages.tif", 2), ("single.tif", None), ("v.nii.gz", 4), ("a.png", None)]
    everything = [(record.name, record.frame) for record in records(tmp_path, frames="all", pages_are_frames=True)]
    volume, stack = [("v.nii.gz", n) for n in range(5)], [("pages.tif", n) for n in range(4)]
    assert everything == [*volume, *stack, ("single.tif", None), ("v.nii.gz", 4), ("a.png", None)]


def test_a_volume_that_cannot_be_counted_is_a_rejected_row(tmp_path: Path) -> None:
    (tmp_path / "v.nii").write_bytes(b"no volume")
    (tmp_path / "metadata.csv").write_text("file_name\nv.nii\nnone.dcm\n")
    items = list(TableSource(tmp_path, {}).records())
    assert [(item.row, item.reason) for item in items if isinstance(item, UnusableRow)] == [
        ("metadata.csv:2", "unsupported_type"),
        ("metadata.csv:3", "missing_file"),
    ]


def test_metadata_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has none: name the file in options"):
        TableSource(tmp_path, {})
    (tmp_path / "metadata.csv").write_text("image,label\na.png,1\n")
    with pytest.raises(UserError, match=r"no column file_name, only image, label"):
        list(TableSource(tmp_path, {}).records())
    with pytest.raises(UserError, match=r"no column lable"):
        list(TableSource(tmp_path, {"columns": {"file_name": "image", "labels": "lable"}}).records())
    with pytest.raises(UserError, match=r"columns: report is none of file_name, text"):
        TableSource(tmp_path, {"columns": {"report": "text"}})
    with pytest.raises(UserError, match=r"modality 'xray': choose from radiograph"):
        TableSource(tmp_path, {"modality": "xray"})
    with pytest.raises(UserError, match=r"other\.csv cannot be read \(missing_file"):
        list(TableSource(tmp_path, {"metadata": "other.csv"}).records())
    (tmp_path / "metadata.csv").write_bytes("file_name\nä.png\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        list(TableSource(tmp_path, {}).records())
    (tmp_path / "metadata.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(UserError, match=r"has 2 of them \(metadata.csv, metadata.parquet\)"):
        TableSource(tmp_path, {})
    with pytest.raises(UserError, match="cannot be read as its suffix says"):
        list(TableSource(tmp_path, {"metadata": "metadata.parquet"}).records())


def test_columns_of_findings_and_words_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(
        "Path,Frontal/Lateral,No Finding,Edema,Side\na.png,F,,1.0,yes\nb.png,L,1.0,,no\nc.png,F,,-1.0,\nd.png,F,,ja,\n"
    )
    options = {
        "columns": {"file_name": "Path", "view": "Frontal/Lateral"},
        "values": {"view": {"F": "frontal"}, "Edema": {"ja": 1}},
        "label_columns": ["No Finding", "Edema"],
        "uncertain": "positive",
    }
    source = TableSource(tmp_path, options)
    found = [(r.name, r.view, r.labels) for r in source.records() if isinstance(r, SourceRecord)]
    assert found == [
        ("a.png", "frontal", ("Edema",)),
        ("b.png", "lateral", ()),
        ("c.png", "frontal", ("Edema",)),
        ("d.png", "frontal", ("Edema",)),
    ]
    assert source.warnings == ["columns not used: Side"]
    with pytest.raises(UserError, match="has no column Mass"):
        list(TableSource(tmp_path, options | {"label_columns": ["No Finding", "Edema", "Mass"]}).records())


def test_words_of_ones_own_in_any_case_and_those_that_occur_nowhere(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,labels\na.png,SANO\nb.png,Derrame|sano\nc.png,derrame\n")
    values = {"labels": {"sano": "No Finding", "derrame": "Effusion", "derame": "x"}}
    source = TableSource(tmp_path, {"values": values})
    found = list(source.records())
    assert [record.labels for record in found if isinstance(record, SourceRecord)] == [(), ("Effusion",)]
    assert source.warnings == ["words of options.values that no cell holds: derame (labels)"]


def test_options_of_columns_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name\na.png\n")
    for options, words in (
        ({"label_columns": ["a"], "columns": {"labels": "b"}}, "from both"),
        ({"values": {"lables": {"a": "b"}}}, "values: lables is none of"),
        ({"delimiter": ", "}, "delimiter: one character"),
    ):
        with pytest.raises(UserError, match=words):
            TableSource(tmp_path, options)


def test_columns_of_other_names_are_told(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,caption,Patient ID,label,No Finding,text_\na.png,x,1,y,1,\n")
    source = TableSource(tmp_path, {})
    (record,) = source.records()
    assert isinstance(record, SourceRecord)
    assert (record.report, record.patient, record.labels) == (None, None, None)
    assert source.warnings == [
        "columns not used: caption (did you mean text?), Patient ID (did you mean patient_id?), "
        "label (did you mean labels?), No Finding (did you mean label_columns?), text_ (did you mean text?)"
    ]


def test_a_first_row_that_is_no_header_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("scan17,SURNAME-A\nscan18,SURNAME-B\n")
    with pytest.raises(UserError, match="has no column file_name, only 2 others") as caught:
        list(TableSource(tmp_path, {}).records())
    assert "SURNAME" not in str(caught.value)


def test_a_bad_question_costs_itself_alone(tmp_path: Path) -> None:
    good = {"question_id": 1, "question": "Any?", "answer": "none", "answer_type": "open"}
    asked = [good, good | {"question_id": 2, "answer_type": "maybe"}, good, {"question": "Which?"}, "text"]
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "questions": asked}) + "\n")
    (record,) = records(tmp_path)
    assert [question.answer for question in record.questions] == ["none"]
    assert record.left_out == ("bad_questions", "repeated_question_id", "bad_questions", "bad_questions")


def test_a_fault_is_told_in_the_users_words(tmp_path: Path) -> None:
    rows = [{"Image": "a.png", "Bericht": "\ud800"}, {"Image": "a.png", "Teil": "SURNAME-A"}, {"Image": [1]}]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"columns": {"file_name": "Image", "text": "Bericht", "split": "Teil"}}
    items = list(TableSource(tmp_path, options).records())
    assert [(item.reason, item.detail.split(" ")[0]) for item in items if isinstance(item, UnusableRow)] == [
        ("bad_text", "Bericht:"),
        ("unknown_split", "Teil"),
        ("missing_file_name", "Image"),
    ]


def test_a_csv_line_with_too_many_values(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,one, two\nb.png,fine\n")
    broken, fine = TableSource(tmp_path, {}).records()
    assert isinstance(broken, UnusableRow)
    assert (broken.row, broken.reason) == ("metadata.csv:2", "bad_row")
    assert isinstance(fine, SourceRecord)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["bbox", "label", "mask", "x"]), inner),
    max_leaves=6,
)
COLUMN = st.sampled_from(
    [
        *("text", "labels", "split", "patient_id", "modality", "view", "frame", "axis", "volume", "mask"),
        *("objects", "questions"),
    ]
)


@given(st.dictionaries(COLUMN, JSON))
def test_any_json_is_a_record_or_a_rejected_row(tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any]) -> None:
    root = tmp_path_factory.getbasetemp() / "any_json"
    root.mkdir(exist_ok=True)
    (root / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", **row}) + "\n")
    (item,) = TableSource(root, {}).records()
    assert isinstance(item, SourceRecord) or item.reason.startswith(("bad_", "unknown_", "unnamed_"))
