"""Columns in memory, for what a stage must know of all rows at once: some bytes a row, and no object."""

from array import array
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value", bound=Hashable)


class Numbers:
    """Growing columns of numbers.

    Args:
        types: Name of each column -> type code of `array`, or `?` for true and false.
    """

    def __init__(self, **types: str) -> None:
        self._flags = {name for name, code in types.items() if code == "?"}
        self._columns: dict[str, array[Any]] = {
            name: array("b" if code == "?" else code) for name, code in types.items()
        }

    def append(self, **values: float) -> None:
        """Add a row: a value for each column."""
        for name, column in self._columns.items():
            column.append(values[name])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The columns, which grow no more."""
        arrays = {name: np.asarray(column) for name, column in self._columns.items()}
        return {name: column.view(bool) if name in self._flags else column for name, column in arrays.items()}


class SortedValues(Generic[Value]):
    """A growing column of values that have an order, such as texts; of equal ones the first alone is held."""

    def __init__(self) -> None:
        self._numbers: dict[Value, int] = {}
        self._column = array("i")

    def append(self, value: Value) -> None:
        self._column.append(self._numbers.setdefault(value, len(self._numbers)))

    def finish(self) -> tuple[list[Value], NDArray[np.int32]]:
        """The different values in their order, and of each row the index among them."""
        values: list[Any] = sorted(self._numbers)
        ranks = np.empty(len(values), dtype=np.int32)
        ranks[[self._numbers[value] for value in values]] = np.arange(len(values), dtype=np.int32)
        return values, ranks[np.asarray(self._column)]
