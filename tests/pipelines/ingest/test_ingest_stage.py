"""The stage on small data made here: every outcome with its reason code, merging, the choice, the same bytes twice."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import UserError
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.listed_rows import ListedRows
from pipelines.ingest.record import SourceRecord
from pipelines.ingest.selection import select
from pipelines.ingest.stage import run
from pipelines.masks import decode
from pipelines.records import ANNOTATIONS, IMAGES, QUESTIONS, REJECTED
from tests.fingerprints import write_fingerprint
from tests.rows import values_of


def picture(seed: int, size: tuple[int, int] = (30, 20)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8))


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_metadata(root: Path, rows: list[dict[str, Any]]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def config(root: Path, **settings: Any) -> IngestConfig:
    source = SourceConfig(adapter="table", root=str(root), patient_ids="public", **settings)
    return IngestConfig(sources={"here": source}, max_pixels=1_000_000, max_failed_fraction=0.0)


def ingest(tmp_path: Path, **settings: Any) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    summary = run("here", config(tmp_path / "root", **settings), tmp_path / "out", tmp_path)
    tables = {"images": IMAGES, "annotations": ANNOTATIONS, "questions": QUESTIONS, "rejected": REJECTED}
    return summary, {name: values_of(table, tmp_path / "out" / f"{name}.parquet") for name, table in tables.items()}


def test_lines_files_and_lost_parts_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "root"
    for number, name in enumerate(("a.png", "b.png", "extra/c.png", "extra/SURNAME.smith")):
        save(root / "x.png", picture(number))
        (root / name).parent.mkdir(exist_ok=True)
        (root / "x.png").rename(root / name)
    save(root / "m.png", Image.fromarray(np.eye(20, 30, dtype=np.uint8) * 255))
    with zipfile.ZipFile(root / "named.zip", "w") as archive:
        for number in (7, 8):
            save(tmp_path / "x.png", picture(number))
            archive.write(tmp_path / "x.png", f"{number}.png")
    (root / "other.zip").write_bytes((root / "named.zip").read_bytes())
    question = '"[{""question"": 1}]"'
    lines = [
        "file_name,mask,questions",
        "a.png,m.png,",
        "",
        f"named.zip/7.png,,{question}",
        "b.png,none.png,",
        "c.png,,",
    ]
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    summary, _ = ingest(tmp_path)
    assert (summary["inputs"], summary["ok"], summary["rejected"]) == (4, 2, 2)
    assert summary["lines"] == {
        "listings": 1,
        "rows": 4,
        "lines": 6,
        "header": 1,
        "blank": 1,
        "further_lines_of_rows": 0,
    }
    # Listed: the table, a.png, m.png, b.png and one member of named.zip.
    unlisted = {".png": 2, ".zip": 1, "other": 1}
    assert summary["files"] == {"listed": 5, "unlisted": 4, "unlisted_suffixes": unlisted}
    assert summary["left_out"] == {"bad_questions": 1}
    assert summary["warnings"] == [
        "no row has text: nothing can be learnt from reports of this source",
        "no row has a patient, and no header names one: images of one patient may get into different splits",
        "image files under the root that no row names, which are not used: 2",
    ]
    assert all(sentence in caplog.text for sentence in summary["warnings"])
    assert "SURNAME" not in json.dumps(summary)


def test_a_source_with_text_and_patients_warns_of_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    save(root / "a.png", picture(1))
    write_metadata(root, [{"file_name": "a.png", "text": "Clear.", "patient_id": 1}])
    summary, _ = ingest(tmp_path)
    assert summary["warnings"] == []
    assert summary["files"] == {"listed": 2, "unlisted": 0, "unlisted_suffixes": {}}


def test_a_row_becomes_an_image(tmp_path: Path) -> None:
    root = tmp_path / "root"
    save(root / "a.png", picture(1))
    save(root / "m.png", Image.fromarray(np.eye(20, 30, dtype=np.uint8) * 5))
    asked = {"question_id": "q1", "question": "Any?", "answer": 4, "answer_type": "OPEN "}
    objects = {
        "bbox": [[1, 2, 3, 4], None],
        "label": ["mass", None],
        "adjective": ["round", None],
        "mask": [None, "m.png"],
    }
    row = {"text": "A report.", "labels": ["mass"], "split": "val", "patient_id": 17, "modality": "ct", "view": "PA"}
    write_metadata(root, [{"file_name": "a.png", **row, "objects": objects, "questions": [asked]}])
    summary, tables = ingest(tmp_path)
    assert (summary["inputs"], summary["ok"], summary["available"]) == (1, 1, {"validation": 1})
    (image,) = tables["images"]
    data = (root / "a.png").read_bytes()
    expected = {
        "image_id": hashlib.sha256(data + b"\0\0").hexdigest()[:16],
        "source": "here",
        "path": "a.png",
        "member": None,
        "frame": None,
        "sha256": hashlib.sha256(data).hexdigest(),
        "width": 30,
        "height": 20,
        "modality": "ct",
        "view": "frontal",
        "patient": hashlib.sha256(b"here\x0017").hexdigest()[:16],
        "split": "validation",
        "split_conflict": False,
        "sides": None,
        "report": "A report.",
        "labels": ["mass"],
        "mask_path": None,
        "rows": 1,
    }
    assert {column: image[column] for column in expected} == expected
    box, masked = tables["annotations"]
    assert [box[edge] for edge in ("n", "x0", "y0", "x1", "y1", "label", "adjective")] == [
        0,
        1,
        2,
        4,
        6,
        "mass",
        "round",
    ]
    assert (masked["n"], masked["x0"], masked["label"], masked["mask_path"]) == (1, None, None, "m.png")
    assert masked["mask_sha256"] == hashlib.sha256((root / "m.png").read_bytes()).hexdigest()
    (question,) = tables["questions"]
    assert (question["answer"], question["answer_type"], question["image_id"]) == ("4", "open", image["image_id"])


def bad_rows(root: Path) -> dict[str, dict[str, Any]]:
    """One row for every reason, all but one of them with a sound picture of its own."""
    rows: dict[str, dict[str, Any]] = {}

    def row(reason: str, **values: Any) -> None:
        name = f"{reason}.png"
        save(root / name, picture(100 + len(rows)))
        rows[reason] = {"file_name": name, **values}

    save(root / "m_size.png", Image.new("L", (29, 20), 255))
    save(root / "m_empty.png", Image.new("L", (30, 20), 0))
    (root / "m_text.png").write_text("not a mask")
    row("mask_missing_file", mask="none.png")
    row("mask_size_differs", objects=[{"mask": "m_size.png"}])
    row("mask_unsupported_type", mask="m_text.png")
    row("mask_path_outside_root", mask="../m.png")
    row("empty_region_mask", objects=[{"mask": "m_empty.png"}])
    row("bad_box", objects=[{"bbox": [30, 0, 5, 5]}])  # right of the picture
    row("unknown_split", split="holdout")
    row("unknown_modality", modality="x-ray of the chest")
    row("unknown_view", view="from above")
    row("bad_labels", labels=["No Finding", "mass"])
    row("bad_objects", objects={"bbox": [[0, 0, 1, 1]], "label": ["a", "b"]})
    row("unnamed_category", objects={"bbox": [[0, 0, 1, 1]], "categories": [3]})
    row("bad_questions", questions="Which?")
    row("bad_attributes", attributes=["age"])
    row("bad_value", frame="second")
    row("missing_frame", frame=1)
    row("missing_file")
    (root / "missing_file.png").unlink()
    row("empty_file")
    (root / "empty_file.png").write_bytes(b"")
    row("unsupported_type")
    (root / "unsupported_type.png").write_text("a text with the name of a picture")
    row("truncated")
    (root / "truncated.png").write_bytes((root / "truncated.png").read_bytes()[:300])
    row("corrupt")
    data = bytearray((root / "corrupt.png").read_bytes())
    data[80:120] = bytes(40)
    (root / "corrupt.png").write_bytes(data)
    row("too_many_pixels")
    save(root / "too_many_pixels.png", Image.new("1", (2000, 2000)))
    row("missing_member")
    rows["missing_member"]["file_name"] = "a.zip/none.png"
    rows["path_outside_root"] = {"file_name": "../secret.png"}
    rows["missing_file_name"] = {"text": "no picture"}
    return rows


def test_bad_rows_are_rejected_with_their_reason_and_the_others_stay(tmp_path: Path) -> None:
    root = tmp_path / "root"
    rows = bad_rows(root)
    save(tmp_path / "secret.png", picture(3))
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        archive.write(tmp_path / "secret.png", "a.png")
    save(root / "link_target" / "ok.png", picture(1))
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    more = {"link": {"file_name": "out.png"}, "absolute": {"file_name": str(tmp_path / "secret.png")}}
    lines = [*rows.values(), *more.values(), {"file_name": "link_target/ok.png"}, {"file_name": "a.zip/a.png"}]
    write_metadata(root, lines)
    with (root / "metadata.jsonl").open("a") as stream:
        stream.write("{not json\n[1]\n")
    summary, tables = ingest(tmp_path)
    found = {row["row"]: row["reason"] for row in tables["rejected"]}
    expected = [*rows, "path_outside_root", "path_outside_root"]
    assert [found.get(f"metadata.jsonl:{line}") for line in range(1, len(expected) + 1)] == expected
    assert [found[f"metadata.jsonl:{len(lines) + n}"] for n in (1, 2)] == ["bad_row", "bad_row"]
    assert all(row["detail"] for row in tables["rejected"])
    assert {row["path"] for row in tables["images"]} == {"link_target/ok.png", "a.zip"}
    assert {row["member"] for row in tables["images"]} == {None, "a.png"}
    assert (summary["inputs"], summary["ok"], summary["rejected"]) == (len(lines) + 2, 2, len(expected) + 2)


def test_rows_that_show_the_same_pixels_are_one_image(tmp_path: Path) -> None:
    root = tmp_path / "root"
    save(root / "a.png", picture(1))
    save(root / "copy.tif", picture(1))
    save(root / "b.png", picture(2))

    def question(name: str) -> dict[str, str]:
        return {"question_id": name, "question": "Why?", "answer": "So.", "answer_type": "open"}

    box = [{"bbox": [0, 0, 5, 5], "label": "first"}]
    rows: list[dict[str, Any]] = [
        {"file_name": "a.png", "split": "train", "patient_id": "p", "questions": [question("1")]},
        {"file_name": "copy.tif", "split": "test", "patient_id": "q", "labels": [], "objects": box},
        {"file_name": "a.png", "split": "train", "text": "Third."},
        {"file_name": "b.png", "patient_id": "q", "questions": [question("2")]},
        {"file_name": "b.png", "questions": [question("2"), question("3")]},
        {"file_name": "b.png", "questions": [{**question("1"), "answer": "Other."}]},
    ]
    write_metadata(root, rows)
    summary, tables = ingest(tmp_path)
    assert (summary["inputs"], summary["ok"], summary["duplicates"], summary["rejected"]) == (6, 2, 3, 1)
    assert summary["reasons"] == {
        "duplicates": {"same_file": 2, "same_pixels": 1},
        "rejected": {"repeated_question_id": 1},
    }
    by_path = {image["path"]: image for image in tables["images"]}
    first, other = by_path["a.png"], by_path["b.png"]
    assert (first["rows"], first["split"], first["split_conflict"]) == (3, "test", True)
    assert (first["labels"], first["report"]) == ([], "Third.")
    assert [region["label"] for region in tables["annotations"]] == ["first"]
    assert (other["rows"], other["split"], other["split_conflict"], other["labels"]) == (2, None, False, None)
    assert sorted(q["question_id"] for q in tables["questions"]) == ["1", "2", "3"]
    assert summary["questions_repeated"] == 1
    # p and q share the first picture, so they are one patient everywhere.
    assert first["patient"] == other["patient"]
    assert summary["patients_joined"] == 1


@pytest.mark.parametrize(
    ("said", "differ"),
    [([[], ["mass"], ["nodule"]], 2), ([None, ["mass"], []], 1), ([["mass"], None, ["mass"]], 0)],
)
def test_a_finding_outranks_a_row_that_says_there_is_none(tmp_path: Path, said: list[Any], differ: int) -> None:
    save(tmp_path / "root" / "a.png", picture(1))
    write_metadata(tmp_path / "root", [{"file_name": "a.png", "labels": labels} for labels in said])
    summary, tables = ingest(tmp_path)
    assert tables["images"][0]["labels"] == ["mass"]
    assert summary["labels_differ"] == differ


def test_boxes_are_clipped_to_the_picture(tmp_path: Path) -> None:
    root = tmp_path / "root"
    save(root / "a.png", picture(1))
    write_metadata(root, [{"file_name": "a.png", "objects": [{"bbox": [-2, 10, 12.5, 30]}, {"bbox": [0, 0, 30, 20]}]}])
    summary, tables = ingest(tmp_path)
    edges = [[region[edge] for edge in ("x0", "y0", "x1", "y1")] for region in tables["annotations"]]
    assert edges == [[0, 10, 10.5, 20], [0, 0, 30, 20]]
    assert summary["clipped_boxes"] == 1


def test_look_alikes_are_masks_of_the_image_and_no_annotations(tmp_path: Path) -> None:
    root = tmp_path / "root"
    save(root / "a.png", picture(1))
    square, bar = (np.zeros((20, 30), np.uint8) for _ in range(2))
    square[4:8, 6:10] = bar[0:2, :] = 255
    save(root / "square.png", Image.fromarray(square))
    save(root / "both.png", Image.fromarray(np.where(bar > 0, 7, np.where(square > 0, 3, 0)).astype(np.uint8)))
    objects = [
        {"bbox": [0, 0, 5, 5], "label": "mass", "phrase": "A mass in the corner."},
        {"mask": "square.png", "label": "mass", "adjective": "round", "look_alike": True},
        {"mask": "both.png", "mask_value": 7, "bbox": [0, 0, 4, 9], "look_alike": True},
        {"bbox": [28.5, 18.5, 9, 9], "look_alike": True},
    ]
    row = {"file_name": "a.png", "labels": ["mass"], "attributes": {"sex": "F", "age": 61}, "objects": objects}
    write_metadata(root, [row])
    summary, tables = ingest(tmp_path)
    (image,), (annotation,) = tables["images"], tables["annotations"]
    assert (annotation["label"], annotation["phrase"], annotation["n"]) == ("mass", "A mass in the corner.", 0)
    assert list(image["attributes"].items()) == [("age", "61"), ("sex", "F")]
    masks = [decode(code, 20, 30) for code in image["look_alikes"]]
    assert (masks[0] == (square > 0)).all()
    # With a mask and a box what both hold; of a box alone, cut at the edge, the pixels that it touches.
    assert np.argwhere(masks[1]).tolist() == [[y, x] for y in range(2) for x in range(4)]
    assert np.argwhere(masks[2]).tolist() == [[18, 28], [18, 29], [19, 28], [19, 29]]
    assert (summary["annotations"], summary["look_alikes"], summary["with_attributes"]) == (1, 3, 1)
    assert summary["clipped_boxes"] == 1
    assert summary["no_finding_with_annotations"] == 0
    # The files of look-alikes are listed as those of other masks are.
    assert summary["files"] == {"listed": 4, "unlisted": 0, "unlisted_suffixes": {}}


def test_a_normal_image_may_have_look_alikes_and_one_without_pixels_rejects_its_row(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(3):
        save(root / f"{number}.png", picture(number))
    save(root / "empty.png", Image.new("L", (30, 20), 0))
    look_alike = {"bbox": [1, 2, 3, 4], "look_alike": True}
    rows = [
        {"file_name": "0.png", "labels": [], "objects": [look_alike]},
        {"file_name": "1.png", "objects": [{"mask": "empty.png", "look_alike": True}]},
        {"file_name": "2.png", "objects": [{**look_alike, "bbox": [90, 2, 3, 4]}]},
    ]
    write_metadata(root, rows)
    summary, tables = ingest(tmp_path)
    assert summary["reasons"]["rejected"] == {"bad_box": 1, "empty_region_mask": 1}
    assert [len(image["look_alikes"]) for image in tables["images"]] == [1]
    assert (summary["annotations"], summary["no_finding_with_annotations"]) == (0, 0)


def test_the_first_row_that_has_look_alikes_or_an_attribute_counts_and_others_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    save(root / "a.png", picture(1))

    def row(*boxes: list[int], **attributes: str) -> dict[str, Any]:
        objects = [{"bbox": box, "look_alike": True} for box in boxes]
        return {"file_name": "a.png", "objects": objects, "attributes": attributes}

    one, other = [1, 2, 3, 4], [5, 6, 7, 8]
    rows = [row(age="61"), row(one, age="62", sex="F"), row(one), row(one, other, sex="F", age="61"), row(age="63")]
    write_metadata(root, rows)
    summary, tables = ingest(tmp_path)
    (image,) = tables["images"]
    assert image["attributes"] == {"age": "61", "sex": "F"}
    assert np.argwhere(decode(image["look_alikes"][0], 20, 30)).min(axis=0).tolist() == [2, 1]
    assert len(image["look_alikes"]) == 1
    assert summary["dropped"] == {"attributes": 2, "look_alikes": 2}


def test_the_choice_depends_on_names_alone(tmp_path: Path) -> None:
    splits = {"a": "train", "b": "test", "c": None}

    def chosen(names: list[str], limit: int | dict[str, int] | None) -> list[str]:
        rows = ListedRows(tmp_path)
        for name in names:
            rows.add(SourceRecord(row="r", name=name, modality="ct", split=splits[name[0]]))
        return [rows.of_image(image)[0].name for image in select(rows, limit)]

    names = [f"{split}{number}" for split in "abc" for number in range(50)]
    some = chosen(names, {"train": 5, "test": 7})
    assert [sum(name.startswith(split) for name in some) for split in "abc"] == [5, 7, 50]
    assert some == sorted(some, key=names.index)
    assert set(chosen(names[::-1], {"train": 5, "test": 7})) == set(some)
    assert set(chosen([name for name in names if name[0] != "b"], {"train": 5})) == {n for n in some if n[0] != "b"}
    assert set(chosen(names, {"train": 4, "test": 7})) < set(some)  # a smaller limit takes some of the same
    assert len(chosen(names, 12)) == 12
    assert chosen(names, None) == names
    by_hand = sorted(names[:50], key=lambda name: hashlib.sha256(f"{name}\0None".encode()).hexdigest())[:3]
    assert sorted(chosen(names[:50], 3)) == sorted(by_hand)


def test_limit_counts_pictures_and_leaves_rejected_rows_counted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(6):
        save(root / f"{number}.png", picture(number))
    rows = [{"file_name": f"{number}.png", "split": "train"} for number in range(6) for _ in range(2)]
    write_metadata(root, [*rows, {"text": "no picture"}])
    summary, tables = ingest(tmp_path, limit={"train": 4})
    assert (summary["available"], summary["selected"]) == ({"train": 6}, {"train": 4})
    assert (summary["inputs"], summary["ok"], summary["duplicates"], summary["rejected"]) == (9, 4, 4, 1)
    assert [image["rows"] for image in tables["images"]] == [2] * 4


def test_the_same_input_gives_the_same_bytes_wherever_it_lies(tmp_path: Path) -> None:
    for place in ("one", "two"):
        root = tmp_path / place / "root"
        bad = bad_rows(root)
        save(root / "good.png", picture(1))
        write_metadata(root, [*bad.values(), {"file_name": "good.png"}])
        run("here", config(root), tmp_path / place / "out", tmp_path / place)
    for name in ("images", "annotations", "questions", "rejected"):
        one, two = ((tmp_path / place / "out" / f"{name}.parquet").read_bytes() for place in ("one", "two"))
        assert one == two, name


def test_a_source_without_an_image_leaves_its_rejected_rows_and_counts_their_reasons(tmp_path: Path) -> None:
    root = tmp_path / "root"
    save(root / "a.png", picture(1))
    write_metadata(root, [{"file_name": "a.png"}])
    ingest(tmp_path)
    sick = [{"file_name": "a.png", "view": "above"}, *({"file_name": f"{n}.png"} for n in range(3)), {"text": "b"}]
    write_metadata(root, sick)
    with pytest.raises(UserError) as caught:
        ingest(tmp_path)
    table = tmp_path / "out" / "rejected.parquet"
    assert str(caught.value) == (
        f"ingest.sources.here: no image left of 5 rows in {root}: missing_file 3, missing_file_name 1, unknown_view 1; "
        f"all are in {table}; the first rejected: metadata.jsonl:1, unknown_view, "
        f"{values_of(REJECTED, table)[0]['detail']}"
    )
    # The tables of the run before are gone: they are not what the source is now.
    assert {file.name for file in (tmp_path / "out").glob("*.parquet")} == {"rejected.parquet"}
    reasons = ["unknown_view", "missing_file_name", *["missing_file"] * 3]
    assert [row["reason"] for row in values_of(REJECTED, table)] == reasons


def test_a_folder_that_is_a_link_is_told(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in ("a", "b"):
        save(root / folder / "0.png", picture(ord(folder)))
    save(tmp_path / "elsewhere/1.png", picture(3))
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (root / "d").symlink_to(root / "a")
    write_metadata(root, [{"file_name": "d/0.png"}, {"file_name": "b/0.png"}])
    summary, _ = ingest(tmp_path)
    # A row names a file behind the link d.
    assert "folders that are links, which are not read: 1" in summary["warnings"]


def test_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with pytest.raises(UserError, match=r"ingest\.sources\.here\.root: .*root not found"):
        ingest(tmp_path)
    root.mkdir()
    with pytest.raises(UserError, match="should hold one metadata file"):
        ingest(tmp_path)
    write_metadata(root, [{"file_name": "none.png"}])
    with pytest.raises(UserError, match=r"no image left of 1 rows .*missing_file"):
        ingest(tmp_path)
    with pytest.raises(UserError, match=r"options\.colums: unknown key; did you mean 'columns'"):
        ingest(tmp_path, options={"colums": {}})
    with pytest.raises(UserError, match=r"ingest\.sources has no 'there': choose from here"):
        run("there", config(root), tmp_path / "out", tmp_path)
    wrong = IngestConfig(
        sources={"here": SourceConfig(adapter="tabel", root=str(root))}, max_pixels=1, max_failed_fraction=0
    )
    with pytest.raises(UserError, match=r"'tabel' is not one of the sources: choose from .*table"):
        run("here", wrong, tmp_path / "out", tmp_path)
    with pytest.raises(ValueError, match=r"\['dev'\] is no split"):
        SourceConfig(adapter="table", root="x", limit={"dev": 3})
    with pytest.raises(ValueError, match="names folders"):
        IngestConfig(sources={"../up": SourceConfig(adapter="table", root="x")}, max_pixels=1, max_failed_fraction=0)


ADAPTER = """
from pipelines.ingest.listed_rows import ListedRows
from pipelines.ingest.record import SourceRecord


