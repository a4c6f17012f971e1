"""What decides the splits, of every row of all sources, as numbers: about a hundred bytes a row.

Texts, masks and labels are not read, thumbnails wait on the disk. Names (of files, patients, studies) are only compared
with each other, so numbers of 64 bits stand for them, as for the digests: of 500,000 images any two different names
share one with a probability below 10^-7, and would but join two groups.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute
from numpy.typing import NDArray

from pipelines.errors import UserError
from pipelines.images import is_near_uniform
from pipelines.records import ANNOTATIONS, IMAGES, QUESTIONS, SPLITS
from pipelines.split.near_duplicates import hash_words
from pipelines.split.thumbnails import ThumbnailFile
from pipelines.tables import Table

_COLUMNS = (
    "image_id",
    "path",
    "member",
    "sha256",
    "pixel_sha256",
    "perceptual_hash",
    "patient",
    "study",
    "split_conflict",
    "split",
    "thumbnail",
)
_NUMBERS = np.dtype(
    [
        ("image", np.uint64),
        ("source", np.int16),
        ("split", np.int8),
        ("split_conflict", np.bool_),
        ("near_uniform", np.bool_),
        ("bytes", np.uint64),
        ("pixels", np.uint64),
        ("file", np.uint64),
        ("patient", np.uint64),
        ("study", np.uint64),
        ("words", np.uint64, 4),
    ]
)


@dataclass(frozen=True, kw_only=True)
class ReadRows:
    """Rows of the tables `images` of all sources, in the sources' order.

    Attributes:
        rows: Numbered from 0, with the columns
            image: image_id as a number of 64 bits; numbers are in the order of the ids.
            source: Place in the list of sources.
            split: The published one's place in `SPLITS`, -1 where there is none; and `split_conflict`.
            near_uniform: Whether the pixels say too little to join anything.
            bytes, pixels, file, patient, study: Numbers that stand for what rows may share; 0 where it is unknown.
        words: Perceptual hashes, rows x 4 words of 64 bits.
        thumbnails: By row.
    """

    rows: pd.DataFrame
    words: NDArray[np.uint64]
    thumbnails: ThumbnailFile


def read_rows(sources: list[str], ingest: Path, folder: Path) -> ReadRows:
    """Read the tables `images` of some sources.

    Args:
        sources: Their names.
        ingest: Folder with one folder per source.
        folder: Where thumbnails wait.

    Raises:
        UserError: None has an image, or as `Table.arrow_batches`.
        DamagedError: As `Table.arrow_batches`.
        ValueError: A thumbnail has another size.
    """
    thumbnails = ThumbnailFile(folder)
    # One block that grows: arrays of every batch would leave holes of their size between what is not kept.
    held = bytearray()
    for place, source in enumerate(sources):
        for batch in IMAGES.arrow_batches(ingest / source / "images.parquet", _COLUMNS):
            pictures = batch["thumbnail"].to_pylist()
            thumbnails.add(pictures)
            held += _numbers(batch, pictures, source, place).tobytes()
    if not held:
        raise UserError(f"no image left in {', '.join(sources)}: see rejected.parquet under {ingest} for the reasons")
    numbers = np.frombuffer(held, _NUMBERS)
    rows = pd.DataFrame({name: numbers[name] for name in _NUMBERS.names or () if name != "words"})
    return ReadRows(rows=rows, words=np.ascontiguousarray(numbers["words"]), thumbnails=thumbnails)


def check_annotations(sources: list[str], ingest: Path, rows: pd.DataFrame) -> None:
    """Raise a ValueError where an annotation belongs to no image of its source; raises as `Table.arrow_batches`."""
    belong = _Belonging(ANNOTATIONS, rows)
    for place, source in enumerate(sources):
        for _ in belong.batches(ingest / source / "annotations.parquet", place, ("image_id",)):
            pass
    belong.refuse_lost()


def read_questions(sources: list[str], ingest: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The questions that have a published split of their own; raises as `check_annotations`.

    Returns:
        Columns image, source and split, as `ReadRows.rows`, and `questions`: how many of the source share these three.
    """
    belong = _Belonging(QUESTIONS, rows)
    found = []
    for place, source in enumerate(sources):
        parts = [_NO_QUESTION]
        for batch in belong.batches(ingest / source / "questions.parquet", place, ("image_id", "split")):
            part = pd.DataFrame({"image": _id_numbers(batch["image_id"]), "split": _ranks(batch["split"])})
            parts.append(part[part["split"] >= 0])
        asked = pd.concat(parts)
        counts = asked.groupby(["image", "split"], sort=False).size().reset_index(name="questions")
        found.append(counts.assign(source=np.int16(place)))
    belong.refuse_lost()
    return pd.concat(found, ignore_index=True)


