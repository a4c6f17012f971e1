"""Thumbnails that wait on the disk: the search for near-duplicates asks for those of candidate pairs alone."""

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.images import THUMBNAIL

PIXELS = math.prod(THUMBNAIL)


class ThumbnailFile:
    """Thumbnails by the number of their row, in a file without a name that goes with this object.

    They are read and not mapped: pages of a mapped file count as the process's memory.

    Args:
        folder: Where the file lies; its disk needs room for 1 KiB an image.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with the object

    def add(self, thumbnails: Sequence[bytes]) -> None:
        """Put thumbnails at the end, 1,024 grey bytes each.

        Raises:
            ValueError: One has another length.
        """
        if any(len(thumbnail) != PIXELS for thumbnail in thumbnails):
            raise ValueError(f"table images breaks its contract: a thumbnail of other than {PIXELS} bytes")
        self._file.write(b"".join(thumbnails))
        self._file.flush()

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The thumbnails of some rows, rows x pixels; a row that is named again is read once."""
        wanted, place = np.unique(rows, return_inverse=True)
        number = self._file.fileno()
        data = b"".join(os.pread(number, PIXELS, PIXELS * row) for row in wanted.tolist())
        return np.frombuffer(data, dtype=np.uint8).reshape(-1, PIXELS)[place]
