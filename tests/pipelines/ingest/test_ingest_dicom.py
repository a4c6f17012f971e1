"""The adapter `dicom`: trees of files made here and those that pydicom ships, joined with reports in every way."""

import io
import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from pipelines.errors import Rejected, UserError
from pipelines.images import picture as picture_of
from pipelines.images import pixel_sha256
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.inspect.look import look, print_look, write_page
from pipelines.ingest.record import SourceRecord, UnusableRow
from pipelines.ingest.sources.dicom import DicomFiles
from pipelines.ingest.stage import run
from pipelines.opened import open_file
from pipelines.raw_images import open_raw
from pipelines.records import IMAGES, REJECTED, SplitImageRow
from pipelines.sources import Sources
from tests.pipelines.test_images import dicom
from tests.rows import values_of

CLASSES = {
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
}


def picture(number: int, **elements: Any) -> bytes:
    """A radiograph of its own pixels; pictures 0 and 1 are of the patient P0 and one study, 2 and 3 of P1, ..."""
    values = np.random.default_rng(number).integers(0, 256, (24, 32), dtype=np.uint8)
    study = f"1.2.{number // 2 + 1}"
    facts = {
        "Modality": "DX",
        "SOPInstanceUID": f"{study}.5.{number}",
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.5",
        "PatientID": f"P{number // 2}",
        "AccessionNumber": f"00{number // 2}",
        "ViewPosition": "LL" if number % 2 else "PA",
        "BodyPartExamined": "CHEST",
        **elements,
    }
    return dicom(values, SOPClassUID=CLASSES.get(facts["Modality"], "1.2.840.10008.5.1.4.1.1.7"), **facts)


