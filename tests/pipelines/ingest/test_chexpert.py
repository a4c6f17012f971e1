"""CheXpert, in the layout of the small copy; patients and labels are invented."""

from pathlib import Path

import pytest

from pipelines.errors import UserError
from pipelines.ingest.sources.chexpert import Chexpert
from tests.pipelines.ingest.chest_layouts import ingest, looked, rows, save, write

HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices\n"
)
TRAIN = [
    "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0",
    "CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,PA,,,-1.0,1.0,,-1.0,,,,,-1.0,,1.0,",
    "CheXpert-v1.0-small/train/patient00002/study1/view2_lateral.jpg,Unknown,0,Lateral,,1.0,,,,,,,,,,,,,",
]
VALID = ["CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP" + ",0.0" * 14]


def listing(*lines: str) -> str:
    return HEADER + "".join(f"{line}\n" for line in lines)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "chexpert"
    write(root / "train.csv", listing(*TRAIN))
    write(root / "valid.csv", listing(*VALID))
    for seed, line in enumerate(TRAIN + VALID):
        save(root / line.partition(",")[0].removeprefix("CheXpert-v1.0-small/"), seed)
    return root


def test_the_layout(root: Path) -> None:
    records, rejected = rows("chexpert", root)
    assert rejected == []
    assert [(r.row, r.name, r.split, r.patient, r.view) for r in records] == [
        ("train.csv:2", "train/patient00001/study1/view1_frontal.jpg", "train", "patient00001", "frontal"),
        ("train.csv:3", "train/patient00002/study2/view1_frontal.jpg", "train", "patient00002", "frontal"),
        ("train.csv:4", "train/patient00002/study1/view2_lateral.jpg", "train", "patient00002", "lateral"),
        ("valid.csv:2", "valid/patient64541/study1/view1_frontal.jpg", "validation", "patient64541", "frontal"),
    ]
    # Where `No Finding` is 0 and all others too, there is a finding that no column names.
    assert [r.labels for r in records] == [("Support Devices",), ("Lung Opacity", "Fracture"), (), None]
    assert [r.attributes for r in records] == [
        {"sex": "Female", "age": "68", "projection": "AP"},
        {"sex": "Female", "age": "87", "projection": "PA"},
        {"age": "0"},
        {"sex": "Male", "age": "73", "projection": "AP"},
    ]
    assert {(r.modality, r.report) for r in records} == {("radiograph", None)}


def test_what_uncertain_labels_mean(root: Path) -> None:
    second = list(Chexpert(root, {"uncertain": "positive"}).records())[1]
    assert second.labels == ("Cardiomegaly", "Lung Opacity", "Edema", "Pleural Effusion", "Fracture")
    write(root / "train.csv", listing(TRAIN[1].replace("1.0,,-1.0,,,,,-1.0,,1.0,", "-1.0,,,,,,,,,,")))
    assert [
        next(iter(Chexpert(root, {"uncertain": policy}).records())).labels
        for policy in ("missing", "negative", "positive")
    ] == [None, None, ("Cardiomegaly", "Lung Opacity")]


def test_the_root_may_be_the_folder_above(root: Path, tmp_path: Path) -> None:
    expected, _ = rows("chexpert", root)
    above = tmp_path / "above"
    above.mkdir()
    root.rename(above / "CheXpert-v1.0-small")
    write(above / "CheXpert-v1.0-small" / "test.csv", listing(TRAIN[0].replace("train/", "test/")))
    save(above / "CheXpert-v1.0-small" / "test/patient00001/study1/view1_frontal.jpg", 9)
    records, _ = rows("chexpert", above)
    assert [r.name for r in records[:4]] == [f"CheXpert-v1.0-small/{record.name}" for record in expected]
    assert (records[4].row, records[4].split) == ("CheXpert-v1.0-small/test.csv:2", "test")
    write(above / "CheXpert-v1.0" / "train.csv", listing(TRAIN[0]))
    with pytest.raises(UserError, match=r"holds CheXpert-v1\.0 and CheXpert-v1\.0-small: name one as root"):
        Chexpert(above, {})
    with pytest.raises(UserError, match=r"has no train\.csv, valid\.csv, test\.csv, and no folder CheXpert-v1\.0 or"):
        Chexpert(tmp_path, {})


def test_rows_that_cannot_be_used(root: Path) -> None:
    first = TRAIN[0]
    lines = [
        first,
        first.replace("CheXpert-v1.0-small/train/", "CheXpert-v1.0-small/../train/"),
        first.replace("CheXpert-v1.0-small/train/patient00001", "train"),
        first.partition(",")[2].join([",", ""]),
        first.replace("patient00001", "patient00009"),
        first.replace("Frontal,AP", "Oblique,"),
        first.replace("Frontal,AP,1.0", "Frontal,AP,3"),
        "one,two",
    ]
    write(root / "train.csv", listing(*lines))
    records, rejected = rows("chexpert", root)
    assert [record.row for record in records] == ["train.csv:2", "valid.csv:2"]
    assert rejected == [
        ("train.csv:3", "missing_file_name"),
        ("train.csv:4", "missing_file_name"),
        ("train.csv:5", "missing_file_name"),
        ("train.csv:6", "missing_file"),
        ("train.csv:7", "unknown_view"),
        ("train.csv:8", "bad_labels"),
        ("train.csv:9", "bad_row"),
    ]
    assert ("train.csv:6", "missing_file") not in rows("chexpert", root, only_present=True)[1]
    with pytest.raises(UserError, match=r"options\.uncertian: unknown key; did you mean 'uncertain'"):
        Chexpert(root, {"uncertian": "positive"})
    write(root / "train.csv", "Path,Sex\nx,y\n")
    with pytest.raises(UserError, match=r"train\.csv has no column Frontal/Lateral, Age, AP/PA, No Finding"):
        list(Chexpert(root, {}).records())


def test_the_tables_and_what_inspect_says(root: Path, tmp_path: Path) -> None:
    summary, tables = ingest(tmp_path, "chexpert", root)
    assert (summary["inputs"], summary["ok"]) == (4, 4)
    assert summary["selected"] == {"train": 3, "validation": 1}
    assert summary["warnings"] == ["no row has text: nothing can be learnt from reports of this source"]
    assert len({image["patient"] for image in tables["images"]}) == 3
    found = looked("chexpert", root)
    meanings = {
        c.profile.name: [v.meaning for v in c.values] for c in found.columns if c.profile.listing == "train.csv"
    }
    assert meanings["Cardiomegaly"] == ["null: nobody said"]
    assert meanings["AP/PA"] == [None, None]
    assert meanings["Frontal/Lateral"] == ["frontal", "lateral"]
    assert found.counts["labels"] == {
        "Fracture": 1,
        "Lung Opacity": 1,
        "Support Devices": 1,
        "no finding": 1,
        "unknown": 1,
    }
    assert found.read.listed.files.unlisted == 0
