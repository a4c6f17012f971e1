"""What was made of the slices of volumes, volume by volume, until their turn in the tars comes.

The order in the tars is that of a hash, in which the slices of many volumes alternate: each volume would be opened anew
for each of its slices.
"""

import io
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipelines.records import SplitImageRow

Members = Mapping[str, bytes]


def slice_rows(rows: Iterable[SplitImageRow]) -> list[SplitImageRow]:
    """The images of files that show several, file by file."""
    rows = list(rows)
    count = Counter(map(file_of, rows))
    shared = [row for row in rows if count[file_of(row)] > 1]
    return sorted(shared, key=lambda row: (file_of(row), row.image_id))


def file_of(row: SplitImageRow) -> tuple[str, str, str]:
    """Equal for the images of one file."""
    return row.source, row.path, row.member or ""


class SliceStore:
    """Members of samples in a file on the disk that goes with this object.

    Args:
        folder: Where the file lies; it has no name there.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with the object
        self._places: dict[str, tuple[int, dict[str, int]]] = {}

    def put(self, image_id: str, members: Members) -> None:
        sizes = {name: len(data) for name, data in members.items()}
        self._places[image_id] = self._file.seek(0, io.SEEK_END), sizes
        self._file.write(b"".join(members.values()))

    def take(self, image_id: str) -> dict[str, bytes]:
        """The members that were put in under this name."""
        start, sizes = self._places[image_id]
        self._file.seek(start)
        return {name: self._file.read(size) for name, size in sizes.items()}
