"""The texts of a study's training images, from real tables."""

from pathlib import Path

import pytest

from pipelines.records import CAPTIONS, SPLIT_IMAGES, CaptionRow
from pipelines.try_model import study
from pipelines.try_model.study import StudyTexts, study_texts
from tests.pipelines.captions.world import image_row


def caption(image: str, summary: str | None, *, oracle: bool = False) -> CaptionRow:
    return CaptionRow(
        item_id=image,
        image_id=image,
        source="toy",
        kind="image",
        status="ok",
        summary=summary,
        oracle=oracle,
        captioner="findings",
        prompt_sha256="0" * 64,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Five training images, one of them without a caption, and one of test."""
    names = [f"{number:016x}" for number in range(6)]
    labels: list[tuple[str, ...] | None] = [("cyst",), ("nodule", "cyst"), None, (), ("nodule",), ("fracture",)]
    splits = ["train"] * 5 + ["test"]
    rows = [
        image_row(name, labels=found, split=split) for name, found, split in zip(names, labels, splits, strict=True)
    ]
    texts = ["seen twice", "once, b", "seen twice", "once, a", None, "of test"]
    for folder in ("split", "captions"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    SPLIT_IMAGES.write(tmp_path / "data/split/images.parquet", rows)
    captions = [caption(name, text, oracle=text == "of test") for name, text in zip(names, texts, strict=True)]
    CAPTIONS.write(tmp_path / "data/captions/captions.parquet", captions)
    return tmp_path


def test_captions_and_labels_are_those_of_training(project: Path) -> None:
    expected = StudyTexts(captions=("seen twice", "once, a", "once, b"), distinct=3, labels=("cyst", "nodule"))
    assert study_texts(project) == expected


def test_of_many_captions_the_most_frequent_are_taken(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "MAX_CAPTIONS", 1)
    found = study_texts(project)
    assert (found.captions, found.distinct) == (("seen twice",), 3)


def test_where_no_study_was_run_there_are_none(tmp_path: Path) -> None:
    assert study_texts(tmp_path) == StudyTexts()