def write(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def clinic(root: Path, reports: str, **more: bytes | str) -> Path:
    """Two studies of two pictures each, without suffixes, and a table."""
    files = {f"{number // 2}/IM{number}": picture(number) for number in range(4)}
    return write(root, {**files, "reports.csv": reports, **more})


def listed(root: Path, **options: Any) -> tuple[list[SourceRecord], dict[str, str], DicomFiles]:
    """Records, and row -> reason of the others."""
    source = DicomFiles(root, options)
    items = list(source.records())
    records = [item for item in items if isinstance(item, SourceRecord)]
    return records, {item.row: item.reason for item in items if isinstance(item, UnusableRow)}, source


def texts(records: list[SourceRecord]) -> dict[str, list[str | None]]:
    found: dict[str, list[str | None]] = {}
    for record in records:
        found.setdefault(record.name, []).append(record.report)
    return found


def settings(root: Path, **more: Any) -> IngestConfig:
    source = SourceConfig(adapter="dicom", root=str(root), **{"patient_ids": "public", **more})
    return IngestConfig(sources={"here": source}, max_pixels=10**6, max_failed_fraction=0.0)


BY_STUDY = {"0/IM0": ["one"], "0/IM1": ["one"], "1/IM2": ["two"], "1/IM3": ["two"]}
BY_FILE = {"0/IM0": ["one"], "0/IM1": [None], "1/IM2": ["two"], "1/IM3": [None]}


@pytest.mark.parametrize(
    ("column", "keys", "expected"),
    [
        ("AccessionNumber", ("000", "001"), BY_STUDY),
        ("accession_number", ("000", "001"), BY_STUDY),
        ("StudyInstanceUID", ("1.2.1", "1.2.2"), BY_STUDY),
        ("Series Instance UID", ("1.2.1.5", "1.2.2.5"), BY_STUDY),
        ("PatientID", ("P0", "P1"), BY_STUDY),
        ("SOPInstanceUID", ("1.2.1.5.0", "1.2.2.5.2"), BY_FILE),
        ("file_name", ("0/IM0", "1/IM2"), BY_FILE),
        ("path", ("IM0", "IM2"), BY_FILE),
    ],
)
def test_a_report_goes_to_the_pictures_of_its_key(
    tmp_path: Path, column: str, keys: tuple[str, str], expected: dict[str, list[str | None]]
) -> None:
    root = clinic(tmp_path, f"{column},text\n{keys[0]},one\n{keys[1]},two\n")
    records, others, source = listed(root)
    assert texts(records) == expected
    assert others == {}
    without = sum(reports == [None] for reports in expected.values())
    told = [f"images of which no row of the table of reports speaks: {without}"] if without else []
    assert source.warnings == told


def test_what_the_header_and_the_table_say(tmp_path: Path) -> None:
    table = "acc;report;findings;set;subject\n000;Clear.;Normal;train;7\n001;;mass|nodule;;\n"
    columns = {"key": "acc", "text": "report", "labels": "findings", "split": "set", "patient_id": "subject"}
    records, _, _ = listed(clinic(tmp_path, table), join="AccessionNumber", columns=columns)
    first, second, third, fourth = records
    assert first == SourceRecord(
        row="reports.csv:2",
        name="0/IM0",
        modality="radiograph",
        view="frontal",
        split="train",
        patient="7",
        report="Clear.",
        labels=(),
        attributes={"body part": "chest", "view position": "pa"},
    )
    assert (second.view, second.row, second.report) == ("lateral", "reports.csv:2", "Clear.")
    assert (third.labels, third.report, third.split, third.patient) == (("mass", "nodule"), None, None, None)
    assert fourth.attributes == {"body part": "chest", "view position": "ll"}


def test_labels_in_columns_of_their_own_and_words_that_mean_something_else(tmp_path: Path) -> None:
    table = "StudyInstanceUID,text,Mass,Edema,split\n1.2.1,a,1,-1,A\n1.2.2,b,0,0,B\n"
    options = {"label_columns": ["Mass", "Edema"], "values": {"split": {"A": "train", "B": "test", "C": "test"}}}
    records, _, source = listed(clinic(tmp_path, table), **options)
    assert [(record.labels, record.split) for record in records[1:3]] == [(("Mass",), "train"), ((), "test")]
    assert source.warnings == ["words of options.values that no cell holds: c (split)"]


def test_every_text_of_a_key_is_kept_and_every_row_has_an_outcome(tmp_path: Path) -> None:
    rows = ["1.2.1,first", "1.2.1,second", "9.9,nobody's", ",no key", "1.2.2,x,y"]
    root = clinic(tmp_path / "root", "StudyInstanceUID,text\n" + "\n".join(rows) + "\n")
    records, others, source = listed(root)
    assert texts(records) == {
        "0/IM0": ["first", "second"],
        "0/IM1": ["first", "second"],
        "1/IM2": [None],
        "1/IM3": [None],
    }
    assert others == {
        "reports.csv:4": "report_without_image",
        "reports.csv:5": "missing_key",
        "reports.csv:6": "bad_row",
    }
    summary = run("here", settings(root), tmp_path / "out", tmp_path)
    assert (summary["inputs"], summary["ok"], summary["rejected"], summary["duplicates"]) == (9, 4, 3, 2)
    images = {row["path"]: row for row in values_of(IMAGES, tmp_path / "out" / "images.parquet")}
    assert (images["0/IM0"]["report"], images["0/IM0"]["other_reports"]) == ("first", ["second"])
    assert source.counts["reports"] == {
        "rows that speak of pictures": 2,
        "rows that do not": 3,
        "pictures with a row": 2,
        "without": 2,
    }


def test_the_key_is_found_where_one_column_alone_may_be_it(tmp_path: Path) -> None:
    table = "PatientID,StudyInstanceUID,note\nP0,1.2.1,x\n"
    root = clinic(tmp_path / "several", table)
    with pytest.raises(UserError, match=r"choose one with options\.join \(PatientID, StudyInstanceUID\)"):
        listed(root)
    records, _, source = listed(root, join="StudyInstanceUID", columns={"text": "note"})
    assert texts(records)["0/IM1"] == ["x"]
    assert source.warnings == ["images of which no row of the table of reports speaks: 2"]  # the other key is no loss
    root = clinic(tmp_path / "none", "study,text\n1.2.1,x\n")
    with pytest.raises(UserError, match=r"name one in options\.columns\.key.*AccessionNumber, StudyInstanceUID"):
        listed(root)
    with pytest.raises(UserError, match=r"say in options\.join what study holds"):
        listed(root, columns={"key": "study"})
    with pytest.raises(UserError, match=r"0 columns that may hold AccessionNumber"):
        listed(root, join="AccessionNumber")
    with pytest.raises(UserError, match="no column studies"):
        listed(root, columns={"key": "studies"})
    assert texts(listed(root, columns={"key": "study"}, join="StudyInstanceUID")[0])["0/IM0"] == ["x"]
    with pytest.raises(UserError, match=r"none of its 1 rows matches one of 4 pictures by AccessionNumber \(4 have"):
        listed(root, columns={"key": "study"}, join="AccessionNumber")


def test_options_that_are_wrong_are_one_line(tmp_path: Path) -> None:
    root = clinic(tmp_path, "PatientID,text\nP0,x\n", **{"more.tsv": "a\tb\n"})
    with pytest.raises(UserError, match=r"2 tables \(more\.tsv, reports\.csv\)"):
        DicomFiles(root, {})
    for options, message in (
        ({"table": "reports.csv", "join": "Accession"}, "AccessionNumber"),
        ({"table": "reports.csv", "columns": {"report": "x"}}, "report is none of key, text, labels"),
        ({"table": "reports.csv", "modalities": {"XA": "angiogram"}}, "angiogram is none of radiograph"),
        ({"table": "reports.csv", "serie": "all"}, "did you mean 'series'"),
        ({"table": "reports.csv", "columns": {"text": "report"}}, "has no column report"),
    ):
        with pytest.raises(UserError, match=message):
            list(DicomFiles(root, options).records())
    (root / "reports.csv").unlink()
    (root / "more.tsv").unlink()
    with pytest.raises(UserError, match=r"no table for options\.join"):
        DicomFiles(root, {"join": "PatientID"})


@pytest.mark.parametrize(("suffix", "kind"), [("zip", "zip"), ("tar", "tar"), ("tar.gz", "gztar")])
def test_an_archive_says_the_same_as_the_folder(tmp_path: Path, suffix: str, kind: str) -> None:
    root = clinic(tmp_path / "folder", "PatientID,text\nP0,one\nP1,two\n")
    expected = texts(listed(root)[0])
    shutil.make_archive(str(tmp_path / "all"), kind, root)
    records, others, _ = listed(tmp_path / f"all.{suffix}")
    assert (texts(records), others) == (expected, {})
    (root / "reports.csv").rename(tmp_path / "reports.csv")
    shutil.make_archive(str(tmp_path / "batch" / "1"), kind, root)
    records, others, _ = listed(tmp_path, table="reports.csv")
    inside = {name: found for name, found in texts(records).items() if name.startswith("batch/")}
    assert inside == {f"batch/1.{suffix}/{name}": found for name, found in expected.items()}
    assert others == {f"all.{suffix}/reports.csv": "not_dicom"}


def test_names_of_files_in_a_table(tmp_path: Path) -> None:
    files = {"a/x.dcm": picture(0), "b/x.dcm": picture(2), "b/y.dcm": picture(4), "b/1.2.5": picture(6)}
    table = "file_name,text\n../a/x.dcm,one\ny,two\nx.dcm,which\nb/x.dcm,root\n1.2,no stem\n"
    root = write(tmp_path, {**files, "tables/t.csv": table})
    records, others, _ = listed(root, table="tables/t.csv")
    assert texts(records) == {"a/x.dcm": ["one"], "b/x.dcm": ["root"], "b/y.dcm": ["two"], "b/1.2.5": [None]}
    assert others == {"tables/t.csv:4": "ambiguous_file_name", "tables/t.csv:6": "report_without_image"}


NO_PICTURES = {
    "dose": ("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE"),
    "segmentation": ("1.2.840.10008.5.1.4.1.1.66.4", "SEG"),
    "plan": ("1.2.840.10008.5.1.4.1.1.481.5", "RTPLAN"),
    "structures": ("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT"),
    "report": ("1.2.840.10008.5.1.4.1.1.88.11", "SR"),
    "key_objects": ("1.2.840.10008.5.1.4.1.1.88.59", "KO"),
    "presentation": ("1.2.840.10008.5.1.4.1.1.11.1", "PR"),
    "waveform": ("1.2.840.10008.5.1.4.1.1.9.1.1", "ECG"),
    "document": ("1.2.840.10008.5.1.4.1.1.104.1", "DOC"),
    "raw": ("1.2.840.10008.5.1.4.1.1.66", "MR"),
}


def test_what_is_no_picture_is_told_by_its_class_and_what_is_no_dicom_by_its_content(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"IM0": picture(0), "IM1.png": picture(1)}
    for number, (name, (uid, modality)) in enumerate(NO_PICTURES.items(), start=2):
        dataset = pydicom.dcmread(io.BytesIO(picture(number, Modality=modality)))
        dataset.SOPClassUID = uid
        if name not in ("dose", "segmentation"):  # these two alone have pixels
            del dataset.PixelData
        stream = io.BytesIO()
        dataset.save_as(stream)
        files[name] = stream.getvalue()
    stripped = pydicom.dcmread(io.BytesIO(picture(20)))
    del stripped.PixelData
    stream = io.BytesIO()
    stripped.save_as(stream)
    files |= {"stripped": stream.getvalue(), "README.dcm": "no DICOM", "empty.dcm": b"", "broken.zip": b"PK"}
    files |= {"cut": picture(21)[:500]}
    root = write(tmp_path / "root", files)
    shutil.copy(str(get_testdata_file("DICOMDIR")), root / "DICOMDIR")
    records, others, source = listed(root)
    assert [record.name for record in records] == ["IM0", "IM1.png"]
    assert others == {
        **dict.fromkeys(NO_PICTURES, "not_a_picture"),
        "stripped": "no_pixel_data",
        "README.dcm": "not_dicom",
        "empty.dcm": "not_dicom",
        "broken.zip": "corrupt",
        "cut": "truncated",
    }
    assert source.counts["SOP classes"]["Media Storage Directory Storage"] == 1
    summary = run("here", settings(root), tmp_path / "out", tmp_path)
    assert (summary["inputs"], summary["ok"], summary["files"]["unlisted"]) == (17, 2, 0)
    details = {row["path"]: row["detail"] for row in values_of(REJECTED, tmp_path / "out" / "rejected.parquet")}
    assert details["dose"] == "DICOM object: RT Dose Storage"


def slice_of(z: float, number: int, **elements: Any) -> bytes:
    facts = {
        "Modality": "CT",
        "SeriesInstanceUID": "1.9",
        "StudyInstanceUID": "1",
        "PatientID": "C",
        "InstanceNumber": number,
        "ImagePositionPatient": [0, 0, z],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    }
    return picture(100 + number, **{**facts, "SOPInstanceUID": f"1.9.{number}", **elements})


def test_of_a_stack_the_slice_in_the_middle_of_space_is_taken(tmp_path: Path) -> None:
    places = [30.0, 0.0, 15.0, 5.0, 22.5]  # sorted: 0, 5, 15, 22.5, 30
    files: dict[str, bytes | str] = {f"ct/{n}.dcm": slice_of(z, n) for n, z in enumerate(places)}
    # A sagittal stack in the same series lies along x; its middle of two is the second.
    sagittal = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    files |= {
        "ct/s0.dcm": slice_of(0, 10, ImagePositionPatient=[4, 0, 0], **sagittal),
        "ct/s1.dcm": slice_of(0, 11, ImagePositionPatient=[-4, 0, 0], **sagittal),
    }
    # Radiographs of one series say nothing of slices, and each is taken.
    files |= {"dx/0": picture(0), "dx/1": picture(1)}
    root = write(tmp_path, files)
    records, others, source = listed(root)
    # The normal of the sagittal slices is (-1, 0, 0): from x = 4 to x = -4.
    assert [record.name for record in records] == ["ct/2.dcm", "ct/s1.dcm", "dx/0", "dx/1"]
    assert others == {}
    assert source.counts["series"] == {"series": 2, "stacks of slices": 2, "pictures": 9, "slices not taken": 5}
    assert source.warnings == [
        "slices that are not taken, for those of a stack resemble each other (options.series): 5"
    ]
    assert len(listed(root, series="all")[0]) == 9


def stack(folder: str, **elements: Any) -> dict[str, bytes | str]:
    """Five slices of 24 x 32 pixels of 1 mm, 2 mm apart, the fourth of the head first."""
    series = {"SeriesInstanceUID": f"3.{folder}", "StudyInstanceUID": "3", "PixelSpacing": [1, 1], **elements}
    return {
        f"{folder}/{name}.dcm": slice_of(
            2.0 * n, n + 10 * len(folder), **{**series, "SOPInstanceUID": f"3.{folder}.{n}"}
        )
        for n, name in enumerate("dbace")
    }


def test_stacks_are_cut_along_an_axis(tmp_path: Path) -> None:
    """A coronal cut of five slices 2 mm apart, 32 mm wide, has 32 x 10 square pixels; the radiograph stays as it is."""
    root = write(
        tmp_path / "root",
        {
            **stack("one"),
            **stack("other"),
            "dx/0": picture(0),
            "reports.csv": "SOPInstanceUID,text\n3.one.3,of the fourth\n3.one.0,of the first\n",
        },
    )
    records, others, source = listed(root, axis="coronal")
    assert others == {}
    assert source.warnings == [
        "images of which no row of the table of reports speaks: 2",
        "files that are taken as they are, for they are no stack of slices that could be cut (options.axis): 1",
    ]
    assert source.counts["series"] == {"series": 3, "stacks of slices": 2, "pictures": 11, "slices not taken": 0}
    # A stack is named by the slice nearest to the feet; what is said of two slices is said of the one cut.
    assert [(record.name, record.axis, record.frame, record.report) for record in records] == [
        ("dx/0", None, None, None),
        ("one/d.dcm", "coronal", 12, "of the first"),
        ("one/d.dcm", "coronal", 12, "of the fourth"),
        ("other/d.dcm", "coronal", 12, None),
    ]
    every, _, _ = listed(root, axis="sagittal", series="all")
    assert Counter(record.name for record in every) == {"dx/0": 1, "one/d.dcm": 64, "other/d.dcm": 32}
    summary = run("here", settings(root, options={"axis": "coronal"}), tmp_path / "out", tmp_path)
    assert (summary["ok"], summary["duplicates"], summary["rejected"]) == (3, 1, 0)
    assert summary["files"] == {"listed": 12, "unlisted": 0, "unlisted_suffixes": {}}
    rows = IMAGES.read(tmp_path / "out" / "images.parquet")
    assert {(row.axis, row.width, row.height) for row in rows if row.path != "dx/0"} == {("coronal", 32, 10)}
    # Another stage opens it by the row, and knows when any slice is another one.
    row = next(row for row in rows if row.path == "one/d.dcm")
    columns = {name: getattr(row, name) for name in IMAGES.columns if name not in ("thumbnail", "split")}
    split_row = SplitImageRow(**columns, group="g", split="train", leak=False)
    sources = Sources(roots={"here": root}, max_pixels=1_000_000)
    assert pixel_sha256(open_raw(sources, split_row)) == row.pixel_sha256
    (root / "one/c.dcm").write_bytes(stack("one", RescaleIntercept=1)["one/c.dcm"])  # type: ignore[arg-type]
    (root / "one/d.dcm").touch()  # what is kept in memory is told by the file that is named
    with pytest.raises(Rejected, match="other bytes"):
        open_raw(sources, split_row)


def test_a_stack_with_a_gap_is_rejected_once(tmp_path: Path) -> None:
    files = {**stack("one"), **stack("other")}
    del files["one/a.dcm"]
    root = write(tmp_path / "root", files)
    summary = run("here", settings(root, options={"axis": "axial", "series": "all"}), tmp_path / "out", tmp_path)
    assert (summary["ok"], summary["reasons"]) == (5, {"rejected": {"uneven_slices": 1}})
    (rejected,) = values_of(REJECTED, tmp_path / "out" / "rejected.parquet")
    assert rejected["reason"] == "uneven_slices"
    assert rejected["path"] == "one/d.dcm"
    with pytest.raises(UserError, match="axial"):
        listed(root, axis="transverse")


def test_a_stack_without_its_spacing_is_rejected_and_no_slice_of_it_is_taken(tmp_path: Path) -> None:
    root = write(tmp_path / "root", {**stack("one"), **stack("other", PixelSpacing=None)})
    summary = run("here", settings(root, options={"axis": "axial", "series": "all"}), tmp_path / "out", tmp_path)
    assert (summary["ok"], summary["reasons"]) == (5, {"rejected": {"unplaced": 1}})


def test_stacks_of_patients_and_folders_are_kept_apart(tmp_path: Path) -> None:
    """One SeriesInstanceUID throughout, as careless de-identification leaves it; each folder has its own row."""
    same = {"SeriesInstanceUID": "3.1"}
    files = {**stack("a", PatientID="A", **same), **stack("bb", PatientID="B", **same)}
    # Of one patient, in two folders.
    files |= {name.replace("a/", "ccc/"): data for name, data in stack("a", PatientID="C", **same).items()}
    files |= {name.replace("aaaa/", "d/"): data for name, data in stack("aaaa", PatientID="C", **same).items()}
    # In one folder with B's, between them in space.
    files |= {
        f"bb/x{n}.dcm": slice_of(2.0 * n + 1, 90 + n, PatientID="E", PixelSpacing=[1, 1], SeriesInstanceUID="3.1")
        for n in range(5)
    }
    root = write(tmp_path, {**files, "t.csv": "PatientID,text\nA,of A\nB,of B\nC,of C\nE,of E\n"})
    records, others, _ = listed(root, axis="coronal")
    assert others == {}
    found = {record.name: record.report for record in records}
    assert found == {"a/d.dcm": "of A", "bb/d.dcm": "of B", "bb/x0.dcm": "of E", "ccc/d.dcm": "of C", "d/d.dcm": "of C"}


def test_a_report_of_a_study_is_one_row_of_each_cut(tmp_path: Path) -> None:
    root = write(tmp_path / "root", {**stack("one"), **stack("other"), "t.csv": "StudyInstanceUID,text\n3,of both\n"})
    summary = run("here", settings(root, options={"axis": "sagittal"}), tmp_path / "out", tmp_path)
    assert (summary["inputs"], summary["ok"]) == (2, 2)


def test_what_is_no_slice_leaves_a_stack_whole(tmp_path: Path) -> None:
    """A header without pixels, an RT dose object, and places beyond any scanner, in the series of five slices."""
    files = stack("one")
    series = {"SeriesInstanceUID": "3.one", "StudyInstanceUID": "3", "PixelSpacing": [1, 1]}
    header = pydicom.dcmread(io.BytesIO(slice_of(20, 50, **series)))
    del header.PixelData
    stream = io.BytesIO()
    header.save_as(stream)
    dose = slice_of(30, 51, **series).replace(CLASSES["CT"].encode(), b"1.2.840.10008.5.1.4.1.1.481.2"[:25])
    far = {
        "ImagePositionPatient": ["1e308", "-1e308", "1e308"],
        "ImageOrientationPatient": ["1e3"] * 4 + ["-1e3", "1e3"],
    }
    files |= {"one/header": stream.getvalue(), "one/dose": dose}
    files |= {f"one/far{n}": slice_of(0, 60 + n, **series, **far) for n in range(2)}
    records, others, _ = listed(write(tmp_path, files), axis="coronal")
    assert others["one/header"] == "no_pixel_data"
    assert [record.name for record in records if record.axis] == ["one/d.dcm"]
    assert {record.name for record in records if not record.axis} >= {"one/far0", "one/far1"}
    (record,) = (record for record in records if record.axis)
    shown = picture_of(open_file(tmp_path, record.name, cut=record.cut), record.cut)
    assert shown.size == (32, 10)


def test_frames_without_a_place_stay_frames(tmp_path: Path) -> None:
    cine = dicom(np.random.default_rng(0).integers(0, 256, (7, 24, 32), dtype=np.uint8), Modality="US")
    (record,), _, _ = listed(write(tmp_path, {"us/1": cine}), axis="coronal")
    assert (record.frame, record.axis) == (3, None)


def test_slices_that_the_table_names_are_taken_instead(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {f"{n}.dcm": slice_of(n, n) for n in range(5)}
    files |= {f"other/{n}.dcm": slice_of(n, 20 + n, SeriesInstanceUID="1.8") for n in range(3)}
    root = write(tmp_path, {**files, "t.csv": "SOPInstanceUID,text\n1.9.0,first\n1.9.4,last\n"})
    assert texts(listed(root)[0]) == {"0.dcm": ["first"], "4.dcm": ["last"], "other/1.dcm": [None]}
    write(root, {"t.csv": "StudyInstanceUID,text\n1,all\n"})
    assert texts(listed(root)[0]) == {"2.dcm": ["all"], "other/1.dcm": ["all"]}


def test_frames_of_one_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 24, 32), dtype=np.uint8)
    clip = dicom(values, SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1", Modality="US", PatientID="7", StudyInstanceUID="1")
    root = write(tmp_path / "root", {"clip": clip, "still": picture(9)})
    assert [(record.name, record.frame) for record in listed(root)[0]] == [("clip", 2), ("still", None)]
    records, _, _ = listed(root, frames="all")
    assert [record.frame for record in records] == [0, 1, 2, 3, 4, None]
    assert {record.modality for record in records} == {"ultrasound", "radiograph"}
    summary = run("here", settings(root, options={"frames": "all"}), tmp_path / "out", tmp_path)
    assert (summary["ok"], summary["patients_from_headers"]) == (6, 6)


def test_kinds_of_image_and_views_that_are_not_known_are_counted(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "0": picture(0, Modality="XA"),
        "1": picture(1, Modality="QQ"),
        "2": picture(2, Modality=""),
        "3": picture(3, ViewPosition="LLD"),
        "4": picture(4, ViewPosition=""),
        "5": picture(5, Modality="MR"),
    }
    root = write(tmp_path, files)
    records, _, source = listed(root, modalities={"XA": "other"})
    assert [record.modality for record in records] == ["other", "other", "other", "radiograph", "radiograph", "mri"]
    assert [record.view for record in records] == [None] * 6
    assert source.warnings == [
        "headers with a Modality that says nothing, taken for other (options.modalities): 2",
        "headers with a view that is neither frontal nor lateral, or unknown: 1",
    ]
    assert listed(root)[0][0].modality == "radiograph"


def test_nothing_of_a_header_that_names_a_patient_gets_into_tables_and_summary(tmp_path: Path) -> None:
    secrets = {
        "PatientName": "Surname^Given",
        "PatientID": "ID4711",
        "PatientBirthDate": "19510213",
        "AccessionNumber": "ACC0815",
        "StudyInstanceUID": "1.2.3.4711",
        "SeriesInstanceUID": "1.2.3.4712",
        "SOPInstanceUID": "1.2.3.4713",
        "FrameOfReferenceUID": "1.2.3.4714",
        "BodyPartExamined": "SURNAME",
        "StudyDescription": "Surname thorax",
    }
    broken = picture(1, **secrets).replace(b"CS\x02\x00LL", b"CS\xff\xffLL")
    files: dict[str, bytes | str] = {"0": picture(0, **secrets), "1": broken}
    root = write(tmp_path / "root", {**files, "t.csv": "AccessionNumber,text\nACC0815,Clear.\nACC0816,?\n"})
    with zipfile.ZipFile(root / "more.zip", "w") as packed:
        packed.writestr("2", picture(2, **{**secrets, "Modality": "SURNAME"}))
    summary = run("here", settings(root), tmp_path / "out", tmp_path)
    assert (summary["ok"], summary["rejected"]) == (2, 2)
    images = values_of(IMAGES, tmp_path / "out" / "images.parquet")
    said = json.dumps([summary, *images, *values_of(REJECTED, tmp_path / "out" / "rejected.parquet")], default=str)
    for secret in secrets.values():
        assert secret.casefold() not in said.casefold()
    assert len({row["patient"] for row in images}) == 1
    assert len({row["study"] for row in images}) == 1
    assert all(len(row["patient"]) == 16 for row in images)


def test_slices_of_one_patient_are_one_patient(tmp_path: Path) -> None:
    """The kind of `series_without_patient`: PatientID stands in the headers alone."""
    files: dict[str, bytes | str] = {
        f"{patient}-{n}": slice_of(n, 10 * patient + n, PatientID=f"S{patient}", SeriesInstanceUID=f"2.{patient}")
        for patient in range(3)
        for n in range(4)
    }
    root = write(tmp_path / "root", files)
    summary = run("here", settings(root, options={"series": "all"}), tmp_path / "out", tmp_path)
    assert (summary["ok"], summary["patients_from_headers"]) == (12, 12)
    images = values_of(IMAGES, tmp_path / "out" / "images.parquet")
    assert Counter(Counter(row["patient"] for row in images).values()) == {4: 3}
    assert {row["modality"] for row in images} == {"ct"}


def test_the_tree_that_pydicom_ships(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """dicomdirtests: counted by hand with dcmread; 50 of its files have no pixels, 7 CT slices are no middle ones."""
    root = Path(str(get_testdata_file("DICOMDIR"))).parent
    records, others, source = listed(root, series="all")
    assert Counter(record.modality for record in records) == {"mri": 17, "ct": 11, "radiograph": 3}
    assert Counter(record.view for record in records) == {None: 28, "frontal": 2, "lateral": 1}
    assert Counter(others.values()) == {"no_pixel_data": 50, "not_dicom": 2}
    assert source.counts["SOP classes"] == {
        "CT Image Storage": 61,
        "MR Image Storage": 17,
        "Media Storage Directory Storage": 8,
        "Computed Radiography Image Storage": 3,
    }
    found = look("here", settings(root), 3)
    print_look(found)
    shown = capsys.readouterr().out
    for line in (
        "SOP classes: CT Image Storage 61, MR Image Storage 17",
        "DICOM modalities: MR 17, CT 11, CR 3",
        "view positions of radiographs: AP 2, LL 1",
        "series: series 13, stacks of slices ",
        "slices not taken 7",
        "rejected no_pixel_data 50",
    ):
        assert line in shown
    write_page(tmp_path / "page.html", found)
    assert "Computed Radiography Image Storage" in (tmp_path / "page.html").read_text()
