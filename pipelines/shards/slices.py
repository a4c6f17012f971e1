"""What was made of the slices of volumes, volume by volume, until their turn in the tars comes.

The order in the tars is that of a hash, in which the slices of many volumes alternate: each volume would be opened anew
for each of its slices.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipelines.records import SplitImageRow
from pipelines.spill import Spill

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
    """Members of samples, on the disk until they are taken.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._members = Spill[Members](folder)
        self._indices: dict[str, int] = {}

    def put(self, image_id: str, members: Members) -> None:
        self._indices[image_id] = self._members.add(members)

    def take(self, image_id: str) -> Members:
        """The members that were put in under this name."""
        return self._members[self._indices[image_id]]
