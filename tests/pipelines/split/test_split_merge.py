"""The tables of the split against rows that are merged in memory, and the memory that it takes to write them."""

import dataclasses
import hashlib
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from split_workspace import Workspace

from pipelines import tables
from pipelines.records import ANNOTATIONS, IMAGES, QUESTIONS, SPLIT_IMAGES, SPLIT_QUESTIONS, ImageColumnsRow

SOURCES = ("one", "three", "two")


def row(source: str, number: int, **columns: Any) -> dict[str, Any]:
    """A row without a file. Its pixels are near-uniform unless columns say otherwise: they join nothing."""
    sha256 = hashlib.sha256(str(number).encode()).hexdigest()
    return {
        "image_id": sha256[:16],
        "source": source,
        "path": f"{number}.png",
        "sha256": sha256,
        "pixel_sha256": sha256,
        "perceptual_hash": sha256,
        "thumbnail": bytes(1024),
        "width": 8,
        "height": 8,
        "modality": "other",
        "split_conflict": False,
        "report": f"{source} says {number}",
        "rows": 1,
        **columns,
    }


def region(source: str, number: int, n: int) -> dict[str, Any]:
    return {"image_id": row(source, number)["image_id"], "source": source, "n": n, "label": f"{source} {n}"}


def question(source: str, number: int, name: str) -> dict[str, Any]:
    image_id = row(source, number)["image_id"]
    return {
        "image_id": image_id,
        "source": source,
        "question_id": name,
        "question": "?",
        "answer": name,
        "answer_type": "open",
    }


def test_three_sources_that_share_files(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are smaller than the tables, annotations of an image stand in any order, questions in that of images."""
    monkeypatch.setattr(tables, "BATCH_ROWS", 7)
    rng = random.Random(0)
    images, annotations, questions = {}, {}, {}
    for source in SOURCES:
        numbers = rng.sample(range(60), 30)
        look_alikes = {number: ("x",) * rng.randrange(3) for number in numbers}
        images[source] = [row(source, number, look_alikes=look_alikes[number]) for number in numbers]
        annotations[source] = [
            region(source, number, n) for number in numbers for n in rng.sample(range(3), rng.randrange(4))
        ]
        questions[source] = [question(source, number, f"{rng.random():.6f}") for number in numbers for _ in range(2)]
        workspace.ingest(source, images[source], annotations[source], questions[source])
    summary = workspace.split()

    first: dict[str, dict[str, Any]] = {}
    for source in SOURCES:
        for values in images[source]:
            first.setdefault(values["image_id"], values)
    written = SPLIT_IMAGES.read(workspace.out / "images.parquet")
    shared = [field.name for field in dataclasses.fields(ImageColumnsRow)]
    assert [[getattr(one, name) for name in shared] for one in written] == [
        [getattr(IMAGES.row(**first[image_id]), name) for name in shared] for image_id in sorted(first)
    ]
    every = [values for source in SOURCES for values in annotations[source]]
    kept = [values for values in every if first[values["image_id"]]["source"] == values["source"]]
    assert ANNOTATIONS.read(workspace.out / "annotations.parquet") == [
        ANNOTATIONS.row(**values) for values in sorted(kept, key=lambda one: (one["image_id"], one["n"]))
    ]
    asked = [QUESTIONS.row(**values) for source in SOURCES for values in questions[source]]
    assert SPLIT_QUESTIONS.read(workspace.out / "questions.parquet") == sorted(
        asked, key=lambda one: (one.source, one.question_id)
    )
    assert (summary["inputs"], summary["ok"], summary["duplicates"]) == (90, len(first), 90 - len(first))
    assert len(first) < 60
    assert 0 < summary["annotations_of_duplicates"] == len(every) - len(kept)
    assert summary["texts_of_duplicates"] == 90 - len(first)
    unread = sum(len(one["look_alikes"]) for source in SOURCES for one in images[source]) - sum(
        len(one["look_alikes"]) for one in first.values()
    )
    assert 0 < unread == summary["look_alikes_of_duplicates"]


HIDDEN = {"burned_in": "hidden", "hidden": ((1, 1, 3, 3),), "pixel_sha256": "f" * 64, "perceptual_hash": "e" * 64}
INFORMATIVE = {"thumbnail": bytes(range(256)) * 4}


@pytest.mark.parametrize(
    ("first", "second", "third", "expected"),
    [
        ({}, {**HIDDEN, **INFORMATIVE}, {}, ((1, 1, 3, 3),)),
        # The first that hides something counts.
        ({}, INFORMATIVE, {**HIDDEN, **INFORMATIVE, "hidden": ((2, 2, 4, 4),)}, ((2, 2, 4, 4),)),
        ({**HIDDEN, "hidden": ((5, 5, 6, 6),)}, {**HIDDEN, **INFORMATIVE}, {}, ((5, 5, 6, 6),)),
        # Of a near-uniform file the first row alone counts.
        ({}, HIDDEN, {}, ()),
        ({}, HIDDEN, {**HIDDEN, **INFORMATIVE, "hidden": ((2, 2, 4, 4),)}, ((2, 2, 4, 4),)),
    ],
)
def test_boxes_of_other_sources(
    workspace: Workspace, first: dict[str, Any], second: dict[str, Any], third: dict[str, Any], expected: tuple
) -> None:
    for source, columns in zip(("a", "b", "c"), (first, second, third), strict=True):
        workspace.ingest(source, [row(source, 1, **columns)])
    workspace.split()
    (written,) = SPLIT_IMAGES.read(workspace.out / "images.parquet")
    assert (written.source, written.hidden) == ("a", expected)
    assert written.burned_in == ("hidden" if expected else None)
    assert (written.pixel_sha256 == "f" * 64) == bool(expected)


def test_a_question_that_two_images_have_is_refused(workspace: Workspace) -> None:
    workspace.ingest("vqa", [row("vqa", 1), row("vqa", 2)], questions=[question("vqa", n, "q") for n in (1, 2)])
    with pytest.raises(ValueError, match=r"table questions .* occurs twice"):
        workspace.split()
    assert not (workspace.out / "questions.parquet").exists()


def peak(folder: Path, images: int) -> int:
    """Bytes of Python and numpy while images with long texts, three annotations and two questions each are split."""
    workspace = Workspace(folder)
    numbers = range(images)
    rows = [row("one", n, report=f"{n} " + "text " * 300, patient=str(n // 2), split="train") for n in numbers]
    masked = [{**region("one", number, n), "mask": "0" * 500} for number in numbers for n in range(3)]
    asked = [{**question("one", n, f"{n}-{of}"), "answer": "a" * 200} for n in numbers for of in range(2)]
    workspace.ingest("one", rows, masked, asked)
    del rows, masked, asked
    tracemalloc.start()
    workspace.split()
    _, found = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return found


def test_memory_hardly_grows_with_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image has 7 KB of text, mask and thumbnail, of which nothing is kept."""
    monkeypatch.setattr(tables, "BATCH_ROWS", 64)
    few, many = 300, 1000
    peak(tmp_path / "first", 1)  # what is imported and compiled once stays
    growth = peak(tmp_path / "many", many) - peak(tmp_path / "few", few)
    assert growth / (many - few) < 1000
