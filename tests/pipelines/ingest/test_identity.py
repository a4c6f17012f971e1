"""Which images are one patient's: what names, headers, files and pixels may join, and what they must not."""

import csv
import hashlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from pipelines.ingest.aliases import Aliases
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.stage import run
from pipelines.records import IMAGES, SPLIT_IMAGES, ImageRow, SplitImageRow
from pipelines.split.config import Fractions, NearDuplicates, SplitConfig
from pipelines.split.stage import run as run_split


def blocks(random: np.random.Generator, depth: int, side: int = 48) -> np.ndarray:
    """side x side x depth values: blocks of 6 x 6 pixels that stay for 10 slices, and noise."""
    coarse = np.kron(random.normal(0, 1, (side // 6, side // 6, -(-depth // 10))), np.ones((6, 6, 10)))
    return ((coarse[..., :depth] + random.normal(0, 0.3, (side, side, depth))) * 1000).astype(np.int16)


def write_nifti(path: Path, values: np.ndarray) -> None:
    nibabel.Nifti1Image(values, np.eye(4)).to_filename(path)


def write_dicom(path: Path, values: np.ndarray, **elements: Any) -> None:
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"1.2.3.{path.stem}"
    dataset.Rows, dataset.Columns = values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.PixelData = values.astype(np.int16).tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)


def write_table(root: Path, columns: list[str], rows: list[list[Any]]) -> None:
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def ingest(folder: Path, *sources: str) -> dict[str, dict[str, Any]]:
    """Ingest folders as sources of their names; the summaries."""
    settings = {
        name: SourceConfig(
            adapter="table", root=str(folder / name), patient_ids="public", options={"frames": "all", "modality": "ct"}
        )
        for name in sources
    }
    config = IngestConfig(sources=settings, max_pixels=1_000_000, max_failed_fraction=0.0)
    return {name: run(name, config, folder / "ingest" / name, folder) for name in sources}


def images_of(folder: Path, source: str) -> list[ImageRow]:
    return IMAGES.read(folder / "ingest" / source / "images.parquet")


def split(folder: Path, *sources: str) -> tuple[dict[str, Any], list[SplitImageRow]]:
    config = SplitConfig(
        seed=0,
        fractions=Fractions(train=0.6, validation=0.2, test=0.2),
        near_duplicates=NearDuplicates(max_distance=48, min_correlation=0.93),
    )
    summary = run_split(config, list(sources), folder / "ingest", folder / "split", folder)
    return summary, SPLIT_IMAGES.read(folder / "split/images.parquet")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the source `here`."""
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def hashed(source: str, name: str) -> str:
    return hashlib.sha256(f"{source}\0{name}".encode()).hexdigest()[:16]


def hashed_study(uid: str) -> str:
    """The same in every source."""
    return hashlib.sha256(f"study\0\0{uid}".encode()).hexdigest()[:16]


def test_no_patient_stands_in_two_splits_and_no_two_are_joined(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("volumes", "series", "blank_ends"):
        (tmp_path / name).mkdir()
    for number in range(5):
        write_nifti(tmp_path / f"volumes/v{number}.nii", blocks(random, 40))
    write_table(tmp_path / "volumes", ["file_name"], [[f"v{number}.nii"] for number in range(5)])
    for patient in range(2):
        values = blocks(random, 15)
        for number in range(15):
            path = tmp_path / f"series/{15 * patient + number}.dcm"
            write_dicom(path, values[..., number], PatientID=f"P{patient}", StudyInstanceUID=f"1.2.{patient}.{number}")
    write_table(tmp_path / "series", ["file_name"], [[f"{number}.dcm"] for number in range(30)])
    for number in range(10):
        values = np.zeros((48, 48, 8), np.int16)
        values[8:40, 8:40, 2:6] = random.integers(0, 1000, (32, 32, 4))
        write_nifti(tmp_path / f"blank_ends/b{number}.nii", values)
    rows = [[f"b{number}.nii", f"P{number}"] for number in range(10)]
    write_table(tmp_path / "blank_ends", ["file_name", "patient_id"], rows)

    sources = ("blank_ends", "series", "volumes")
    ingested = ingest(tmp_path, *sources)
    assert ingested["blank_ends"]["reasons"] == {"rejected": {"blank_image": 40}}
    assert [ingested[name]["ok"] for name in sources] == [40, 30, 200]
    assert [ingested[name]["patients_joined"] for name in sources] == [0, 0, 0]
    summary, images = split(tmp_path, *sources)
    of_whom = {
        image.image_id: (
            image.source,
            int(image.path.removesuffix(".dcm")) // 15 if image.source == "series" else image.path,
        )
        for image in images
    }
    assert len(set(of_whom.values())) == 10 + 2 + 5
    # Each patient or volume is one group, and each group is one patient or volume.
    assert len({(of_whom[image.image_id], image.group) for image in images}) == 17
    assert len({image.group for image in images}) == 17
    assert len({(image.group, image.split) for image in images}) == 17
    assert {image.split for image in images if image.source == "blank_ends"} == {"train", "validation", "test"}
    assert summary["without_group_information"] == {}


def test_ids_of_a_dicom_header_are_hashed_like_a_column_and_join_with_those_of_rows(tmp_path: Path, root: Path) -> None:
    random = np.random.default_rng(1)
    headers: list[dict[str, str]] = [
        {"PatientID": " 17 ", "StudyInstanceUID": "1.2.1"},
        {"PatientID": "17", "StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.9"},
        {"PatientID": "Anonymous", "SeriesInstanceUID": "1.2.2"},
        {"PatientID": "", "StudyInstanceUID": ""},
        {},
    ]
    for number, header in enumerate(headers):
        write_dicom(root / f"{number}.dcm", blocks(random, 1)[..., 0], **header)
    write_table(
        root, ["file_name", "patient_id"], [["0.dcm", ""], ["1.dcm", "x"], *([f"{n}.dcm", ""] for n in (2, 3, 4))]
    )
    ingest(tmp_path, "here")
    found = {image.path: (image.patient, image.study) for image in images_of(tmp_path, "here")}
    both = min(hashed("here", "17"), hashed("here", "x"))  # one patient, whose smaller hash stands for both
    assert found == {
        "0.dcm": (both, hashed_study("1.2.1")),
        "1.dcm": (both, hashed_study("1.2.1")),
        "2.dcm": (None, hashed_study("1.2.2")),
        "3.dcm": (None, None),
        "4.dcm": (None, None),
    }
    summary, images = split(tmp_path, "here")
    groups = {image.path: image.group for image in images}
    assert groups["0.dcm"] == groups["1.dcm"], "one study, whatever the rows call the patient"
    assert summary["groups"] == 4
    assert summary["without_group_information"] == {"here": 2}


def test_a_header_joins_rows_that_name_its_patient_with_those_that_name_none(tmp_path: Path, root: Path) -> None:
    random = np.random.default_rng(0)
    # Patient, and PatientID of the header: one patient half named, one under two names, a constant of an anonymiser.
    pairs = [("P9", "M1"), ("", "M1"), ("A", "M2"), ("B", "M2"), *((f"C{n}", "SITE7") for n in range(3)), ("", "SITE7")]
    for number, (_, header) in enumerate(pairs):
        write_dicom(root / f"{number}.dcm", random.normal(0, 300, (24, 24)), PatientID=header)
    write_table(root, ["file_name", "patient_id"], [[f"{n}.dcm", named] for n, (named, _) in enumerate(pairs)])
    summary = ingest(tmp_path, "here")["here"]
    patient = {row.path: row.patient for row in images_of(tmp_path, "here")}
    assert patient["0.dcm"] == patient["1.dcm"]
    assert patient["2.dcm"] == patient["3.dcm"]
    assert len(set(patient.values())) == 6  # M1, M2, three C, and the constant of the row that names nobody
    assert (summary["patients_from_headers"], summary["header_patients_ignored"]) == (2, 1)
    assert any(sentence.endswith("were not used: 1") for sentence in summary["warnings"])


def test_a_rejected_row_still_says_whose_picture_it_is(tmp_path: Path, root: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(random.integers(0, 255, (24, 24), dtype=np.uint8)).save(root / f"{number}.png")
    box = '[{"bbox": [500, 500, 9, 9]}]'
    rows = [["0.png", "P", ""], ["0.png", "Q", box], ["1.png", "P", ""], ["2.png", "Q", ""]]
    write_table(root, ["file_name", "patient_id", "objects"], rows)
    summary = ingest(tmp_path, "here")["here"]
    assert summary["reasons"]["rejected"] == {"bad_box": 1}
    assert len({row.patient for row in images_of(tmp_path, "here")}) == 1


@pytest.mark.parametrize("dummy", ["0", "00000000", "TEST", "test1", "no id", "-1", "999999", "ANONYMIZED01", "TCIA"])
def test_a_dummy_in_a_header_names_nobody(tmp_path: Path, root: Path, dummy: str) -> None:
    random = np.random.default_rng(0)
    for number in range(2):
        write_dicom(root / f"{number}.dcm", random.normal(0, 300, (24, 24)), PatientID=dummy)
    write_table(root, ["file_name"], [["0.dcm"], ["1.dcm"]])
    ingest(tmp_path, "here")
    assert {row.patient for row in images_of(tmp_path, "here")} == {None}


def test_a_study_in_two_sources_is_one_group(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for source in ("a", "b"):
        (tmp_path / source).mkdir()
        for number in range(2):
            study = f"1.2.{number}"
            write_dicom(tmp_path / source / f"{number}.dcm", random.normal(0, 300, (24, 24)), StudyInstanceUID=study)
        write_table(tmp_path / source, ["file_name"], [["0.dcm"], ["1.dcm"]])
    ingest(tmp_path, "a", "b")
    summary, images = split(tmp_path, "a", "b")
    assert summary["groups"] == 2
    assert len({(image.path, image.group) for image in images}) == 2


def test_a_source_of_placeholders_alone_is_split(tmp_path: Path, root: Path) -> None:
    for number in range(3):
        nearly_empty(number).save(root / f"{number}.png")
    write_table(root, ["file_name", "patient_id"], [[f"{number}.png", f"p{number}"] for number in range(3)])
    ingest(tmp_path, "here")
    assert split(tmp_path, "here")[0]["groups"] == 3


def nearly_empty(dot: int) -> Image.Image:
    """A white page with a small dot."""
    values = np.full((64, 64), 255, np.uint8)
    values[dot : dot + 6, 20:26] = 0
    return Image.fromarray(values)


def test_a_placeholder_joins_nobody(tmp_path: Path, root: Path) -> None:
    random = np.random.default_rng(2)
    rows = []
    for number in range(4):
        Image.fromarray(random.integers(0, 256, (64, 64), dtype=np.uint8)).save(root / f"{number}.png")
        # The same page: twice as the same bytes, twice as bytes of its own.
        nearly_empty(10).save(root / f"page{number}.png", compress_level=6 if number < 2 else number)
        rows += [
            [f"{number}.png", f"P{number}", f"Report {number}."],
            [f"page{number}.png", f"P{number}", f"Page {number}."],
        ]
    rows += [["page3.png", "P3", "Another text."], ["page3.png", "P1", "Of another patient."]]
    write_table(root, ["file_name", "patient_id", "text"], rows)
    summary = ingest(tmp_path, "here")["here"]
    assert summary["patients_joined"] == 0
    assert summary["reasons"] == {"rejected": {"near_uniform_copy": 2}, "duplicates": {"same_file": 1}}
    assert summary["near_uniform"] == 3
    images = {image.path: image for image in images_of(tmp_path, "here")}
    assert images["page0.png"].report == "Page 0."
    assert (images["page3.png"].report, images["page3.png"].other_reports) == ("Page 3.", ("Another text.",))
    assert len({images[f"page{number}.png"].patient for number in (0, 2, 3)}) == 3
    summary, of_split = split(tmp_path, "here")
    assert (summary["groups"], summary["near_uniform"]) == (4, {"here": 3})
    assert summary["near_duplicate_pairs"] == {"within": {}, "across": {}}
    assert len({(image.patient, image.group) for image in of_split}) == 4


def test_a_placeholder_of_two_sources_counts_in_the_first(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    for source in ("one", "two"):
        (tmp_path / source).mkdir()
        nearly_empty(30).save(tmp_path / source / "page.png")
        Image.fromarray(random.integers(0, 256, (64, 64), dtype=np.uint8)).save(tmp_path / source / "own.png")
        write_table(
            tmp_path / source,
            ["file_name", "patient_id", "split", "text"],
            [["page.png", "P", "test" if source == "two" else "train", "Page."], ["own.png", "P", "", ""]],
        )
    ingest(tmp_path, "one", "two")
    summary, images = split(tmp_path, "one", "two")
    assert summary["reasons"] == {"duplicates": {"same_file_in_another_source": 1}}
    assert summary["texts_of_duplicates"] == 1
    assert [(image.source, image.path) for image in images if image.path == "page.png"] == [("one", "page.png")]
    assert summary["groups"] == 2
    assert summary["leaks"]["images"] == {}


def test_volumes_that_share_a_slice_are_one_group(tmp_path: Path, root: Path) -> None:
    random = np.random.default_rng(4)
    first, second, third = (blocks(random, 3) for _ in range(3))
    second[..., 1] = first[..., 2]
    for number, values in enumerate((first, second, third)):
        write_nifti(root / f"v{number}.nii", values)
    # A picture of a slice, listed before its volume.
    write_nifti(root / "picture.nii", third[..., :1])
    write_table(root, ["file_name"], [[f"{name}.nii"] for name in ("picture", "v0", "v1", "v2")])
    summary = ingest(tmp_path, "here")["here"]
    assert summary["reasons"] == {"duplicates": {"same_pixels": 2}}
    summary, images = split(tmp_path, "here")
    groups = {(image.path, image.frame): image.group for image in images}
    assert len(groups) == 8
    assert len({groups[name] for name in groups if name[0] in ("v0.nii", "v1.nii")}) == 1
    assert len({groups[name] for name in groups if name[0] in ("picture.nii", "v2.nii")}) == 1
    assert summary["groups"] == 2


def test_several_texts_of_one_picture_are_kept_and_the_rest_is_counted(tmp_path: Path, root: Path) -> None:
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (40, 40), dtype=np.uint8)).save(root / "a.png")
    (root / "copy.png").write_bytes((root / "a.png").read_bytes())
    rows = [
        ["a.png", "Left pleural effusion.", "effusion", "PA"],
        ["a.png", "Small nodule.", "effusion", "lateral"],
        ["copy.png", "Widened mediastinum.", "effusion", ""],
        ["copy.png", "Small nodule.", "effusion", "PA"],
        ["a.png", "", "effusion", "PA"],
    ]
    write_table(root, ["file_name", "text", "labels", "view"], rows)
    summary = ingest(tmp_path, "here")["here"]
    assert (summary["ok"], summary["duplicates"], summary["several_reports"]) == (1, 4, 1)
    assert summary["dropped"] == {"report": 1, "view": 1}
    (image,) = images_of(tmp_path, "here")
    assert image.report == "Left pleural effusion."
    assert image.other_reports == ("Small nodule.", "Widened mediastinum.")
    _, (of_split,) = split(tmp_path, "here")
    assert (of_split.report, of_split.other_reports) == (image.report, image.other_reports)


def test_joined_names_have_one_that_stands_for_all() -> None:
    aliases = Aliases()
    aliases.join("d", "c")
    aliases.join("a", "b")
    assert [aliases.first(name) for name in "abcde"] == ["a", "a", "c", "c", "e"]
    aliases.join("d", "b")
    assert [aliases.first(name) for name in "abcde"] == ["a", "a", "a", "a", "e"]
    aliases.join("a", "d")
    aliases.join("f", "f")
    assert len(aliases) == 3
    assert aliases.joined == set("abcdf")
