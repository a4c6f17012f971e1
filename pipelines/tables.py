"""Parquet files of typed rows: read and written a batch at a time, checked on the way."""

import dataclasses
import types
import typing
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import pyarrow
import pyarrow.parquet
import pydantic

from models.verified import open_verified, record
from pipelines.errors import UserError
from pipelines.files import atomic_path

if typing.TYPE_CHECKING:
    import pandas as pd

# Rows of one row group, so that a reader holds that many at a time.
BATCH_ROWS = 16_384

RowT = TypeVar("RowT")

_ARROW = {
    str: pyarrow.string(),
    int: pyarrow.int64(),
    float: pyarrow.float64(),
    bool: pyarrow.bool_(),
    bytes: pyarrow.binary(),
}


class Table(Generic[RowT]):
    """A table: a name for messages, the row class that declares its columns, and what must be unique.

    Args:
        name: What messages call it.
        row: Dataclass of a row (`pipelines.records`); its fields are the columns, in order.
        unique: Columns whose values together occur once.
    """

    def __init__(self, name: str, row: type[RowT], unique: tuple[str, ...] = ()) -> None:
        self.name = name
        self.row = row
        self.unique = unique
        self.columns = tuple(field.name for field in dataclasses.fields(row))  # type: ignore[arg-type]
        hints = typing.get_type_hints(row)
        self.arrow_schema = pyarrow.schema([(column, _arrow_type(hints[column])) for column in self.columns])

    def batches(self, path: Path) -> Iterator[list[RowT]]:
        """The rows of a file, one row group at a time.

        Raises:
            UserError: The file is missing.
            DamagedError: Its bytes are not those that were written.
            ValueError: The file breaks the contract; the message names the first column at fault, and what is wrong.
        """
        if not path.is_file():
            raise UserError(f"{path} not found: run `dvc repro` to make the table '{self.name}'")
        with open_verified(path) as stream, pyarrow.parquet.ParquetFile(stream) as file:
            if set(file.schema_arrow.names) != set(self.columns):
                raise ValueError(
                    f"table {self.name} breaks its contract: {path} has the columns {file.schema_arrow.names}, "
                    f"expected are {list(self.columns)}"
                )
            keys: set[tuple[Any, ...]] = set()
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                yield self._checked(batch.select(self.columns).to_pylist(), keys)

    def read(self, path: Path) -> list[RowT]:
        """All rows of a file; raises as `batches`."""
        return [row for batch in self.batches(path) for row in batch]

    def write(self, path: Path, rows: Iterable[RowT]) -> None:
        """Write rows atomically, a batch at a time, and the file's digest. The same rows give the same bytes.

        Raises:
            ValueError: Two rows are equal in the columns that must be unique.
        """
        keys: set[tuple[Any, ...]] = set()
        with (
            atomic_path(path) as temporary,
            pyarrow.parquet.ParquetWriter(temporary, self.arrow_schema, compression="zstd") as writer,
        ):
            remaining = iter(rows)
            while batch := list(islice(remaining, BATCH_ROWS)):
                self._check_unique(batch, keys)
                writer.write_table(self._arrow(batch))
        record(path)

    def frame(self, rows: Iterable[RowT]) -> "pd.DataFrame":
        """Rows as a data frame with Arrow types, so that an integer column with nulls stays integer."""
        # Here, for most stages need no pandas and its import takes half a second.
        import pandas as pd

        return self._arrow(list(rows)).to_pandas(types_mapper=pd.ArrowDtype)

    def rows(self, frame: "pd.DataFrame") -> list[RowT]:
        """The rows of a data frame that has the table's columns; further columns are left out.

        Raises:
            ValueError: It breaks the contract; as `batches`.
        """
        table = pyarrow.Table.from_pandas(frame[list(self.columns)], schema=self.arrow_schema, preserve_index=False)
        return self._checked(table.to_pylist(), set())

    def _arrow(self, rows: typing.Sequence[RowT]) -> pyarrow.Table:
        columns = {name: [getattr(row, name) for row in rows] for name in self.columns}
        return pyarrow.Table.from_pydict(columns, schema=self.arrow_schema)

    def _checked(self, values: list[dict[str, Any]], keys: set[tuple[Any, ...]]) -> list[RowT]:
        try:
            rows = [self.row(**row) for row in values]
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            column = ".".join(map(str, first["loc"]))
            # A text may be a report or a patient's id, and this line goes to logs.
            found = repr(first["input"]) if isinstance(first["input"], int | float) else type(first["input"]).__name__
            raise ValueError(
                f"table {self.name} breaks its contract: column {column}: {first['msg']} (found {found})"
            ) from None
        self._check_unique(rows, keys)
        return rows

    def _check_unique(self, rows: Iterable[RowT], keys: set[tuple[Any, ...]]) -> None:
        """Refuse rows whose unique columns are among `keys`, the former rows'; add them."""
        for row in rows if self.unique else ():
            key = tuple(getattr(row, column) for column in self.unique)
            if key in keys:
                raise ValueError(
                    f"table {self.name} breaks its contract: a key ({', '.join(self.unique)}) occurs twice"
                )
            keys.add(key)


def _arrow_type(hint: Any) -> pyarrow.DataType:
    """The Arrow type of a field: None in a union means nullable, which every Arrow column is."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (hint,) = (option for option in arguments if option is not types.NoneType)
        return _arrow_type(hint)
    if origin is Literal:
        return _arrow_type(type(arguments[0]))
    if origin is dict:
        return pyarrow.map_(*map(_arrow_type, arguments))
    if origin is tuple:
        return pyarrow.list_(_arrow_type(arguments[0]))
    return _ARROW[hint]
