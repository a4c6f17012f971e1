"""MS-CXR and MIMIC-5x200 beside MIMIC-CXR-JPG, whose files they share: real folders through `ingest` and `split`."""

import gzip
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.patient_key import make_key
from pipelines.ingest.stage import run as ingest
from pipelines.records import ANNOTATIONS, SPLIT_IMAGES, SplitImageRow
from pipelines.split.config import SplitConfig
from pipelines.split.stage import run as split
from pipelines.studies.definition import PAPER, Study, load_data_sets, load_study
from pipelines.studies.settings import missing, params_of
from tests.pipelines.ingest.chest_layouts import save, write
from tests.pipelines.ingest.layouts import zipped
from tests.pipelines.ingest.test_mimic_cxr_jpg import labels, metadata
from tests.pipelines.ingest.test_ms_cxr import line, table

# DICOM id -> subject, MIMIC's split; the study has the number of its subject.
IMAGES = {
    "a1": ("10000001", "train"),
    "a2": ("10000001", "train"),
    "b1": ("10000002", "train"),
    "c1": ("10000003", "train"),
    "d1": ("10000004", "train"),
    "e1": ("10000005", "train"),
    "f1": ("10000006", "train"),
    "9a": ("10000007", "train"),
    "9b": ("10000008", "validate"),
    "9c": ("10000009", "test"),
}
MS_CXR = {"a1": "test", "b1": "train"}
MIMIC_5X200 = {
    "c1": ("Edema", "test"),
    "d1": ("Pneumonia", "test"),
    "e1": ("Edema", "train"),
    "f1": ("Pneumonia", "train"),
}


def study_of(dicom: str) -> str:
    subject = IMAGES[dicom][0]
    return f"files/p{subject[:2]}/p{subject}/s{subject}"


