"""The released images: embedded in Parquet files, and as a folder of PNG files with a list of what they are.

Each image is decoded from its raw file, which must be the one that was ingested, and written as PNG: nothing of the
file's own metadata (DICOM's tags, EXIF) goes out. One image, and the row group that it belongs to, are in memory.
"""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from PIL import Image

from pipelines.errors import Rejected, UserError
from pipelines.raw_images import open_raw
from pipelines.records import SPLITS, SplitImageRow
from pipelines.release.contents import Contents
from pipelines.release.rows import arrow_schema, image_rows
from pipelines.sources import Sources
from pipelines.stage import progress

PARQUET, FOLDER, LIST = "data", "images", "metadata.jsonl"

# Of a row group, which a reader holds in memory; and of a file. A single image may be larger.
GROUP_ROWS, GROUP_BYTES, FILE_BYTES = 256, 32 * 2**20, 512 * 2**20


def write_images(contents: Contents, sources: Sources, out: Path) -> None:
    """Write `data/<split>-NNNNN-of-NNNNN.parquet` and `images/<split>/`, for each split that has images.

    Args:
        contents: What is released.
        sources: Where the raw files are.
        out: The release.

    Raises:
        UserError: A raw file is gone, or is not the one that was ingested.
    """
    for split in SPLITS:
        if not (total := len(contents.images.get(split, ()))):
            continue
        folder = out / FOLDER / split
        folder.mkdir(parents=True)
        with ParquetFiles(out / PARQUET, split) as parquet, (folder / LIST).open("w", encoding="utf-8") as listing:
            for row, values in progress(image_rows(contents, split), f"release {split}", total):
                name, data = f"{row.image_id}.png", png_of(sources, row)
                (folder / name).write_bytes(data)
                listing.write(json.dumps(listed(name, values), ensure_ascii=False) + "\n")
                parquet.add({"image": {"bytes": data, "path": name}, **values}, len(data))


def png_of(sources: Sources, row: SplitImageRow) -> bytes:
    """The image of a row as PNG; equal pixels give equal bytes."""
    try:
        image = open_raw(sources, row)
    except Rejected as fault:
        raise UserError(
            f"image {row.image_id} of {row.source} cannot be read any more ({fault.reason}): bring the source's raw "
            "files back, or run `dvc repro`"
        ) from None
    stream = io.BytesIO()
    # A picture of its own, for Pillow would write what the file's header held beside the pixels.
    Image.frombytes(image.mode, image.size, image.tobytes()).save(stream, "PNG")
    return stream.getvalue()


def listed(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """The line of `metadata.jsonl`.

    Unknown texts are empty and none is null: `datasets` takes the type of a column from the first lines of each split,
    and refuses splits whose types differ.

    Args:
        name: File of the image, in the same folder.
        values: Its row without the image.
    """
    texts = ("image_id", "source", "licence", "group", "modality", "view", "sides", "status", "summary", "report")
    labels = values["labels"]
    return {
        "file_name": name,
        **{column: values[column] or "" for column in texts},
        "width": values["width"],
        "height": values["height"],
        "oracle": values["oracle"],
        "labels_known": labels is not None,
        "labels": "; ".join(labels or ()),
    }


class ParquetFiles:
    """The Parquet files of one split, in row groups and files of bounded size.

    Args:
        folder: Where they go.
        split: Their split.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self._folder, self._split, self._schema = folder, split, arrow_schema()
        self._writer: pyarrow.parquet.ParquetWriter | None = None
        self._rows: list[dict[str, Any]] = []
        self._group_bytes = self._file_bytes = 0
        self._files: list[Path] = []

    def __enter__(self) -> "ParquetFiles":
        self._folder.mkdir(exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._end_group()
        self._end_file()
        for number, file in enumerate(self._files if kind is None else ()):
            file.rename(self._folder / f"{self._split}-{number:05d}-of-{len(self._files):05d}.parquet")

    def add(self, row: dict[str, Any], size: int) -> None:
        """Add a row.

        Args:
            row: By the names of `rows.COLUMNS`.
            size: Bytes of its image.
        """
        if self._rows and (len(self._rows) >= GROUP_ROWS or self._group_bytes + size > GROUP_BYTES):
            self._end_group()
        if self._writer is not None and self._file_bytes + size > FILE_BYTES:
            self._end_file()
        self._rows.append(row)
        self._group_bytes += size

    def _end_group(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            self._files.append(self._folder / f"{self._split}-{len(self._files):05d}.unfinished")
            self._writer = pyarrow.parquet.ParquetWriter(self._files[-1], self._schema, compression="zstd")
        self._writer.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._schema))
        self._file_bytes += self._group_bytes
        self._rows, self._group_bytes = [], 0

    def _end_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._file_bytes = None, 0
