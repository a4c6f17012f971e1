"""Objects that wait on the disk, for what a stage must see again and memory should not hold."""

import io
import pickle
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Spill(Generic[Item]):
    """A list on the disk that goes with this object; memory holds eight bytes an item.

    Items are pickled when they are added, and made anew each time that they are asked for. The file has no name, so
    nobody else writes it.

    Args:
        folder: Where the file lies; its disk needs room for all items.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with the object
        self._starts = array("Q")

    def add(self, item: Item) -> int:
        """Put an item at the end; its index."""
        self._starts.append(self._file.seek(0, io.SEEK_END))
        pickle.dump(item, self._file, pickle.HIGHEST_PROTOCOL)
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> Item:
        self._file.seek(self._starts[index])
        item: Item = pickle.load(self._file)
        return item

    def __iter__(self) -> Iterator[Item]:
        """The items that are there now, in order, each made anew."""
        return map(self.__getitem__, range(len(self)))

    def __len__(self) -> int:
        return len(self._starts)
