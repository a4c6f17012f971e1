"""What the studies and the documents say of VQA-RAD's published split, counted in the real files."""

from pathlib import Path

import pytest

from models.answering import UNKNOWN, Vocabulary
from pipelines.ingest.record import Question, SourceRecord
from pipelines.ingest.sources.vqa_rad import VqaRad
from pipelines.studies.definition import PAPER, load_data_sets, load_study


@pytest.fixture(scope="module")
def records(shared_data: Path) -> list[SourceRecord]:
    """One a question, with its published split."""
    found = VqaRad(shared_data / "vqa_rad", {}).records()
    return [one for one in found if isinstance(one, SourceRecord)]


def questions(records: list[SourceRecord], split: str) -> list[Question]:
    return [record.questions[0] for record in records if record.split == split]


def differences(name: str, repository: Path) -> str:
    return " ".join(load_study(name, repository / "studies").differences(PAPER))


def test_sizes(records: list[SourceRecord], repository: Path) -> None:
    training, test = len(questions(records, "train")), len(questions(records, "test"))
    said = f"{len(records):,} questions about {len({record.name for record in records})} images"
    assert said in load_data_sets(repository / "studies/data.yaml")["vqa_rad"].obtained
    assert f"with {training:,} training questions by its published split" in differences("001_table2", repository)
    counted = f"the {len(records):,} questions of the release at OSF"
    assert counted in differences("001_table7", repository)
    assert f"{training:,} in training and {test} in test" in differences("001_table7", repository)


def test_test_images_that_training_asks_about(records: list[SourceRecord], repository: Path) -> None:
    training, test = ({record.name for record in records if record.split == split} for split in ("train", "test"))
    shared = len(test & training)
    said = f"Of the {len(test)} images of VQA-RAD's published test split {shared} are also images of its training"
    assert said in differences("001_table2", repository)
    asked = [record for record in records if record.split == "test"]
    about = sum(record.name in training for record in asked)
    in_docs = (
        f"{shared} of {len(test)} test images, and {about} of {len(asked)} test questions, are of images that training"
    )
    assert in_docs in " ".join((repository / "docs/methods.md").read_text().split())


def test_answers_that_training_has(records: list[SourceRecord], repository: Path) -> None:
    training, test = questions(records, "train"), questions(records, "test")
    vocabulary = Vocabulary.of([one.answer for one in training], [one.answer_type for one in training])
    of_type = {kind: [one for one in test if one.answer_type == kind] for kind in ("open", "closed")}
    known = {
        kind: int((vocabulary.numbers([one.answer for one in some], [kind] * len(some)) != UNKNOWN).sum())
        for kind, some in of_type.items()
    }
    asked = {kind: len(some) for kind, some in of_type.items()}
    said = (
        f"{known['open']} of {asked['open']} open test questions ({100 * known['open'] / asked['open']:.1f} percent) "
        f"and {known['closed']} of {asked['closed']} closed ones"
    )
    assert said in differences("001_table2", repository)
    in_docs = f"{known['open']} of {asked['open']} open and {known['closed']} of {asked['closed']} closed"
    assert in_docs in " ".join((repository / "docs/methods.md").read_text().split())
