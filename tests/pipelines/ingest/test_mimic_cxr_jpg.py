"""MIMIC-CXR-JPG with the reports of MIMIC-CXR, in PhysioNet's layout; ids and sentences are invented."""

import gzip
import shutil
from pathlib import Path

import pytest

from pipelines.errors import UserError
from pipelines.ingest.inspect.look import print_look
from pipelines.ingest.sources.mimic_cxr_jpg import MimicCxrJpg
from tests.pipelines.ingest.chest_layouts import ingest, looked, rows, save, write
from tests.pipelines.ingest.layouts import zipped

METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime\n"
)
LABELS = (
    "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,"
    "Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices\n"
)
FIRST, SECOND, THIRD = "files/p10/p10000001/s50000001", "files/p10/p10000001/s50000002", "files/p19/p19000002/s50000003"


def metadata(*lines: str) -> str:
    return METADATA + "".join(f"{line},3056,2544,21800506,213014.531\n" for line in lines)


def labels(**cells: str) -> str:
    """Rows of 14 cells; those that are not named are blank."""
    return LABELS + "".join(f"{place.replace('_', ',')},{cell}\n" for place, cell in cells.items())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two patients, three studies, four images; one study has a frontal and a lateral image."""
    root = tmp_path / "mimic"
    listings = {
        "metadata": metadata(
            "aaaa-1,10000001,50000001,CHEST (PA AND LAT),PA",
            "aaaa-2,10000001,50000001,CHEST (PA AND LAT),LATERAL",
            "bbbb-1,10000001,50000002,CHEST (PORTABLE AP),AP",
            "cccc-1,19000002,50000003,,",
        ),
        "split": "dicom_id,study_id,subject_id,split\n"
        "aaaa-1,50000001,10000001,train\naaaa-2,50000001,10000001,train\n"
        "bbbb-1,50000002,10000001,validate\ncccc-1,50000003,19000002,test\n",
        "chexpert": LABELS
        + "10000001,50000001,1.0,,,-1.0,,,,0.0,,1.0,,,,\n"
        + "10000001,50000002,,,,,,,,,1.0,,,,,\n"
        + "19000002,50000003,,0.0,,,,,,,,-1.0,,,,\n",
        "negbio": LABELS + "10000001,50000001,,1.0,,,,,,,,,,,,\n",
    }
    for kind, text in listings.items():
        write(root / "x", "")
        (root / f"mimic-cxr-2.0.0-{kind}.csv.gz").write_bytes(gzip.compress(text.encode()))
    (root / "x").unlink()
    for seed, name in enumerate((f"{FIRST}/aaaa-1", f"{FIRST}/aaaa-2", f"{SECOND}/bbbb-1", f"{THIRD}/cccc-1")):
        save(root / f"{name}.jpg", seed)
    reports = tmp_path / "reports"
    write(
        reports / f"{FIRST}.txt", " FINAL REPORT\n FINDINGS: Patchy opacity\n on the left.\n\n IMPRESSION: Collapse.\n"
    )
    write(reports / f"{SECOND}.txt", " INDICATION: ___ with cough.\n\n Lungs are clear.\n")
    write(reports / f"{THIRD}.txt", " FINDINGS:\n\n IMPRESSION:\n")
    zipped(reports, root / "mimic-cxr-reports.zip")
    return root


def with_reports_beside(root: Path) -> Path:
    """As it is where reports are unpacked into the folders of the images, for an archive holds no archive."""
    shutil.unpack_archive(root / "mimic-cxr-reports.zip", root)
    (root / "mimic-cxr-reports.zip").unlink()
    return root


def test_the_layout(root: Path) -> None:
    in_zip = list(MimicCxrJpg(root, {}).records())
    records, rejected = rows("mimic_cxr_jpg", with_reports_beside(root), reports=".")
    assert (records, rejected) == (in_zip, [])
    listing = "mimic-cxr-2.0.0-metadata.csv.gz"
    assert [(r.row, r.name, r.patient, r.view, r.split) for r in records] == [
        (f"{listing}:2", f"{FIRST}/aaaa-1.jpg", "10000001", "frontal", "train"),
        (f"{listing}:3", f"{FIRST}/aaaa-2.jpg", "10000001", "lateral", "train"),
        (f"{listing}:4", f"{SECOND}/bbbb-1.jpg", "10000001", "frontal", "validation"),
        (f"{listing}:5", f"{THIRD}/cccc-1.jpg", "19000002", None, "test"),
    ]
    first = "Patchy opacity on the left. Collapse."
    assert [record.report for record in records] == [first, first, "Lungs are clear.", None]
    assert [record.left_out for record in records] == [(), (), (), ("empty_report",)]
    # The third study denies one finding and leaves another open: nobody said that there is none.
    assert [record.labels for record in records] == [("Atelectasis", "Pleural Effusion")] * 2 + [(), None]
    assert {record.modality for record in records} == {"radiograph"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"uncertain": "positive"}, [("Edema", "Atelectasis", "Pleural Effusion"), (), ("Pleural Effusion",)]),
        ({"uncertain": "negative"}, [("Atelectasis", "Pleural Effusion"), (), None]),
        ({"labels": "negbio"}, [("Cardiomegaly",), None, None]),
        ({"labels": None}, [None, None, None]),
    ],
)
def test_policies_of_labels(root: Path, options: dict[str, str | None], expected: list[tuple[str, ...] | None]) -> None:
    records = list(MimicCxrJpg(root, options).records())
    assert [record.labels for record in (records[0], *records[2:])] == expected


def test_the_tables_and_what_inspect_says(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / f"{SECOND}/bbbb-1.jpg").unlink()
    summary, tables = ingest(tmp_path, "mimic_cxr_jpg", root)
    assert (summary["inputs"], summary["ok"], summary["rejected"]) == (4, 3, 1)
    assert summary["reasons"]["rejected"] == {"missing_file": 1}
    assert summary["left_out"] == {"empty_report": 1}
    assert "options.only_present" in tables["rejected"][0]["detail"]
    assert {(image["split"], image["sides"]) for image in tables["images"]} == {
        ("train", "patient"),
        ("test", "patient"),
    }
    assert len({image["patient"] for image in tables["images"]}) == 2
    found = looked("mimic_cxr_jpg", root, only_present=True)
    print_look(found)
    printed = capsys.readouterr().out
    assert "mimic_cxr_jpg: 3 rows, 3 images listed, 3 opened" in printed
    assert "rows whose image is not under the root, which options.only_present leaves out: 1" in printed
    assert "left out of rows: empty_report 1" in printed
    assert "splits: train 2, test 1" in printed
    assert found.rejected == []
    used = {column.profile.name: column.is_used for column in found.columns if "metadata" in column.profile.listing}
    assert (used["ViewPosition"], used["study_id"], used["StudyDate"]) == (True, True, False)
    assert found.read.listed.files.suffixes == {".gz": 1, ".txt": 1}  # the other labeller; the report of no image


def test_rows_and_reports_that_cannot_be_used(root: Path) -> None:
    lines = [
        "aaaa-1,10000001,50000001,,SIDEWAYS",
        "aaaa-2,10000001,5000001,,PA",
        "../../x,10000001,50000001,,PA",
        ",10000001,50000001,,PA",
        "bbbb-1,10000001,50000002,,LAO",
        "cccc-1,19000002,50000003,,XTABLE LATERAL",
    ]
    (root / "mimic-cxr-2.0.0-metadata.csv.gz").unlink()
    write(root / "mimic-cxr-2.0.0-metadata.csv", metadata(*lines))
    (root / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    split = "bbbb-1,50000002,10000001,train\nbbbb-1,50000002,10000001,test\ncccc-1,50000003,19000002,holdout\n"
    write(root / "mimic-cxr-2.0.0-split.csv", f"dicom_id,study_id,subject_id,split\n{split}")
    (root / "mimic-cxr-2.0.0-chexpert.csv.gz").unlink()
    write(root / "mimic-cxr-2.0.0-chexpert.csv", LABELS + "10000001,50000002,2,,,,,,,,,,,,,\n1,2\n")
    with_reports_beside(root)
    (root / f"{SECOND}.txt").write_bytes(b"FINDINGS: caf\xe9")
    (root / f"{THIRD}.txt").unlink()
    records, rejected = rows("mimic_cxr_jpg", root, reports=".")
    assert [(r.name, r.split, r.view, r.labels) for r in records] == [
        (f"{SECOND}/bbbb-1.jpg", "train", None, None),
        (f"{THIRD}/cccc-1.jpg", None, "lateral", None),
    ]
    assert [record.report for record in records] == [None, None]
    assert [record.left_out for record in records] == [("report_bad_text",), ("report_missing_file",)]
    assert rejected == [
        ("mimic-cxr-2.0.0-split.csv:3", "repeated_entry"),
        ("mimic-cxr-2.0.0-split.csv:4", "unknown_split"),
        ("mimic-cxr-2.0.0-chexpert.csv:2", "bad_labels"),
        ("mimic-cxr-2.0.0-chexpert.csv:3", "bad_row"),
        ("mimic-cxr-2.0.0-metadata.csv:2", "unknown_view"),
        *((f"mimic-cxr-2.0.0-metadata.csv:{line}", "bad_value") for line in (3, 4, 5)),
    ]


def test_physionets_own_folders_and_what_is_missing(root: Path, tmp_path: Path) -> None:
    expected = [(r.report, r.labels, r.view, r.split) for r in MimicCxrJpg(root, {}).records()]
    physionet = tmp_path / "physionet.org" / "files"
    (physionet / "mimic-cxr").mkdir(parents=True)
    shutil.move(root / "mimic-cxr-reports.zip", physionet / "mimic-cxr" / "mimic-cxr-reports.zip")
    shutil.move(root, physionet / "mimic-cxr-jpg" / "2.1.0")
    options = {"folder": "mimic-cxr-jpg/2.1.0", "reports": "mimic-cxr/mimic-cxr-reports.zip"}
    records = list(MimicCxrJpg(physionet, options).records())
    assert [(r.report, r.labels, r.view, r.split) for r in records] == expected
    assert records[0].name == f"mimic-cxr-jpg/2.1.0/{FIRST}/aaaa-1.jpg"
    folder = physionet / "mimic-cxr-jpg" / "2.1.0"
    with pytest.raises(UserError, match=r"no report mimic-cxr-reports\.zip/files/pNN/.*options\.reports, or null"):
        list(MimicCxrJpg(folder, {}).records())
    assert {record.report for record in MimicCxrJpg(folder, {"reports": None}).records()} == {None}
    with pytest.raises(
        UserError, match=r"has no file mimic-cxr-2\.0\.0-split\.csv\.gz \(or \.csv\) in options\.folder"
    ):
        list(MimicCxrJpg(physionet, {}).records())
    with pytest.raises(UserError, match=r"options\.report: unknown key; did you mean 'reports'"):
        MimicCxrJpg(folder, {"report": None})
    write(folder / "mimic-cxr-2.0.0-split.csv", "dicom_id,split\n")
    with pytest.raises(UserError, match=r"has 2 files mimic-cxr-2\.0\.0-split"):
        list(MimicCxrJpg(folder, {}).records())
    with pytest.raises(UserError, match=r"options\.uncertain"):
        MimicCxrJpg(folder, {"uncertain": "maybe"})
