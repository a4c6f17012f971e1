"""The files of a prediction, written row by row so that memory does not grow with the number of images.

images.parquet       every input: number, file_name, member, frame, status, reason, detail, width, height, and
                     image_embedding
regions.parquet      the regions of images: number (of the image), region, x0, y0, x1, y1, region_embedding
texts.parquet        the texts and the prompts of labels: text, text_embedding
scores.csv           texts and labels of each image, or region of it, the best first
maps.csv             which file of masks/, heat_maps/ and overlays/ belongs to which image and text
"""

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from pipelines.predict.inputs import Fault, Input

_VECTOR = pyarrow.list_(pyarrow.float32())
_INPUT = [
    ("number", pyarrow.int64()),
    ("file_name", pyarrow.string()),
    ("member", pyarrow.string()),
    ("frame", pyarrow.int64()),
]
_SCHEMAS = {
    "images": [
        *_INPUT,
        *((name, pyarrow.string()) for name in ("status", "reason", "detail")),
        *((name, pyarrow.int64()) for name in ("width", "height")),
        ("image_embedding", _VECTOR),
    ],
    "regions": [
        *_INPUT,
        ("region", pyarrow.int64()),
        *((edge, pyarrow.float64()) for edge in ("x0", "y0", "x1", "y1")),
        ("region_embedding", _VECTOR),
    ],
    "texts": [("text", pyarrow.string()), ("text_embedding", _VECTOR)],
}
_NAMES = [name for name, _ in _INPUT]
_COLUMNS = {
    "scores": [*_NAMES, "region", "kind", "text", "rank", "score"],
    "maps": [*_NAMES, "text", "mask", "heat_map", "heat_least", "heat_greatest", "overlay"],
}
_ROWS = 1024


class Output:
    """The files of one folder; each appears with its first row.

    Args:
        folder: Exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._closing = ExitStack()
        self._tables: dict[str, _Table] = {}
        self._lists: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._closing.__exit__(*error)

    def image(self, number: int, item: Input, fault: Fault | None, **values: Any) -> None:
        """An input with its outcome; `values`: width, height, image_embedding."""
        outcome = {"status": "ok"} if fault is None else vars(fault)
        self._row("images", {**identity(number, item), **outcome, **values})

    def region(self, number: int, item: Input, region: int, box: Sequence[float], embedding: np.ndarray | None) -> None:
        edges = dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))
        self._row("regions", {**identity(number, item), "region": region, **edges, "region_embedding": embedding})

    def text(self, text: str, embedding: np.ndarray) -> None:
        self._row("texts", {"text": text, "text_embedding": embedding})

    def scores(
        self, number: int, item: Input, kind: str, texts: Sequence[str], scores: Sequence[float], region: int | None
    ) -> None:
        """Texts or labels of one image or region, ranked here: equal scores in the order in which they were given."""
        for rank, index in enumerate(sorted(range(len(texts)), key=lambda index: -scores[index]), start=1):
            values = {"region": region, "kind": kind, "text": texts[index], "rank": rank, "score": scores[index]}
            self._line("scores", {**identity(number, item), **values})

    def maps(self, number: int, item: Input, text: str | None, **values: Any) -> None:
        self._line("maps", {**identity(number, item), "text": text, **values})

    def picture(self, folder: str, name: str, image: Image.Image) -> str:
        """Save a PNG file; return its name relative to the folder."""
        path = self._folder / folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
        return f"{folder}/{name}.png"

    def _row(self, table: str, row: dict[str, Any]) -> None:
        if table not in self._tables:
            path = self._folder / f"{table}.parquet"
            self._tables[table] = self._closing.enter_context(_Table(path, pyarrow.schema(_SCHEMAS[table])))
        self._tables[table].write(row)

    def _line(self, name: str, row: dict[str, Any]) -> None:
        if name not in self._lists:
            path = self._folder / f"{name}.csv"
            stream: TextIO = self._closing.enter_context(path.open("w", encoding="utf-8", newline=""))
            self._lists[name] = csv.DictWriter(stream, _COLUMNS[name], lineterminator="\n")
            self._lists[name].writeheader()
        self._lists[name].writerow(row)


def identity(number: int, item: Input) -> dict[str, Any]:
    """What tells an input from the others."""
    return {"number": number, "file_name": item.file_name, "member": item.member, "frame": item.frame}


class _Table:
    """A Parquet file, written a thousand rows at a time."""

    def __init__(self, path: Path, schema: pyarrow.Schema) -> None:
        self._schema = schema
        self._writer = pyarrow.parquet.ParquetWriter(path, schema)
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def write(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()