def file_of(dicom: str) -> str:
    return f"{study_of(dicom)}/{dicom}.jpg"


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The three sets where data.yaml says, below the current folder; each has copies of the files that it shares."""
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "data/raw"
    mimic = raw / "mimic_cxr"
    for seed, dicom in enumerate(IMAGES):
        save(mimic / file_of(dicom), seed, 64, 48)
        write(tmp_path / "reports" / f"{study_of(dicom)}.txt", f" FINDINGS: Report of {dicom}.\n")
    zipped(tmp_path / "reports", mimic / "mimic-cxr-reports.zip")
    splits = "".join(f"{dicom},{subject},{subject},{split}\n" for dicom, (subject, split) in IMAGES.items())
    listings = {
        "metadata": metadata(*(f"{dicom},{subject},{subject},,PA" for dicom, (subject, _) in IMAGES.items())),
        "split": f"dicom_id,study_id,subject_id,split\n{splits}",
        "chexpert": labels(),
    }
    for kind, text in listings.items():
        (mimic / f"mimic-cxr-2.0.0-{kind}.csv.gz").write_bytes(gzip.compress(text.encode()))
    boxes = (
        line(file_of(dicom), "Edema", "mild edema", (100, 100, 200, 200), split) for dicom, split in MS_CXR.items()
    )
    write(raw / "ms_cxr/MS_CXR_Local_Alignment_v1.1.0.csv", table(*boxes))
    rows = (f"{file_of(dicom)},{label},mild {label},{split}\n" for dicom, (label, split) in MIMIC_5X200.items())
    write(raw / "mimic_5x200/metadata.csv", "file_name,labels,text,split\n" + "".join(rows))
    for folder, part in (("ms_cxr", MS_CXR), ("mimic_5x200", MIMIC_5X200)):
        for dicom in part:
            (raw / folder / study_of(dicom)).mkdir(parents=True)
            shutil.copy(mimic / file_of(dicom), raw / folder / file_of(dicom))
    return raw


class Tables:
    """What `ingest` and `split` make of data sets by a study's own params.

    Args:
        name: The study.
        repository: With `studies/`.
        keys: The data sets; None: those of the study that are there.
    """

    def __init__(self, name: str, repository: Path, keys: Sequence[str] | None = None) -> None:
        self.study: Study = load_study(name, repository / "studies")
        data = load_data_sets(repository / "studies/data.yaml")
        there = {key: data[key] for key in keys or self.study.data_sets if missing(data[key]) is None}
        values = params_of(self.study, name, PAPER, there, repository)
        sources = sorted(there)
        for source in sources:
            ingest(source, parse(IngestConfig, values["ingest"], "ingest"), Path("data/ingest", source))
        self.summary: dict[str, Any] = split(parse(SplitConfig, values["split"], "split"), sources)
        self.images: dict[str, SplitImageRow] = {
            Path(row.path).stem: row for row in SPLIT_IMAGES.read(Path("data/split/images.parquet"))
        }
        self.boxed = {row.image_id for row in ANNOTATIONS.read(Path("data/split/annotations.parquet"))}

    def of(self, source: str, split: str) -> set[str]:
        return {dicom for dicom, row in self.images.items() if (row.source, row.split) == (source, split)}

    @property
    def learned_from(self) -> set[str]:
        """The images that models learn from."""
        found = set[str]().union(*(self.of(source, "train") for source in self.study.trains_on))
        assert found
        return found


@pytest.mark.parametrize("name", ["000_table2", "000_table6", "000_figure6"])
def test_images_of_ms_cxr_are_tested_with_their_boxes_and_not_learned_from(
    name: str, raw: Path, repository: Path
) -> None:
    make_key(Path("keys"))
    tables = Tables(name, repository)
    assert tables.of("ms_cxr", "test") == {"a1"}
    assert tables.of("ms_cxr", "train") == {"b1"}
    assert {tables.images[dicom].image_id for dicom in MS_CXR} == tables.boxed
    assert tables.learned_from == IMAGES.keys() - MS_CXR.keys() - {"9b", "9c"}
    assert tables.summary["reasons"]["duplicates"] == {"same_file_in_another_source": len(MS_CXR)}
    # Another image of the tested patient, which MIMIC trains with, stays and is counted.
    assert tables.summary["leaks"]["images"] == {"ms_cxr": 1, "whole_mimic_cxr": 1}


@pytest.mark.parametrize("name", ["000_table3", "000_table5"])
def test_images_of_mimic_5x200_are_tested_and_not_learned_from(name: str, raw: Path, repository: Path) -> None:
    make_key(Path("keys"))
    tables = Tables(name, repository)
    assert tables.of("mimic_5x200", "test") == {"c1", "d1"}
    # Those that the heads of table V learn from.
    assert tables.of("mimic_5x200", "train") == {"e1", "f1"}
    assert {dicom: tables.images[dicom].labels for dicom in MIMIC_5X200} == {
        dicom: (label,) for dicom, (label, _) in MIMIC_5X200.items()
    }
    assert tables.images["c1"].report == "mild Edema"
    assert tables.learned_from == IMAGES.keys() - MIMIC_5X200.keys() - {"9b", "9c"}
    assert tables.summary["reasons"]["duplicates"] == {"same_file_in_another_source": len(MIMIC_5X200)}
    assert tables.summary["leaks"]["images_in_several_splits"] == {"mimic_5x200": 2}


def test_all_three_in_one_study(raw: Path, repository: Path) -> None:
    make_key(Path("keys"))
    tables = Tables("000_table2", repository, ["whole_mimic_cxr", "ms_cxr", "mimic_5x200"])
    assert tables.of("ms_cxr", "test") == {"a1"}
    assert tables.of("mimic_5x200", "test") == {"c1", "d1"}
    assert tables.of("whole_mimic_cxr", "test") == {"9c"}
    assert tables.learned_from == {"a2", "9a"}
    shared = len(MS_CXR) + len(MIMIC_5X200)
    assert tables.summary["reasons"]["duplicates"] == {"same_file_in_another_source": shared}


def test_ms_cxr_without_a_split_is_refused(raw: Path, repository: Path) -> None:
    make_key(Path("keys"))
    listing = raw / "ms_cxr/MS_CXR_Local_Alignment_v1.1.0.csv"
    listing.rename(listing.with_name("MS_CXR_Local_Alignment_v1.0.0.csv"))
    with pytest.raises(UserError, match=r"MS_CXR_Local_Alignment_v1\.1\.0\.csv"):
        Tables("000_table2", repository)


@pytest.mark.parametrize("key", ["ms_cxr", "whole_mimic_cxr"])
def test_sets_of_physionet_need_the_patient_key(raw: Path, repository: Path, key: str) -> None:
    with pytest.raises(UserError, match="make patient-key"):
        Tables("000_table2", repository, [key])
