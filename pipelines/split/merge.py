"""Writes the tables of the split: those of the sources are read side by side, in the order of their images.

Nothing is held but some rows of each source. A file that several sources hold is one image: the first one's row and
annotations stay, and what the others say beside their questions is counted.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow
import pyarrow.compute

from pipelines.records import (
    ANNOTATIONS,
    IMAGES,
    QUESTIONS,
    SPLIT_IMAGES,
    SPLIT_QUESTIONS,
    SPLITS,
    AnnotationRow,
    ImageColumnsRow,
    QuestionRow,
    SplitImageRow,
)
from pipelines.spill import Spill
from pipelines.split.hidden import hidden_columns
from pipelines.split.rows import image_id
from pipelines.split.sides import VOTING, SideVotes
from pipelines.tables import beside

T = TypeVar("T")

_SHARED = tuple(field.name for field in dataclasses.fields(ImageColumnsRow))


def write_annotations(sources: list[str], ingest: Path, images: pd.DataFrame, votes: SideVotes, path: Path) -> int:
    """Write those of the rows that are kept, and let the training images vote.

    Args:
        sources: Their names, in the order that decides whose row is kept.
        ingest: Folder with one folder per source.
        images: One row an image, by image, with `split`.
        votes: Gets the votes.
        path: The table.

    Returns:
        How many annotations of rows that are not kept were left out.
    """
    left_out = 0

    def kept() -> Iterator[AnnotationRow]:
        nonlocal left_out
        streams = [
            beside(
                IMAGES.parts(ingest / source / "images.parquet", VOTING),
                ANNOTATIONS.groups(ingest / source / "annotations.parquet"),
                f"{ingest / source}: annotations belong to no image; run `dvc repro` to make both tables anew",
            )
            for source in sources
        ]
        for split, rows in zip(images["split"], _by_image(streams, lambda row: row[0].image_id), strict=True):
            (image, annotations), *others = rows
            if SPLITS[split] == "train":
                votes.add(image, annotations)
            left_out += sum(len(of_other) for _, of_other in others)
            yield from sorted(annotations, key=lambda annotation: annotation.n)

    ANNOTATIONS.write(path, kept())
    return left_out


def write_images(
    sources: list[str], ingest: Path, images: pd.DataFrame, votes: SideVotes, path: Path
) -> dict[str, int]:
    """Write the row of each image, with what was decided about it; further arguments as of `write_annotations`.

    Args:
        images: Also with `source_split`, `group`, `split_conflict` and `leak`.
        votes: Decides the sides.

    Returns:
        What the rows that are not kept say, and nobody reads: `texts_of_duplicates`, `look_alikes_of_duplicates`,
        `attributes_of_duplicates`.
    """
    unread = Counter(texts_of_duplicates=0, look_alikes_of_duplicates=0, attributes_of_duplicates=0)

    def kept() -> Iterator[SplitImageRow]:
        streams = [IMAGES.rows(ingest / source / "images.parquet") for source in sources]
        rows_of = _by_image(streams, lambda row: row.image_id)
        decided: Any
        for decided, (image, *others) in zip(images.itertuples(), rows_of, strict=True):
            for row in others:
                unread["texts_of_duplicates"] += (row.report is not None) + len(row.other_reports)
                unread["look_alikes_of_duplicates"] += len(row.look_alikes)
                unread["attributes_of_duplicates"] += len(row.attributes)
            columns = {column: getattr(image, column) for column in _SHARED}
            columns |= hidden_columns(image, others)
            columns |= {
                "source_split": None if decided.source_split < 0 else SPLITS[decided.source_split],
                "group": image_id(decided.group),
                "split": SPLITS[decided.split],
                "split_conflict": decided.split_conflict,
                "leak": decided.leak,
                "sides": votes.decide(image),
            }
            yield SplitImageRow(**columns)

    SPLIT_IMAGES.write(path, kept())
    return dict(unread)


def write_questions(sources: list[str], ingest: Path, path: Path) -> None:
    """Write the questions of all rows, by source and question_id; they wait on the disk until they are in order."""

    values = attrgetter(*QUESTIONS.columns)  # pickled in half the time of a row

    def in_order() -> Iterator[QuestionRow]:
        for source in sorted(sources):
            waiting: Spill[tuple[Any, ...]] = Spill(path.parent)
            names = []
            for batch in QUESTIONS.batches(ingest / source / "questions.parquet"):
                names.append(pyarrow.array([row.question_id for row in batch], pyarrow.string()))
                for row in batch:
                    waiting.add(values(row))
            order = pyarrow.compute.sort_indices(pyarrow.chunked_array(names, pyarrow.string()))
            for index in order:
                yield QuestionRow(**dict(zip(QUESTIONS.columns, waiting[index.as_py()], strict=True)))

    SPLIT_QUESTIONS.write(path, in_order())


def _by_image(streams: Iterable[Iterable[T]], image_id_of: Callable[[T], str]) -> Iterator[list[T]]:
    """What the sources have of each image, images by id, each one's in the order of the sources."""
    for _, of_image in groupby(merge(*streams, key=image_id_of), key=image_id_of):
        yield list(of_image)
