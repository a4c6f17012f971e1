"""RSNA Pneumonia and SIIM-ACR Pneumothorax in Kaggle's layouts, with DICOM files; ids and findings are invented."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from pipelines.errors import Rejected, UserError
from pipelines.ingest.images_by_stem import images_by_stem
from pipelines.ingest.record import Region
from pipelines.ingest.run_lengths import decode_relative
from pipelines.ingest.sources.rsna_pneumonia import CLASSES, LABELS, RsnaPneumonia
from pipelines.ingest.sources.siim_pneumothorax import SiimPneumothorax
from pipelines.masks import decode
from tests.pipelines.ingest.chest_layouts import ingest, looked, rows, save, write

UID = "1.2.276.0.7230010.3.1.4.8323329.1000.1517875161.100"


def save_dicom(path: Path, seed: int, side: int = 64, patient: str = "") -> None:
    """A square picture that no other seed has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(seed)])
    dataset.PatientID, dataset.Modality = patient, "CR"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = side, side, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = np.kron(small, np.ones((side // 16, side // 16), np.uint8)).tobytes()
    dataset.save_as(path, enforce_file_format=True)


# --- RSNA ---


def box(*edges: float) -> Region:
    return Region(label="Lung Opacity", box=edges, box_size=(1024, 1024))  # type: ignore[arg-type]


@pytest.fixture
def rsna(tmp_path: Path) -> Path:
    root = tmp_path / "rsna"
    write(
        root / LABELS,
        "patientId,x,y,width,height,Target\n"
        "0004,,,,,0\n00c0,264.0,152.0,213.0,379.0,1\n0009,,,,,0\n00c0,562.0,152.0,256.0,453.0,1\n00c1,,,,,0\n",
    )
    write(
        root / CLASSES,
        "patientId,class\n0004,No Lung Opacity / Not Normal\n00c0,Lung Opacity\n0009,Normal\n00c0,Lung Opacity\n",
    )
    for seed, name in enumerate(("train_images/0004", "train_images/00c0", "train_images/0009", "train_images/00c1")):
        save_dicom(root / f"stage_2_{name}.dcm", seed, patient=Path(name).name)
    save_dicom(root / "stage_2_test_images" / "0100.dcm", 9)
    return root


def test_rsna(rsna: Path) -> None:
    records, rejected = rows("rsna_pneumonia", rsna)
    assert rejected == []
    assert [(r.row, r.name, r.patient, r.labels) for r in records] == [
        (f"{LABELS}:2", "stage_2_train_images/0004.dcm", "0004", None),
        (f"{LABELS}:3", "stage_2_train_images/00c0.dcm", "00c0", ("Lung Opacity",)),
        (f"{LABELS}:4", "stage_2_train_images/0009.dcm", "0009", ()),
        (f"{LABELS}:6", "stage_2_train_images/00c1.dcm", "00c1", None),
        ("stage_2_test_images/0100.dcm", "stage_2_test_images/0100.dcm", "0100", None),
    ]
    assert [r.regions for r in records] == [(), (box(264, 152, 477, 531), box(562, 152, 818, 605)), (), (), ()]
    assert {(r.modality, r.view, r.split) for r in records} == {("radiograph", "frontal", None)}


def test_rsna_in_tables_and_as_pngs_of_another_size(rsna: Path, tmp_path: Path) -> None:
    folder = rsna / "stage_2_train_images"
    (folder / "00c0.dcm").unlink()
    save(folder / "00c0.png", 5, 256, 256)
    save(folder / "0009.png", 6, 256, 256)  # beside its DICOM file, which counts
    summary, tables = ingest(tmp_path, "rsna_pneumonia", rsna)
    assert (summary["inputs"], summary["ok"], summary["files"]["unlisted_suffixes"]) == (5, 5, {".png": 1})
    assert [[row[edge] for edge in ("x0", "y0", "x1", "y1")] for row in tables["annotations"]] == [
        [66, 38, 119.25, 132.75],
        [140.5, 38, 204.5, 151.25],
    ]
    found = looked("rsna_pneumonia", rsna)
    assert found.counts["labels"] == {"unknown": 3, "Lung Opacity": 1, "no finding": 1}
    assert (found.patients, found.without_patient) == (5, 0)
    assert all(column.is_used for column in found.columns)


def test_rsna_rows_that_cannot_be_used(rsna: Path) -> None:
    write(
        rsna / LABELS,
        "patientId,x,y,width,height,Target\n"
        "0004,1,1,2,2,0\n00c0,264,152,213,379,1\n00c0,562,152,,453,1\n0009,1,1,5,5,1\n00c1,,,,,2\n,,,,,0\nabcd,,,,,0\n1,2\n",
    )
    write(rsna / CLASSES, "patientId,class\n0009,Normal\n00c1,Sick\n0777,Normal\n")
    save_dicom(rsna / "stage_2_train_images" / "0555.dcm", 5)
    records, rejected = rows("rsna_pneumonia", rsna)
    assert [r.patient for r in records] == ["0100"]
    assert rejected == [
        (f"{LABELS}:7", "missing_file_name"),
        (f"{LABELS}:9", "bad_row"),
        (f"{LABELS}:2", "bad_box"),
        (f"{LABELS}:4", "null_box"),  # the image's other box does not save it
        (f"{LABELS}:5", "bad_labels"),
        (f"{CLASSES}:3", "bad_labels"),
        (f"{LABELS}:8", "missing_file"),
        (f"{CLASSES}:4", "annotation_without_row"),
        ("stage_2_train_images/0555.dcm", "unlisted_file"),
    ]
    write(rsna / LABELS, "patientId,x,y,width,height,Target\n0004,left,1,2,2,1\n00c1,,,,,0\n0009,,,,,0\n")
    write(rsna / CLASSES, "patientId,class\n00c1,Normal\n00c1,Lung Opacity\n0009,Lung Opacity\n")
    assert rows("rsna_pneumonia", rsna)[1][:3] == [
        (f"{LABELS}:2", "bad_box"),
        (f"{LABELS}:3", "bad_labels"),
        (f"{LABELS}:4", "bad_labels"),
    ]


def test_rsna_that_is_refused(rsna: Path) -> None:
    with pytest.raises(UserError, match=r"options\.lable: unknown key; did you mean 'label'"):
        RsnaPneumonia(rsna, {"lable": "x"})
    with pytest.raises(UserError, match=r"has no images in train: name their folder in options\.images"):
        RsnaPneumonia(rsna, {"images": "train"})
    (rsna / CLASSES).unlink()
    with pytest.raises(UserError, match=rf"{CLASSES} cannot be read"):
        list(RsnaPneumonia(rsna, {"label": "pneumonia"}).records())


# --- run lengths ---


def test_a_mask_drawn_by_hand() -> None:
    drawn = np.array(
        [
            [0, 0, 1, 0, 0],
            [0, 1, 1, 0, 0],
            [0, 1, 0, 0, 1],
        ],
        bool,
    )
    # Down the columns: 000 011 110 000 001. Four pixels, four marked, six, one marked.
    assert (decode_relative("4 4 6 1", 5, 3) == drawn).all()
    assert (decode_relative(" 4 2 0 2 6\t1\n", 5, 3) == drawn).all()
    assert decode_relative("0 15", 5, 3).all()
    assert np.argwhere(decode_relative("14 1", 5, 3)).tolist() == [[2, 4]]
    # Absolute starts, as other competitions write them, lead beyond the image or to another mask.
    with pytest.raises(Rejected, match="bad_rle"):
        decode_relative("4 4 14 1", 5, 3)


@pytest.mark.parametrize(
    "code",
    [
        "",
        "4",
        "4 4 6",
        "4 -4",
        "-1 3",
        "4 4.0",
        "a b",
        "4 0",
        "0 16",
        "15 1",
        "999999999 1",
        "1 99999999999999999999",
        "٣ ٤",
    ],
)
def test_codes_that_are_none(code: str) -> None:
    with pytest.raises(Rejected) as caught:
        decode_relative(code, 5, 3)
    assert caught.value.reason == "bad_rle"


# --- SIIM ---


@pytest.fixture
def siim(tmp_path: Path) -> Path:
    """The first image has two overlapping masks, the second none; 1025: row 1 of column 1."""
    root = tmp_path / "siim"
    write(
        root / "train-rle.csv",
        f"ImageId, EncodedPixels\n{UID}1, 1025 2 1022 3\n{UID}2, -1\n{UID}1,1026 2\n{UID}3,-1\n",
    )
    for number in (1, 2):
        name = f"dicom-images-train/1.2.{number}/1.2.{number}.7/{UID}{number}.dcm"
        save_dicom(root / name, number, 1024, patient=f"patient {number}")
    save_dicom(root / "dicom-images-train" / f"{UID}3.dcm", 3, patient="patient 3")
    save_dicom(root / "dicom-images-test/1.2.4/1.2.4.7" / f"{UID}4.dcm", 4)
    return root


def test_siim(siim: Path) -> None:
    records, rejected = rows("siim_pneumothorax", siim)
    assert rejected == []
    folder = "dicom-images-train"
    assert [(r.row, r.name, r.labels) for r in records] == [
        ("train-rle.csv:2", f"{folder}/1.2.1/1.2.1.7/{UID}1.dcm", ("pneumothorax",)),
        ("train-rle.csv:3", f"{folder}/1.2.2/1.2.2.7/{UID}2.dcm", None),
        ("train-rle.csv:5", f"{folder}/{UID}3.dcm", None),
        (f"dicom-images-test/1.2.4/1.2.4.7/{UID}4.dcm",) * 2 + (None,),
    ]
    assert {(r.modality, r.view, r.split, r.patient) for r in records} == {("radiograph", "frontal", None, None)}
    (region,) = records[0].regions
    assert (region.label, region.rle_size) == ("pneumothorax", (1024, 1024))
    marked = np.argwhere(decode(region.rle or "", 1024, 1024)).tolist()
    # 1025, 1026 and 1026, 1027 of column 1, and from 1027 + 1022 = 2049 three pixels of column 2.
    assert marked == [[1, 1], [1, 2], [2, 1], [2, 2], [3, 1], [3, 2]]
    assert [r.labels for r in rows("siim_pneumothorax", siim, negative="no_finding")[0][1:]] == [(), (), None]


def test_siim_in_tables_and_what_inspect_says(siim: Path, tmp_path: Path) -> None:
    summary, tables = ingest(tmp_path, "siim_pneumothorax", siim)
    assert (summary["inputs"], summary["ok"], summary["annotations"]) == (4, 4, 1)
    assert summary["patients_from_headers"] == 3
    (annotation,) = tables["annotations"]
    assert annotation["mask_path"] is None
    assert decode(annotation["mask"], 1024, 1024).sum() == 6
    found = looked("siim_pneumothorax", siim)
    (codes,) = (column for column in found.columns if column.profile.name == "EncodedPixels")
    assert [value.meaning for value in codes.values] == ["no mask", "5 pixels", "no mask", "2 pixels"]
    assert found.read.listed.files.unlisted == 0


def test_siim_rows_that_cannot_be_used(siim: Path) -> None:
    lines = [f"{UID}1,0 5", f"{UID}1,1048575 2", f"{UID}2,-1", f"{UID}2,0 5", f"{UID}3,", ",-1", "1.2.3,-1", "1"]
    write(siim / "train-rle.csv", "ImageId, EncodedPixels\n" + "".join(f"{line}\n" for line in lines))
    save_dicom(siim / "dicom-images-train" / f"{UID}9.dcm", 9)
    records, rejected = rows("siim_pneumothorax", siim)
    assert len(records) == 1
    assert rejected == [
        ("train-rle.csv:7", "missing_file_name"),
        ("train-rle.csv:9", "bad_row"),
        ("train-rle.csv:3", "bad_rle"),
        ("train-rle.csv:4", "bad_labels"),
        ("train-rle.csv:6", "bad_rle"),
        ("train-rle.csv:8", "missing_file"),
        (f"dicom-images-train/{UID}9.dcm", "unlisted_file"),
    ]


def test_a_siim_image_of_another_size_and_what_is_refused(siim: Path, tmp_path: Path) -> None:
    (siim / f"dicom-images-train/1.2.1/1.2.1.7/{UID}1.dcm").unlink()
    save(siim / "dicom-images-train" / f"{UID}1.png", 1, 512, 512)
    summary, _ = ingest(tmp_path, "siim_pneumothorax", siim)
    assert summary["reasons"]["rejected"] == {"mask_size_differs": 1}
    with pytest.raises(UserError, match=r"options\.negatives: unknown key; did you mean 'negative'"):
        SiimPneumothorax(siim, {"negatives": "no_finding"})
    with pytest.raises(UserError, match=r"has no images in nowhere"):
        SiimPneumothorax(siim, {"images": "nowhere"})
    with pytest.raises(UserError, match=r"stage_2_train\.csv cannot be read"):
        list(SiimPneumothorax(siim, {"listing": "stage_2_train.csv"}).records())


def test_images_by_stem(tmp_path: Path) -> None:
    for name in ("x/1.2.3.PNG", "x/deep/1.2.3.dcm", "x/1.2.4.jpeg", "x/1.2.5", "x/notes.txt"):
        write(tmp_path / name, "x")
    assert images_by_stem(tmp_path, "x") == {"1.2.3": "x/deep/1.2.3.dcm", "1.2.4": "x/1.2.4.jpeg"}
