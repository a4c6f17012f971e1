"""What waits on the disk while a source is ingested: rows, images and questions; and that memory does not hold them."""

import gc
import hashlib
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.errors import Rejected
from pipelines.images import HeaderIds
from pipelines.ingest.annotations import DecodedRegion, RowAnnotations
from pipelines.ingest.asked import Questions
from pipelines.ingest.config import SourceConfig
from pipelines.ingest.listed import Listed, list_source, open_source
from pipelines.ingest.listed_rows import ListedRows
from pipelines.ingest.mask_files import DecodedMask
from pipelines.ingest.merge import ImageMerger
from pipelines.ingest.merged import PROTECTION, ImageFile, MergedImage, MergedImages
from pipelines.ingest.patients import PatientHasher
from pipelines.ingest.record import Question, SourceRecord
from pipelines.ingest.selection import by_split, file_by_file, select

MASS = DecodedRegion(label="mass", adjective=None, phrase=None, box=(1.0, 2.0, 3.0, 4.0), mask=None)
NOTHING = RowAnnotations(labels=(), mask=None, regions=(), look_alikes=(), clipped_boxes=0)


def record(row: int, name: str, frame: int | None = None, **values: str | None) -> SourceRecord:
    return SourceRecord(row=f"t.csv:{row}", name=name, modality="ct", frame=frame, **values)  # type: ignore[arg-type]


ROWS = [
    record(1, "b.nii", 1),
    record(2, "a.png", split="train"),
    record(3, "a.png", split="test"),
    record(4, "b.nii", 0),
    record(5, "c.png", split="validation"),
    record(6, "a.png", report="Text."),
    record(7, "b.nii", 1, split="train"),
    record(8, "b.nii"),
]


@pytest.mark.parametrize("hashes", ["different", "all equal"])
def test_rows_come_back_by_image_in_the_order_of_the_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashes: str
) -> None:
    if hashes == "all equal":  # no two names with equal hashes are known
        monkeypatch.setattr("pipelines.ingest.listed_rows.hash_of", lambda key: 7)
    rows = ListedRows(tmp_path)
    for one in ROWS:
        rows.add(one)
    numbers = [[int(one.row[6:]) for one in rows.of_image(image)] for image in range(len(rows))]
    assert numbers == [[1, 7], [2, 3, 6], [4], [5], [8]]
    assert rows.counts.tolist() == [2, 3, 1, 1, 1]
    assert [PROTECTION[place] for place in rows.splits] == ["train", "test", None, "validation", None]
    assert (list(rows), rows.count, rows.with_report) == (ROWS, 8, 1)
    assert by_split(rows, select(rows, None)) == {"none": 2, "test": 1, "train": 1, "validation": 1}
    if hashes == "different":
        assert file_by_file(rows, select(rows, None)).tolist() == [0, 2, 4, 1, 3]
    assert list(tmp_path.iterdir()) == []


def file_of(number: int) -> ImageFile:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return ImageFile(
        image_id=digest[:16],
        path=f"{number}.png",
        member=None,
        frame=None,
        axis=None,
        volume=None,
        sha256=digest,
        burned_in=None,
        hidden=(),
        pixel_sha256=digest,
        perceptual_hash=digest,
        thumbnail=bytes(range(256)) * 4,
        width=96,
        height=96,
    )


@pytest.mark.parametrize("hashes", ["different", "all equal"])
def test_an_image_that_was_changed_comes_back_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashes: str
) -> None:
    if hashes == "all equal":
        monkeypatch.setattr("pipelines.ingest.merged.hash_of", lambda key: 7)
    images = MergedImages(tmp_path)
    assert images.get("0") is None
    for number in range(5):
        images.add(MergedImage(key=str(number), file=file_of(number), modality="ct"))
    for key, change in (("4", "e"), ("1", "b"), ("1", "b again"), ("3", "d"), ("1", "b at last")):
        image = images.get(key)
        assert image is not None
        image.reports.append(change)
    assert images.get("5") is None
    found = {image.key: image.reports for image in images}
    assert found == {"0": [], "1": ["b", "b again", "b at last"], "2": [], "3": ["d"], "4": ["e"]}
    assert len(images) == 5
    ids = [image.file.image_id for image in images.by_image_id()]
    assert ids == sorted(file_of(number).image_id for number in range(5))


def asked(number: int, answer: str = "yes") -> Question:
    return Question(question_id=f"q{number}", question="Visible?", answer=answer, answer_type="closed")


