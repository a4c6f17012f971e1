"""The images of a run with their regions, on the disk, in the orders in which they are made and stored.

Tables are in the order of image_id, and so are the tars of a split: a hash, in which the slices of many volumes
alternate. Each volume would be opened anew for each of its slices, so slices are made before all others, file by file.

A tar holds the images of a range of image_id: of 1, 2, 4, 8, ... ranges of equal width, so few as leave none with more
images than a tar may have. The ids are spread evenly, so that every tar is a fair sample of the sources; and an image
that comes, goes or changes touches its own tar alone, until the ranges are halved. One that cannot be opened moves no
other image to another tar.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.data.json_fields import field_values
from pipelines.files import digest_of
from pipelines.records import KEYED, SPLITS, RegionRow, SplitImageRow
from pipelines.spill import Spill

_ID_BITS = 64  # of an image_id, 16 hex digits
_DIGEST = 32  # bytes
# Of a region: what speaks of its way through `regions`, and is in no sample. Where one labelled image changes, the
# probability of every region does.
_NOT_STORED = frozenset({"agreement", "probability", "certified", "round", "reason"})


@dataclass(frozen=True)
class ShardImage:
    """An image with its accepted and its annotated regions, in the order of `n`."""

    row: SplitImageRow
    regions: tuple[RegionRow, ...]

    @property
    def accepted(self) -> list[RegionRow]:
        """The regions that are stored."""
        return [region for region in self.regions if region.status == "accepted"]


@dataclass(frozen=True, kw_only=True)
class PlannedTar:
    """A tar, and the images that belong into it.

    Attributes:
        split: Its split.
        file: Relative to the folder of the family.
        images: Indices in `StoredImages`, in stored order.
    """

    split: str
    file: str
    images: Sequence[int]


class StoredImages:
    """Images as they are added, in the order of image_id; memory holds some numbers for each.

    Args:
        folder: Where the images lie.
    """

    def __init__(self, folder: Path) -> None:
        self._images: Spill[ShardImage] = Spill(folder)
        self._of_split = {split: array("Q") for split in SPLITS}
        self._ids, self._regions, self._digests = array("Q"), array("I"), bytearray()
        self._files: dict[tuple[str, str, str], int] = {}
        self._slices, self._file_of_slice = array("Q"), array("Q")

    def add(self, image: ShardImage) -> None:
        index = self._images.add(image)
        self._of_split[image.row.split].append(index)
        self._ids.append(int(image.row.image_id, 16))
        self._regions.append(len(image.accepted))
        self._digests += bytes.fromhex(digest_of([_columns(image.row), *map(_columns, image.regions)]))
        if image.row.frame is not None:
            self._slices.append(index)
            self._file_of_slice.append(self._files.setdefault(file_of(image.row), len(self._files)))

    def __getitem__(self, index: int) -> ShardImage:
        return self._images[index]

    def __len__(self) -> int:
        return len(self._images)

    def tars(self, at_most: int) -> Iterator[PlannedTar]:
        """The tars of each split, in stored order.

        Args:
            at_most: Images of a tar.
        """
        for split, images in self._of_split.items():
            ids = np.array([self._ids[index] for index in images], dtype=np.uint64)
            for number, start, end in ranges(ids, at_most):
                yield PlannedTar(split=split, file=f"{split}/{number:06d}.tar", images=images[start:end])

    def keys(self, tar: PlannedTar) -> list[str]:
        """The image_ids of a tar."""
        return [f"{self._ids[index]:016x}" for index in tar.images]

    def regions(self, tar: PlannedTar) -> int:
        """How many regions a tar stores."""
        return sum(self._regions[index] for index in tar.images)

    def digests(self, tar: PlannedTar) -> Iterator[bytes]:
        """Of the rows of each of its images; without the columns that depend on a key, which no sample shows."""
        return (bytes(self._digests[_DIGEST * index : _DIGEST * (index + 1)]) for index in tar.images)

    def slices(self) -> list[int]:
        """Indices of the images of files that show several, file by file."""
        rank = {file: number for number, file in enumerate(sorted(self._files))}
        files = np.array([rank[file] for file in self._files], dtype=np.int64)[self._file_of_slice]
        together = np.argsort(files, kind="stable")
        several = np.bincount(files, minlength=1)[files[together]] > 1
        found: list[int] = np.array(self._slices, dtype=np.int64)[together[several]].tolist()
        return found


def ranges(ids: np.ndarray, at_most: int) -> Iterator[tuple[int, int, int]]:
    """Part ids into ranges of equal width, a power of two of them: so few that none has more than `at_most`.

    Args:
        ids: (images,) uint64, each once, ascending.
        at_most: Images of a range.

    Yields:
        Of each range that has any: its number, and the indices in `ids` where it starts and ends.
    """
    numbers, bits = np.zeros(len(ids), dtype=np.uint64), 0
    while len(ids) and np.unique(numbers, return_counts=True)[1].max() > at_most:
        bits += 1
        numbers = ids >> np.uint64(_ID_BITS - bits)
    found, starts = np.unique(numbers, return_index=True)
    bounds = [*starts.tolist(), len(ids)]
    yield from zip(found.tolist(), bounds[:-1], bounds[1:], strict=True)


def _columns(row: SplitImageRow | RegionRow) -> list[object]:
    left_out = KEYED | _NOT_STORED if isinstance(row, RegionRow) else KEYED
    return [value for name, value in field_values(row).items() if name not in left_out]


def file_of(row: SplitImageRow) -> tuple[str, str, str]:
    """Equal for the images of one file."""
    return row.source, row.path, row.member or ""
