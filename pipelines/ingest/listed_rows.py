"""The rows of a source by image; they lie on the disk, and memory holds some numbers of each.

Reports, regions and questions of a source are gigabytes where it has millions of rows.
"""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.cuts import Cut
from pipelines.ingest.key_index import KeyIndex, hash_of
from pipelines.ingest.merged import PROTECTION
from pipelines.ingest.record import SourceRecord
from pipelines.spill import Spill

_NONE = -1


class ListedRows:
    """Rows of a source in the order of its listing, and the images that they name: a file, and what of it.

    Images are numbered from 0 in the order in which rows name them first.

    Args:
        folder: Where the rows lie while they are needed; its disk has room for all.

    Attributes:
        with_report: How many rows have a text.
        with_patient: How many rows name a patient.
        labels: All labels of rows.
    """

    def __init__(self, folder: Path) -> None:
        self._rows: Spill[SourceRecord] = Spill(folder)
        self._former = array("q")  # row -> the one before it of the same image
        self._index = KeyIndex()
        self._last = array("q")  # image -> its last row
        self._counts = array("I")  # image -> its rows
        self._names = array("Q")  # image -> hash of its file's name and of what of the file it is
        self._files = array("Q")  # image -> hash of its file's name
        self._splits = array("B")  # image -> place of its split in PROTECTION
        self._named_last: tuple[str, Cut, int] | None = None  # rows of an image mostly stand together
        self.with_report = 0
        self.with_patient = 0
        self.labels: set[str] = set()

    def add(self, record: SourceRecord) -> None:
        """Take in the next row."""
        self.with_report += record.report is not None
        self.with_patient += bool(record.patient)
        self.labels.update(record.labels or ())
        image = self._image(record.name, record.cut)
        self._former.append(self._last[image])
        self._last[image] = self._rows.add(record)
        self._counts[image] += 1
        self._splits[image] = min(self._splits[image], PROTECTION.index(record.split))

    def _image(self, name: str, cut: Cut) -> int:
        """The number of an image, a new one for one that no row named yet."""
        if self._named_last is None or self._named_last[:2] != (name, cut):
            self._named_last = name, cut, self._find_or_make(name, cut)
        return self._named_last[2]

    def _find_or_make(self, name: str, cut: Cut) -> int:
        key_hash = hash_of("\0".join(map(str, (name, *cut.key))))
        for image in self._index.find(key_hash):
            known = self._rows[self._last[image]]
            if (known.name, known.cut) == (name, cut):
                return image
        image = len(self._last)
        self._index.add(key_hash, image)
        self._last.append(_NONE)
        self._counts.append(0)
        self._names.append(key_hash)
        self._files.append(hash_of(name))
        self._splits.append(len(PROTECTION) - 1)
        return image

    def __len__(self) -> int:
        """How many images rows name."""
        return len(self._last)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def of_image(self, image: int) -> tuple[SourceRecord, ...]:
        """The rows of an image, in the order of the listing."""
        rows, row = [], self._last[image]
        while row != _NONE:
            rows.append(row)
            row = self._former[row]
        return tuple(self._rows[row] for row in reversed(rows))

    def __iter__(self) -> Iterator[SourceRecord]:
        """All rows, in the order of the listing."""
        return iter(self._rows)

    # What of each image memory holds, by its number; 64 bits of a hash tell images from each other well enough to
    # choose and to order them.

    @property
    def counts(self) -> NDArray[np.uint32]:
        """How many rows each image has."""
        return _as_numpy(self._counts)

    @property
    def names(self) -> NDArray[np.uint64]:
        """A hash of each image's file name and of what of the file it is."""
        return _as_numpy(self._names)

    @property
    def files(self) -> NDArray[np.uint64]:
        """A hash of each image's file name."""
        return _as_numpy(self._files)

    @property
    def splits(self) -> NDArray[np.uint8]:
        """Of each image the most protected split of its rows, as its place in `pipelines.ingest.merged.PROTECTION`."""
        return _as_numpy(self._splits)


def _as_numpy(values: "array[Any]") -> NDArray[Any]:
    return np.array(values)
