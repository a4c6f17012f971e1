"""Folders of classes as COVID-19 Radiography, LC25000, HyperKvasir and Kermany's chest X-rays have them."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UserError
from pipelines.ingest.inspect.look import look, print_look
from pipelines.ingest.sources.class_folders import ClassFolders
from tests.pipelines.ingest.layouts import config, grey, ingest, mask, same_from_a_zip, save, sorted_out

PHOTOS = {"modality": "radiograph", "view": "frontal"}


def labels_of(root: Path, options: dict[str, Any]) -> dict[str, tuple[str, ...] | None]:
    records, rejected = sorted_out(ClassFolders(root, options))
    assert rejected == []
    return {record.name: record.labels for record in records}


@pytest.fixture
def covid(tmp_path: Path) -> Path:
    """COVID-19 Radiography Database: masks of the lungs, of another size, beside the images."""
    root = tmp_path / "COVID-19_Radiography_Dataset"
    for seed, name in enumerate(("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")):
        save(root / name / "images" / f"{name}-1.png", grey(seed, 30, 30))
        save(root / name / "masks" / f"{name}-1.png", mask((3, 3), height=26, width=26))
        (root / f"{name}.metadata.xlsx").write_text("x")
    (root / "README.md.txt").write_text("x")
    return root


def test_covid_radiography(covid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert labels_of(covid, PHOTOS) == {
        "COVID/images/COVID-1.png": ("COVID",),
        "Lung_Opacity/images/Lung_Opacity-1.png": ("Lung_Opacity",),
        "Normal/images/Normal-1.png": (),
        "Viral Pneumonia/images/Viral Pneumonia-1.png": ("Viral Pneumonia",),
    }
    same_from_a_zip(ClassFolders, covid, PHOTOS, tmp_path / "covid.zip")
    classes = {"COVID": "COVID-19", "Lung_Opacity": "lung opacity", "Normal": None, "Viral Pneumonia": "pneumonia"}
    summary, tables = ingest(tmp_path, "class_folders", covid, PHOTOS | {"classes": classes})
    assert (summary["ok"], summary["available"]) == (4, {"none": 4})
    assert {Path(image["path"]).stem: image["labels"] for image in tables["images"]} == {
        "COVID-1": ["COVID-19"],
        "Lung_Opacity-1": ["lung opacity"],
        "Normal-1": [],
        "Viral Pneumonia-1": ["pneumonia"],
    }
    assert {image["view"] for image in tables["images"]} == {"frontal"}
    named = "labels are names of folders, which options.classes does not name: COVID, Lung_Opacity, Normal (no finding)"
    assert not any(sentence.startswith("labels are") for sentence in summary["warnings"])
    print_look(look("here", config("class_folders", covid, PHOTOS), None))
    shown = capsys.readouterr().out
    assert f"! {named}, Viral Pneumonia" in shown
    assert "labels: COVID 1, Lung_Opacity 1, Viral Pneumonia 1, no finding 1" in shown
    assert "! image files under the root that no row names, which are not used: 4" in shown


def test_lc25000(tmp_path: Path) -> None:
    root = tmp_path / "lung_colon_image_set"
    places = ("colon_image_sets/colon_aca", "colon_image_sets/colon_n", "lung_image_sets/lung_n")
    for seed, place in enumerate(places):
        save(root / place / f"{Path(place).name.replace('_', '')}{seed}.jpeg", grey(seed))
    slides = {"modality": "pathology"}
    assert list(labels_of(root, slides).values()) == [("colon_aca",), ("colon_n",), ("lung_n",)]
    same_from_a_zip(ClassFolders, root, slides, tmp_path / "lc.zip")
    # A class by its path, by its name, and one that is not wanted.
    wanted = slides | {"classes": {"colon_image_sets/colon_aca": "colon adenocarcinoma", "lung_n": "Normal"}}
    records, rejected = sorted_out(ClassFolders(root, wanted))
    assert [record.labels for record in records] == [("colon adenocarcinoma",), ()]
    assert rejected == [("colon_image_sets/colon_n/colonn1.jpeg", "unlisted_class")]


def test_hyperkvasir_is_nested(tmp_path: Path) -> None:
    root = tmp_path / "labeled-images"
    for seed, place in enumerate(("lower-gi-tract/pathological-findings/polyps", "upper-gi-tract/z-line")):
        save(root / place / f"{seed}.jpg", grey(seed))
    (root / "image-labels.csv").write_text("Video file,Organ,Finding,Classification\n")
    assert list(labels_of(root, {"modality": "endoscopy"}).values()) == [("polyps",), ("z-line",)]
    same_from_a_zip(ClassFolders, root, {"modality": "endoscopy"}, tmp_path / "h.zip")


@pytest.fixture
def chest(tmp_path: Path) -> Path:
    """Kermany's chest X-rays: splits, patients in names; the archive has a folder of its own above."""
    root = tmp_path / "root"
    for seed, split in enumerate(("train", "val", "test")):
        save(root / "chest_xray" / split / "NORMAL" / f"IM-01{seed}-0001.jpeg", grey(10 + seed))
        save(root / "chest_xray" / split / "PNEUMONIA" / f"person{seed}_bacteria_1.jpeg", grey(20 + seed))
        (root / "chest_xray" / split / ".DS_Store").write_text("x")
    return root