@pytest.mark.parametrize("hashes", ["different", "all equal"])
def test_questions_are_unique_and_come_back_by_image_and_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashes: str
) -> None:
    if hashes == "all equal":
        monkeypatch.setattr("pipelines.ingest.asked.hash_of", lambda key: 7)
    questions, one, other = Questions(tmp_path), "f" * 16, "0" * 15 + "1"
    questions.add(one, (asked(3), asked(1)))
    questions.add(other, (asked(4),))
    questions.add(other, ())
    questions.add(one, (asked(1), asked(2)))
    with pytest.raises(Rejected, match="in other rows, with other words"):
        questions.add(one, (asked(5), asked(2, "no")))
    with pytest.raises(Rejected, match="in other rows, with other words"):
        questions.add(other, (asked(3),))  # of another image
    with pytest.raises(Rejected, match="in this row"):
        questions.add(one, (asked(5), asked(5)))
    assert (len(questions), questions.repeated) == (4, 1)
    found = [(row.image_id, row.question_id, row.source, row.answer) for row in questions.rows("s")]
    assert found == [(other, "q4", "s", "yes"), *((one, f"q{number}", "s", "yes") for number in (1, 2, 3))]


def test_figures_of_the_summary_are_those_of_the_tables(tmp_path: Path) -> None:
    merger = ImageMerger("s", PatientHasher("s", "public", tmp_path), tmp_path)
    mask = DecodedMask(rle="0", path="m.png", value=None, sha256="0" * 64, is_empty=False)
    rows = [
        (1, None, NOTHING),
        (2, "One.", replace(NOTHING, labels=None, regions=(MASS, MASS), look_alikes=("0", "0"))),
        (1, "Two.", replace(NOTHING, mask=mask)),  # no finding, and a mask
        (2, "Three.", replace(NOTHING, labels=("mass",), regions=(MASS,))),
        (1, "Four.", replace(NOTHING, labels=None, regions=(MASS,))),  # instead of the mask
        (3, "Five.", NOTHING),
    ]
    for number, (image, report, annotations) in enumerate(rows):
        row = replace(record(number, f"{image}.png", report=report), attributes={"age": "61"} if image == 3 else {})
        merger.add(file_of(image), row, annotations, HeaderIds())
    images, regions = list(merger.images("patient")), list(merger.annotations())
    assert [row.image_id for row in images] == sorted(file_of(number).image_id for number in (1, 2, 3))
    assert [(row.image_id, row.n) for row in regions] == sorted((row.image_id, row.n) for row in regions)
    assert {row.sides for row in images} == {"patient"}
    annotated = {row.image_id for row in regions}
    assert merger.counts == {
        "annotations": len(regions),
        "look_alikes": sum(len(row.look_alikes) for row in images),
        "with_attributes": sum(bool(row.attributes) for row in images),
        "no_finding_with_annotations": sum(row.labels == () and row.image_id in annotated for row in images),
        "several_reports": sum(bool(row.other_reports) for row in images),
    }
    assert sorted(merger.counts.values()) == [1, 1, 2, 2, 3]
    assert (len(merger), merger.has_patients) == (3, False)


def listed(tmp_path: Path, rows: int) -> Listed:
    """A listing of rows with texts of three kilobytes, questions and regions."""
    root = tmp_path / str(rows)
    root.mkdir()
    objects = {"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "label": ["mass", "nodule"]}
    with (root / "metadata.jsonl").open("w") as stream:
        for row in range(rows):
            question = {"question_id": f"q{row}", "question": "Visible?", "answer": "yes", "answer_type": "closed"}
            values = {"file_name": f"{row}.png", "text": f"{row}." * 600, "objects": objects, "questions": [question]}
            stream.write(json.dumps(values) + "\n")
    settings = SourceConfig(adapter="table", root=str(root), patient_ids="public")
    return list_source("s", root, open_source("s", settings, root), tmp_path)


def test_memory_does_not_grow_with_the_source(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        gc.collect()
        tracemalloc.start()
        found = listed(tmp_path, rows)
        merger = ImageMerger("s", PatientHasher("s", "public", tmp_path), tmp_path)
        for image in file_by_file(found.rows, select(found.rows, None)):
            (row,) = found.rows.of_image(image)
            regions = tuple(replace(MASS, label=one.label, box=one.box) for one in row.regions)
            assert merger.add(file_of(int(image)), row, replace(NOTHING, regions=regions), HeaderIds())
        merger.join_patients()
        read = (merger.images(None), merger.annotations(), merger.question_rows())
        assert [sum(1 for _ in each) for each in read] == [rows, 2 * rows, rows]
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)  # imports
    few, many = 300, 1_500
    growth = (peak(many) - peak(few)) / (many - few)
    # Some numbers of each, and what Python keeps of small tuples; it was 13,800 when all were objects.
    assert growth < 1_000, f"{growth:.0f} bytes an image"