_NO_QUESTION = pd.DataFrame({"image": np.empty(0, np.uint64), "split": np.empty(0, np.int8)})


def image_id(number: int) -> str:
    """The image_id that a number of `ReadRows.rows` stands for."""
    return f"{number:016x}"


class _Belonging:
    """Reads a table of several sources and counts the rows that belong to no image of theirs."""

    def __init__(self, table: Table[Any], rows: pd.DataFrame) -> None:
        self._table = table
        self._rows = rows
        self._lost = 0
        self._first = ""

    def batches(self, path: Path, place: int, columns: tuple[str, ...]) -> Iterator[pyarrow.RecordBatch]:
        known = pd.Index(self._rows.loc[self._rows["source"] == place, "image"].unique())
        for batch in self._table.arrow_batches(path, columns):
            lost = np.flatnonzero(known.get_indexer(_id_numbers(batch["image_id"])) < 0)
            if len(lost) and not self._lost:
                self._first = batch["image_id"][int(lost[0])].as_py()
            self._lost += len(lost)
            yield batch

    def refuse_lost(self) -> None:
        if self._lost:
            raise ValueError(f"{self._lost} {self._table.name} belong to no image, the first to {self._first}")


def _numbers(batch: pyarrow.RecordBatch, thumbnails: list[bytes], source: str, place: int) -> NDArray[np.void]:
    join: Callable[..., pyarrow.Array] = pyarrow.compute.binary_join_element_wise
    numbers = np.empty(batch.num_rows, _NUMBERS)
    numbers["image"] = _id_numbers(batch["image_id"])
    numbers["source"] = place
    numbers["split"] = _ranks(batch["split"])
    numbers["split_conflict"] = batch["split_conflict"].to_numpy(zero_copy_only=False)
    numbers["near_uniform"] = [is_near_uniform(thumbnail) for thumbnail in thumbnails]
    numbers["bytes"] = _first_words(batch["sha256"])
    numbers["pixels"] = _first_words(batch["pixel_sha256"])
    # A file in a folder, or a member of an archive.
    numbers["file"] = _names(join(source, batch["path"], pyarrow.compute.fill_null(batch["member"], ""), "\0"))
    numbers["patient"] = _names(join(source, batch["patient"], "\0"))
    numbers["study"] = _names(batch["study"])  # its ids are the same everywhere
    numbers["words"] = hash_words(batch["perceptual_hash"].to_pylist())
    return numbers


def _id_numbers(ids: pyarrow.Array) -> NDArray[np.uint64]:
    """16 hex digits each."""
    return np.frombuffer(bytes.fromhex("".join(ids.to_pylist())), dtype=">u8").astype(np.uint64)


def _first_words(digests: pyarrow.Array) -> NDArray[np.uint64]:
    """The first 64 bits of SHA-256 digests, 64 hex digits each."""
    return np.frombuffer(bytes.fromhex("".join(digests.to_pylist())), dtype=np.uint64)[::4]


def _names(names: pyarrow.Array) -> NDArray[np.uint64]:
    """A number for each name, 0 for null."""
    numbers = pd.util.hash_array(names.to_numpy(zero_copy_only=False).astype(object), categorize=False)
    return np.where(names.is_valid().to_numpy(zero_copy_only=False), numbers, np.uint64(0))


def _ranks(splits: pyarrow.Array) -> NDArray[np.int8]:
    places = pyarrow.compute.index_in(splits, value_set=pyarrow.array(SPLITS))
    return pyarrow.compute.fill_null(places, -1).to_numpy(zero_copy_only=False).astype(np.int8)