class Everything:
    def __init__(self, root, options):
        self.files = sorted(root.glob(options.get("pattern", "*.png")))

    def records(self):
        for path in self.files:
            yield SourceRecord(row=path.name, name=path.name, modality="other", labels=("thing",))
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with an installed package that offers the source `everything`."""
    site = tmp_path / "site"
    (site / "their_package").mkdir(parents=True)
    (site / "their_package" / "__init__.py").write_text(ADAPTER)
    information = site / "their_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[medregion.sources]\neverything = their_package:Everything\n")
    return site


def test_a_source_from_outside_through_an_entry_point(tmp_path: Path, repository: Path, installed: Path) -> None:
    save(tmp_path / "data" / "raw" / "a.png", picture(1))
    (tmp_path / "params.yaml").write_text(
        "workers: {processes: all}\ningest:\n  max_pixels: 1000000\n  max_failed_fraction: 0.0\n"
        "  sources:\n    mine: {adapter: everything, root: data/raw}\n    wrong: {adapter: evrything, root: data/raw}\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{installed}{os.pathsep}{repository}"}

    def command(source: str) -> subprocess.CompletedProcess[str]:
        write_fingerprint(tmp_path, f"ingest@{source}", "pipelines.ingest")
        words = [sys.executable, "-m", "pipelines.ingest", source]
        return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = command("mine")
    assert done.returncode == 0, done.stderr
    (image,) = values_of(IMAGES, tmp_path / "data" / "ingest" / "mine" / "images.parquet")
    assert (image["path"], image["labels"]) == ("a.png", ["thing"])
    assert json.loads((tmp_path / "data" / "summaries" / "ingest-mine.json").read_text())["ok"] == 1
    failed = command("wrong")
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert "everything" in failed.stderr


def test_what_the_disk_cannot_give_failed_and_stops_the_stage(
    tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(installed))
    memory = SourceConfig(adapter="everything", root="/proc/self", options={"pattern": "mem"})  # reading it is an error
    config = IngestConfig(sources={"here": memory}, max_pixels=1_000_000, max_failed_fraction=0.0)
    with pytest.raises(UserError, match=r"1 of 1 items failed \(OSError: Input/output error 1\)"):
        run("here", config, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_source_declares_whose_sides_its_texts_mean(tmp_path: Path) -> None:
    save(tmp_path / "root/a.png", picture(1))
    write_metadata(tmp_path / "root", [{"file_name": "a.png", "text": "Left lung.", "modality": "radiograph"}])
    for sides in (None, "image", "patient"):
        _, tables = ingest(tmp_path, sides=sides)
        assert [image["sides"] for image in tables["images"]] == [sides]


@pytest.mark.parametrize(
    ("options", "declared", "sides"),
    [({}, None, "image"), ({}, "patient", "patient"), ({"modality": "ct", "view": None}, None, None)],
)
def test_an_adapter_declares_the_sides_where_params_do_not(
    tmp_path: Path, options: dict[str, Any], declared: str | None, sides: str | None
) -> None:
    root = tmp_path / "root"
    save(root / "Train_Folder/img/a.png", picture(1))
    save(root / "Train_Folder/labelcol/mask_a.png", Image.fromarray(np.eye(20, 30, dtype=np.uint8) * 255))
    (root / "Train_Folder/texts.csv").write_text("Image,Description\nmask_a.png,Left lung.\n")
    source = SourceConfig(adapter="lvit", root=str(root), patient_ids="public", options=options, sides=declared)
    run("here", IngestConfig(sources={"here": source}, max_pixels=10**6, max_failed_fraction=0.0), tmp_path, tmp_path)
    assert [image["sides"] for image in values_of(IMAGES, tmp_path / "images.parquet")] == [sides]
