"""Parquet files of typed rows: read and written a batch at a time, checked on the way.

Most tables are in the order of their images, so that two of them are read side by side (`beside`) and neither is held
in memory.
"""

import dataclasses
import types
import typing
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from operator import attrgetter
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

# Rows of one row group of a file, and of those that a reader or writer holds as objects at a time.
GROUP_ROWS = 4_096
BATCH_ROWS = 2_048
# How Arrow reads a file: a column's bytes as they are wanted. By default those of all row groups are read ahead, and
# held until the file is closed.
READING = {"pre_buffer": False, "buffer_size": 65_536}

# Arrow's own allocator keeps what it once had: with it, reading a table of 90,000 regions row by row grows to 100 MB.
pyarrow.set_memory_pool(pyarrow.system_memory_pool())

RowT = TypeVar("RowT")
OtherT = TypeVar("OtherT")

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
        by_image: The rows of an image stand together, images in the order of their ids, and what is unique is so among
            an image's rows.
        by_key: The rows stand in the order of what is unique. Where they are in neither order, they are in any, and all
            keys are held to compare them.
    """

    def __init__(
        self,
        name: str,
        row: type[RowT],
        unique: tuple[str, ...] = (),
        *,
        by_image: bool = False,
        by_key: bool = False,
    ) -> None:
        self.name = name
        self.row = row
        self.unique = unique
        self.by_image = by_image
        self.order = ("image_id",) if by_image else unique if by_key else ()
        # One value, or a tuple of several.
        self._place: Callable[[RowT], Any] = attrgetter(*self.order) if self.order else lambda row: None
        self._key: Callable[[RowT], Any] | None = attrgetter(*unique) if unique else None
        self.columns = tuple(field.name for field in dataclasses.fields(row))  # type: ignore[arg-type]
        hints = typing.get_type_hints(row)
        self.arrow_schema = pyarrow.schema([(column, _arrow_type(hints[column])) for column in self.columns])
        self._required = {column for column in self.columns if types.NoneType not in typing.get_args(hints[column])}

    def batches(self, path: Path, **values: str) -> Iterator[list[RowT]]:
        """The rows of a file, some at a time; with `values` those alone that have them in these columns.

        Raises:
            UserError: The file is missing, or has other columns than the table.
            DamagedError: Its bytes are not those that were written.
            ValueError: The file breaks the contract; the message names the first column at fault, and what is wrong.
        """
        former = _Former()
        for batch in self.arrow_batches(path, self.columns):
            rows = self._typed(_with_values(batch, values))
            self._check_keys(rows, former)
            yield rows

    def rows(self, path: Path, **values: str) -> Iterator[RowT]:
        """The rows of a file one by one; arguments and errors as those of `batches`."""
        return chain.from_iterable(self.batches(path, **values))

    def groups(self, path: Path, **values: str) -> Iterator[tuple[str, list[RowT]]]:
        """The rows of each image, of a table that is in their order; arguments and errors as those of `batches`."""
        assert self.by_image, f"the table {self.name} is in no order of images"
        return of_images(self.rows(path, **values))

    def count(self, path: Path, **values: str) -> int:
        """How many rows `rows` would give; they are not made. Errors as those of `arrow_batches`."""
        columns = tuple(values) or self.columns[:1]
        return sum(_with_values(batch, values).num_rows for batch in self.arrow_batches(path, columns))

    def parts(self, path: Path, columns: tuple[str, ...]) -> Iterator[Any]:
        """Some columns of the rows, in a fifth of their time: for a first look by who then reads the whole rows.

        Args:
            path: The file.
            columns: Which, `unique` and, of a table in the order of images, `image_id` among them.

        Yields:
            Named tuples. Types and keys were checked, ranges and patterns of values were not; texts stand in lists.

        Raises:
            UserError: As `batches`, like the others.
        """
        part: Any = namedtuple("Part", columns)  # type: ignore[misc]
        former = _Former()
        for batch in self.arrow_batches(path, columns):
            for column, values in zip(columns, batch.columns, strict=True):
                if values.type != self.arrow_schema.field(column).type:
                    raise ValueError(f"table {self.name} breaks its contract: column {column}: {values.type}")
                if column in self._required and values.null_count:
                    raise ValueError(f"table {self.name} breaks its contract: column {column}: a value is missing")
            rows = list(map(part._make, zip(*batch.to_pydict().values(), strict=True)))
            self._check_keys(rows, former)
            yield from rows

    def arrow_batches(self, path: Path, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
        """Some columns of a file, some rows at a time, as Arrow has them: their values are not checked.

        Raises:
            UserError: The file is missing, or has other columns than the table.
            DamagedError: Its bytes are not those that were written.
        """
        if not path.is_file():
            raise UserError(f"{path} not found: run `dvc repro` to make the table '{self.name}'")
        with open_verified(path) as stream, pyarrow.parquet.ParquetFile(stream, **READING) as file:
            if differing := sorted({*file.schema_arrow.names} ^ {*self.columns}):
                # Its bytes are those that were written: not by this release, then, or not as this table.
                raise UserError(
                    f"{path} is no table '{self.name}' of this release, which differs in the columns "
                    f"{', '.join(differing)}: make it again, by `dvc repro` or by the command that wrote it"
                )
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns)):
                yield batch.select(list(columns))

    def read(self, path: Path) -> list[RowT]:
        """All rows of a file; raises as `batches`. What grows with the data set asks for `rows` or `groups`."""
        return list(self.rows(path))

    def write(self, path: Path, rows: Iterable[RowT]) -> None:
        """Write rows atomically, a row group at a time, and the file's digest. The same rows give the same bytes.

        Raises:
            ValueError: Two rows are equal in the columns that must be unique, or a row is out of order.
        """
        former = _Former()
        with (
            atomic_path(path) as temporary,
            pyarrow.parquet.ParquetWriter(temporary, self.arrow_schema, compression="zstd") as writer,
        ):
            remaining = iter(rows)
            while group := list(self._batches(islice(remaining, GROUP_ROWS), former)):
                writer.write_table(pyarrow.concat_tables(group))
        record(path)

    def _batches(self, rows: Iterator[RowT], former: "_Former") -> Iterator[pyarrow.Table]:
        while batch := list(islice(rows, BATCH_ROWS)):
            self._check_keys(batch, former)
            yield self._arrow(batch)

    def frame(self, rows: Iterable[RowT]) -> "pd.DataFrame":
        """Rows as a data frame with Arrow types, so that an integer column with nulls stays integer."""
        # Here, for most stages need no pandas and its import takes half a second.
        import pandas as pd

        return self._arrow(list(rows)).to_pandas(types_mapper=pd.ArrowDtype)

    def from_frame(self, frame: "pd.DataFrame") -> list[RowT]:
        """The rows of a data frame that has the table's columns, in any order; further columns are left out.

        Raises:
            ValueError: A value breaks the contract.
        """
        table = pyarrow.Table.from_pandas(frame[list(self.columns)], schema=self.arrow_schema, preserve_index=False)
        return self._typed(table)

    def _arrow(self, rows: Sequence[RowT]) -> pyarrow.Table:
        columns = {name: [getattr(row, name) for row in rows] for name in self.columns}
        return pyarrow.Table.from_pydict(columns, schema=self.arrow_schema)

    def _typed(self, values: pyarrow.RecordBatch | pyarrow.Table) -> list[RowT]:
        # Columns become Python's values in a third of the time that rows take.
        columns = values.to_pydict().values()
        try:
            return [self.row(**dict(zip(self.columns, row, strict=True))) for row in zip(*columns, strict=True)]
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            column = ".".join(map(str, first["loc"]))
            # A text may be a report or a patient's id, and this line goes to logs.
            found = repr(first["input"]) if isinstance(first["input"], int | float) else type(first["input"]).__name__
            raise ValueError(
                f"table {self.name} breaks its contract: column {column}: {first['msg']} (found {found})"
            ) from None

    def _check_keys(self, rows: Sequence[Any], former: "_Former") -> None:
        """Refuse rows that are out of order, or whose unique columns are those of a former row; remember them."""
        if self._key is None:
            return
        for row in rows:
            place, key = self._place(row), self._key(row)
            if former.keys and place != former.place:
                if place < former.place:
                    order = ", ".join(self.order)
                    raise ValueError(f"table {self.name} breaks its contract: a row is out of the order of {order}")
                former.keys.clear()
            former.place = place
            if key in former.keys:
                raise ValueError(
                    f"table {self.name} breaks its contract: a key ({', '.join(self.unique)}) occurs twice"
                )
            former.keys.add(key)


@dataclasses.dataclass
class _Former:
    """What is remembered of the rows before: the last one's place in the table's order, and the keys of all there."""

    place: Any = None
    keys: set[Any] = dataclasses.field(default_factory=set)


def of_images(rows: Iterable[RowT]) -> Iterator[tuple[str, list[RowT]]]:
    """The rows of each image, of rows that are in the order of images."""
    for image_id, group in groupby(rows, key=attrgetter("image_id")):
        yield image_id, list(group)


def beside(
    rows: Iterable[RowT], others: Iterator[tuple[str, list[OtherT]]], where: str
) -> Iterator[tuple[RowT, list[OtherT]]]:
    """Each image's row with the rows of another table that are about it.

    Args:
        rows: Of a table with one row an image, by image_id.
        others: `Table.groups` of the other table.
        where: What to call the two files and what to do where they do not belong together.

    Raises:
        UserError: The other table has an image that `rows` lack; when the row in its place is asked for.
    """
    group = next(others, None)
    for row in rows:
        image_id: str = row.image_id  # type: ignore[attr-defined]
        if group is not None and group[0] == image_id:
            yield row, group[1]
            group = next(others, None)
        else:
            yield row, []
        if group is not None and group[0] <= image_id:
            break
    if group is not None:
        raise UserError(where)


def _with_values(batch: pyarrow.RecordBatch, values: Mapping[str, str]) -> pyarrow.RecordBatch:
    """The rows that have each of the values in its column."""
    if not values:
        return batch
    # Here, for it takes 8 MB and tens of milliseconds that most commands need not spend.
    import pyarrow.compute

    for column, value in values.items():
        batch = batch.filter(pyarrow.compute.equal(batch.column(column), value))
    return batch


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