def test_splits_and_patients(chest: Path, tmp_path: Path) -> None:
    options = PHOTOS | {"patient": r"(IM-\d+|person\d+)", "classes": {"NORMAL": None, "PNEUMONIA": "pneumonia"}}
    save(chest / "chest_xray" / "train" / "NORMAL" / "scan.jpeg", grey(9))
    records, rejected = sorted_out(ClassFolders(chest, options))
    assert {(record.split, record.labels, record.patient) for record in records} == {
        ("train", (), "IM-010"),
        ("train", ("pneumonia",), "person0"),
        ("validation", (), "IM-011"),
        ("validation", ("pneumonia",), "person1"),
        ("test", (), "IM-012"),
        ("test", ("pneumonia",), "person2"),
    }
    assert rejected == [("chest_xray/train/NORMAL/scan.jpeg", "no_patient_in_name")]
    same_from_a_zip(ClassFolders, chest, options, tmp_path / "c.zip")


def test_a_class_beside_the_splits_has_none(chest: Path) -> None:
    save(chest / "more" / "PNEUMONIA" / "x.jpeg", grey(1))
    _, rejected = sorted_out(ClassFolders(chest, PHOTOS))
    assert rejected == [("more/PNEUMONIA/x.jpeg", "unknown_split")]
    splits = {"chest_xray/train": "train", "chest_xray/test": "validation", "more": None}
    records, rejected = sorted_out(ClassFolders(chest, PHOTOS | {"splits": splits}))
    assert rejected == []
    assert [record.split for record in records] == ["validation"] * 2 + ["train"] * 2 + [None]


def test_folders_that_are_called_as_splits_are_may_be_classes(tmp_path: Path) -> None:
    for seed, name in enumerate(("test", "control")):
        save(tmp_path / name / "a.png", grey(seed))
    with pytest.raises(UserError, match="images of no class lie in a folder test, a word for a split"):
        list(ClassFolders(tmp_path, PHOTOS).records())
    assert list(labels_of(tmp_path, PHOTOS | {"splits": {}}).values()) == [("control",), ("test",)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": {}}, "options.class: unknown key; did you mean 'classes'"),
        ({"modality": "x-ray"}, "modality is none of radiograph"),
        ({"view": "above"}, "view is none of frontal"),
        ({"patient": "("}, "options.patient: "),
        ({"splits": {"a": "holdout"}}, "holdout is no split"),
        ({"classes": {"TB": "tuberculosis"}}, "no images in a folder TB: see options.classes"),
        ({}, "a folder's name is a number and no word: see options.classes"),
        ({"splits": {"elsewhere": "train"}}, "no images in folders for each class: see options.splits"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    for seed in range(2):
        save(tmp_path / "train" / str(seed) / "a.png", grey(seed))
    save(tmp_path / "a.png", grey(3))
    with pytest.raises(UserError) as caught:
        list(ClassFolders(tmp_path, PHOTOS | change).records())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_folders_for_one_split_are_refused(chest: Path) -> None:
    (chest / "chest_xray" / "test").rename(chest / "chest_xray" / "valid")
    with pytest.raises(UserError, match="the folders val and valid both mean validation"):
        list(ClassFolders(chest, PHOTOS).records())
