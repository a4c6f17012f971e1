"""Rows of a listing as the user's options say what its columns mean: other names, value maps, columns of findings.

An adapter that reads tables of any origin reads their rows so; which columns there are, and what a cell of each means,
is the adapter's.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

from pipelines.errors import UserError
from pipelines.ingest import cells, warning_texts
from pipelines.ingest.columns import near_name

CellReader = Callable[..., Any]  # (cell, its column's name, for details) -> what it means


class RowReader:
    """Reads the cells of rows.

    Args:
        reads: Our column -> what a cell of it means; `labels` is `cells.words`, which gets the column's value map.
        columns: Our name of a column -> the listing's, where they differ.
        values: Column -> the listing's words -> ours; None: the word says nothing.
        label_columns: Columns that each say of one finding whether it is there, instead of `labels`.
        uncertain: What -1 means in these (`cells.one_hot`).

    Attributes:
        theirs: Our column -> the listing's.
        readers: The listing's column -> what a cell of it means, for `pipelines.ingest.inspect`.
    """

    def __init__(
        self,
        reads: Mapping[str, CellReader],
        columns: Mapping[str, str],
        values: Mapping[str, Mapping[str | int, str | int | None]],
        label_columns: Iterable[str],
        uncertain: str,
    ) -> None:
        self.theirs = {name: columns.get(name, name).strip() for name in reads}
        self._named = tuple(columns)
        self._label_columns = tuple(label_columns)
        self._uncertain = uncertain
        self._values = {
            column: cells.ValueMap({str(theirs): None if ours is None else str(ours) for theirs, ours in words.items()})
            for column, words in values.items()
        }
        self._readers = {
            name: partial(self._read, name, self._with_values(name, read))
            for name, read in reads.items()
            if not (name == "labels" and self._label_columns)
        }
        self.readers: dict[str, Callable[[Any], Any]] = {
            self.theirs[name]: read for name, read in self._readers.items()
        }
        for column in self._label_columns:
            self.readers[column] = partial(self._mark, column)

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What a row says, by our names; `labels` is there where `reads` has it.

        Raises:
            Rejected: A cell cannot be read.
        """
        found = {name: read(row.get(self.theirs[name])) for name, read in self._readers.items()}
        if self._label_columns:
            marks = {column: row.get(column) for column in self._label_columns}
            found["labels"] = cells.one_hot(marks, self._uncertain, self._values)
        return found

    def compare(self, place: str, seen: list[str], needed: Collection[str] = ()) -> list[str]:
        """Refuse a listing without a column that is needed; warn of columns and words that are there for nothing.

        Args:
            place: The listing, for the message.
            seen: Its columns.
            needed: Ours that it must have, beside those that the options name.

        Returns:
            Warnings; called when all rows were read.

        Raises:
            UserError: A column is missing.
        """
        wanted = [self.theirs[name] for name in (*needed, *self._named)]
        near = {column: near_name(column) for column in seen}
        if missing := sorted({column for column in (*wanted, *self._label_columns) if column not in seen}):
            # Names that resemble none of ours may be the values of a first row: they are not repeated.
            found = ", ".join(sorted(seen)) if any(near.values()) else f"{len(seen)} others"
            guess = [f"{ours}: {column}" for column, ours in near.items() if ours in needed]
            hint = f" (did you mean {{{guess[0]}}}?)" if guess and {*missing} & {self.theirs[n] for n in needed} else ""
            one = ", or options.delimiter, for the first line is one column" if len(seen) == 1 else ""
            raise UserError(
                f"{place} has no column {', '.join(missing)}, only {found or 'none'}: name the "
                f"right one in options.columns{hint}{one}"
            )
        return [*self._unused_columns(seen), *self._unused_words()]

    def _unused_columns(self, seen: list[str]) -> list[str]:
        taken = [name for name, column in self.theirs.items() if column in seen]
        near = {column: near_name(column, taken) for column in seen if column not in self.readers}
        unused = [
            _with_guess(column, ours if ours in {*self.theirs, "label_columns"} else None)
            for column, ours in near.items()
        ]
        return [f"{warning_texts.UNUSED_COLUMNS}{', '.join(unused)}"] if unused else []

    def _unused_words(self) -> list[str]:
        unused = [f"{word} ({column})" for column, values in self._values.items() for word in values.unused]
        return [f"{warning_texts.UNUSED_WORDS}{', '.join(unused)}"] if unused else []

    def _with_values(self, name: str, read: CellReader) -> CellReader:
        return partial(read, values=self._values.get(name)) if name == "labels" else read

    def _read(self, name: str, read: CellReader, value: Any) -> Any:
        values = None if name == "labels" else self._values.get(name)
        return read(cells.mapped(value, values), self.theirs[name])

    def _mark(self, column: str, value: Any) -> bool | None:
        return cells.yes_or_no(cells.mapped(value, self._values.get(column)), column, self._uncertain)


def check_options(
    known: Collection[str],
    unmapped: Collection[str],
    columns: Mapping[str, str],
    values: Mapping[str, object],
    label_columns: Collection[str],
    delimiter: str | None,
) -> None:
    """Check what an adapter's options say of the columns of its table.

    Args:
        known: Our columns.
        unmapped: Those of them that take no value map.
        columns: As in `RowReader`.
        values: As in `RowReader`.
        label_columns: As in `RowReader`.
        delimiter: Between the values of a CSV or TSV file.

    Raises:
        ValueError: Something is misspelt or contradicts itself.
    """
    if wrong := sorted(columns.keys() - set(known)):
        raise ValueError(f"columns: {', '.join(wrong)} is none of {', '.join(known)}")
    mappable = {*known, *label_columns} - {*unmapped}
    if wrong := sorted(values.keys() - mappable):
        raise ValueError(f"values: {', '.join(wrong)} is none of {', '.join(sorted(mappable))}")
    if label_columns and "labels" in columns:
        raise ValueError("label_columns: labels come from these columns or from columns.labels, not from both")
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise ValueError("delimiter: one character, such as , or ;")


def _with_guess(column: str, ours: str | None) -> str:
    name = column or "one without a name"
    return f"{name}{warning_texts.DID_YOU_MEAN}{ours}?)" if ours else name
