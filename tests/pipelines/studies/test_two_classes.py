"""Each data set of an AUC, or of an accuracy over classes, tells at least two classes apart as data.yaml reads it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from pipelines.config import load_params, parse
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.sources.rsna_pneumonia import CLASSES, LABELS
from pipelines.ingest.stage import run
from pipelines.records import IMAGES
from pipelines.studies.definition import Column, load_data_sets, load_study, study_names
from pipelines.studies.settings import source_of
from tests.pipelines.ingest.chest_layouts import save, write
from tests.pipelines.ingest.test_kaggle_chest import save_dicom

STUDIES = Path(__file__).parents[3] / "studies"
# Tasks that tell classes apart; an answer to a question is right or wrong.
TASKS = ("detection", "probe", "zero_shot")
# Metrics of which each image must have one class.
OF_ONE_CLASS = ("auc_ovr", "accuracy")


def columns_of_classes() -> list[Column]:
    """Those with an AUC or an accuracy, of all studies."""
    columns = [column for name in study_names(STUDIES) for column in load_study(name, STUDIES).columns]
    return [one for one in columns if one.task in TASKS and one.within.startswith(("auc", "accuracy"))]


WANTED = sorted({(column.data or "", column.within.partition("@")[0]) for column in columns_of_classes()})


def folders(*names: str) -> Callable[[Path], None]:
    """Two images in each folder."""

    def lay(root: Path) -> None:
        for seed, name in enumerate(names):
            for of_folder in range(2):
                save(root / name / f"{seed}_{of_folder}.png", 2 * seed + of_folder)

    return lay


def siim(root: Path) -> None:
    write(root / "train-rle.csv", "ImageId,EncodedPixels\n1.2.1,5 10\n1.2.2,-1\n1.2.3,-1\n")
    for seed in range(1, 4):
        save_dicom(root / f"dicom-images-train/1.2.{seed}.dcm", seed, 1024, patient=str(seed))


def rsna(root: Path) -> None:
    write(root / LABELS, "patientId,x,y,width,height,Target\na,264,152,213,379,1\nb,,,,,0\nc,,,,,0\n")
    write(root / CLASSES, "patientId,class\na,Lung Opacity\nb,Normal\nc,No Lung Opacity / Not Normal\n")
    for seed, name in enumerate("abc"):
        save_dicom(root / f"stage_2_train_images/{name}.dcm", seed)


def table(root: Path) -> None:
    """The columns and words that data.yaml asks for."""
    write(root / "metadata.csv", "file_name,labels\na.png,edema\nb.png,Normal\nc.png,\n")
    for seed, name in enumerate("abc"):
        save(root / f"{name}.png", seed)


# Small copies, as adapters' tests have them; others are tables by data.yaml's words.
LAYOUTS: dict[str, Callable[[Path], None]] = {
    "siim_pneumothorax": siim,
    "rsna_pneumonia": rsna,
    "covid_radiography": folders("COVID/images", "COVID/masks", "Normal/images", "Viral Pneumonia/images"),
    "lc25000": folders("colon_image_sets/colon_aca", "colon_image_sets/colon_n", "lung_image_sets/lung_n"),
    "hyperkvasir": folders("lower-gi-tract/pathological-findings/polyps", "upper-gi-tract/z-line"),
    "pcam200": folders("train/tumor", "train/normal", "test/tumor", "test/normal"),
    "breast_cancer": folders("benign", "malignant", "normal"),
}


@cache
def label_sets(key: str, folder: Path) -> set[frozenset[str]]:
    """What different images of a data set are labelled with, where that is known."""
    one = load_data_sets(STUDIES / "data.yaml")[key]
    LAYOUTS.get(key, table)(folder / "root")
    ingest = load_params(STUDIES.parent / "params.yaml")["ingest"]
    sources = {key: source_of(one) | {"root": str(folder / "root")}}
    run(key, parse(IngestConfig, ingest | {"sources": sources}, "ingest"), folder / "out", folder, folder / "cache")
    rows = IMAGES.read(folder / "out/images.parquet")
    return {frozenset(row.labels) for row in rows if row.labels is not None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data_sets")


@pytest.mark.parametrize(("key", "metric"), WANTED)
def test_a_column_of_classes_has_two(key: str, metric: str, folder: Path) -> None:
    adapter = load_data_sets(STUDIES / "data.yaml")[key].adapter
    assert key in LAYOUTS or adapter == "table", "write a small copy of its layout"
    found = label_sets(key, folder / key)
    assert len(found) >= 2
    if metric in OF_ONE_CLASS:
        assert max(map(len, found)) == 1


def test_what_a_table_needs_is_said(tmp_path: Path) -> None:
    """A cell without a word would be no class, and a folder without a table is refused."""
    of_classes = {key for key, _ in WANTED}
    for key, one in load_data_sets(STUDIES / "data.yaml").items():
        if one.adapter == "table":
            wanted = {"metadata.csv", "file_name", "labels" if key in of_classes else "text"}
            assert {word for word in wanted if word not in one.obtained} == set(), key
