"""The images of a run with their regions, on the disk, in the orders in which they are made and stored.

Tables are in the order of image_id, and so are the tars of a split: a hash, in which the slices of many volumes
alternate. Each volume would be opened anew for each of its slices, so slices are made before all others, file by file.
"""

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.records import SPLITS, RegionRow, SplitImageRow
from pipelines.spill import Spill


@dataclass(frozen=True)
class ShardImage:
    """An image with its accepted and its annotated regions, in the order of `n`."""

    row: SplitImageRow
    regions: tuple[RegionRow, ...]

    @property
    def accepted(self) -> list[RegionRow]:
        """The regions that are stored."""
        return [region for region in self.regions if region.status == "accepted"]


class StoredImages:
    """Images as they are added; memory holds some numbers for each.

    Args:
        folder: Where the images lie.

    Attributes:
        of_split: Indices of each split's images, in the order of the table.
    """

    def __init__(self, folder: Path) -> None:
        self._images: Spill[ShardImage] = Spill(folder)
        self.of_split = {split: array("Q") for split in SPLITS}
        self._files: dict[tuple[str, str, str], int] = {}
        self._slices, self._file_of_slice = array("Q"), array("Q")

    def add(self, image: ShardImage) -> None:
        index = self._images.add(image)
        self.of_split[image.row.split].append(index)
        if image.row.frame is not None:
            self._slices.append(index)
            self._file_of_slice.append(self._files.setdefault(file_of(image.row), len(self._files)))

    def __getitem__(self, index: int) -> ShardImage:
        return self._images[index]

    def __len__(self) -> int:
        return len(self._images)

    def slices(self) -> list[int]:
        """Indices of the images of files that show several, file by file."""
        rank = {file: number for number, file in enumerate(sorted(self._files))}
        files = np.array([rank[file] for file in self._files], dtype=np.int64)[self._file_of_slice]
        together = np.argsort(files, kind="stable")
        several = np.bincount(files, minlength=1)[files[together]] > 1
        found: list[int] = np.array(self._slices, dtype=np.int64)[together[several]].tolist()
        return found


def file_of(row: SplitImageRow) -> tuple[str, str, str]:
    """Equal for the images of one file."""
    return row.source, row.path, row.member or ""
