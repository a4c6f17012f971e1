"""Columns of a source's listings: how often they are null, which values they have, and what each will mean."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.errors import Rejected, item_boundary, printable
from pipelines.ingest.cells import is_null
from pipelines.ingest.columns import near_name

_MAX_DISTINCT = 10_000  # kept in memory; a column of more is told so
_MAX_CATEGORIES = 30
_MAX_UNUSED = 6  # values of a column that is not used
_MAX_CHARACTERS = 200
_NULL = "null: nobody said"


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """A value with what it will mean.

    Attributes:
        value: As the listing has it, shortened.
        count: Rows that have it; None for an example.
        meaning: What the adapter makes of it; None where it does not say.
        is_refused: A row with it is rejected.
    """

    value: str
    count: int | None
    meaning: str | None
    is_refused: bool = False


@dataclass(kw_only=True)
class ColumnProfile:
    """One column of one listing.

    Attributes:
        listing: The file.
        name: The column.
        cells: Rows that have it.
        nulls: Those of them whose cell holds a null word, or nothing.
        values: Value as text -> rows, at most 10,000 values.
        raw: Value as text -> the value itself.
        more: There are more values than these.
    """

    listing: str
    name: str
    cells: int = 0
    nulls: int = 0
    values: Counter[str] = field(default_factory=Counter)
    raw: dict[str, Any] = field(default_factory=dict)
    more: bool = False

    def add(self, value: Any) -> None:
        self.cells += 1
        if is_null(value):
            self.nulls += 1
        if value is None:
            return
        text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
        if text in self.values or len(self.values) < _MAX_DISTINCT:
            self.values[text] += 1
            self.raw.setdefault(text, value)
        else:
            self.more = True

    @property
    def is_categorical(self) -> bool:
        """Few values that come again: worth a line each."""
        distinct = len(self.values)
        return 0 < distinct <= _MAX_CATEGORIES and (2 * distinct <= self.cells or self.cells <= _MAX_CATEGORIES)


@dataclass(frozen=True, kw_only=True)
class ColumnView:
    """A column as the page and the screen show it.

    Attributes:
        profile: Its counts.
        rows: Rows of its listing.
        nulls: Those of its cells that say nothing, as far as the adapter reads them.
        is_used: The adapter reads it; None where the adapter does not say what it reads.
        near: Our column that it may stand for, where it is not used.
        values: The values of a column of few, the most frequent first; of another one examples.
    """

    profile: ColumnProfile
    rows: int
    nulls: int
    is_used: bool | None
    near: str | None
    values: list[Meaning]

    @property
    def null_fraction(self) -> float:
        """Fraction of the rows that have no value here, 0 to 1."""
        missing = self.rows - self.profile.cells
        return (self.nulls + missing) / self.rows if self.rows else 0.0


class Profiles:
    """Watches the rows of a source's listings."""

    def __init__(self) -> None:
        self._columns: dict[tuple[str, str], ColumnProfile] = {}
        self._rows: Counter[str] = Counter()

    def __call__(self, listing: str, row: Mapping[str, Any]) -> None:
        self._rows[listing] += 1
        for name, value in row.items():
            profile = self._columns.setdefault((listing, name), ColumnProfile(listing=listing, name=name))
            profile.add(value)

    def views(self, readers: Mapping[str, Callable[[Any], Any]], examples: int) -> list[ColumnView]:
        """All columns, each with up to that many examples."""
        return [self._view(profile, readers, examples) for profile in self._columns.values()]

    def _view(self, profile: ColumnProfile, readers: Mapping[str, Callable[[Any], Any]], examples: int) -> ColumnView:
        read = readers.get(profile.name)
        taken = [name for listing, name in self._columns if listing == profile.listing]
        by_count = sorted(profile.values.items(), key=lambda item: (-item[1], item[0]))
        if not profile.is_categorical:
            shown = [_meaning(text, profile.raw[text], None, read) for text in list(profile.values)[:examples]]
        else:
            most = by_count if read else by_count[:_MAX_UNUSED]
            shown = [_meaning(text, profile.raw[text], count, read) for text, count in most]
        return ColumnView(
            profile=profile,
            rows=self._rows[profile.listing],
            nulls=_nulls(profile, read),
            is_used=profile.name in readers if readers else None,
            near=None if read or not readers else near_name(profile.name, taken),
            values=shown,
        )


def _nulls(profile: ColumnProfile, read: Callable[[Any], Any] | None) -> int:
    """Cells that are read as null; by the usual null words where the column is not read, or not all values are kept."""
    if read is None or profile.more:
        return profile.nulls
    said_nothing = (
        count
        for text, count in profile.values.items()
        if _meaning(text, profile.raw[text], count, read).meaning == _NULL
    )
    return profile.cells - profile.values.total() + sum(said_nothing)


def _meaning(text: str, value: Any, count: int | None, read: Callable[[Any], Any] | None) -> Meaning:
    shown = printable(text)
    shown = shown if len(shown) <= _MAX_CHARACTERS else shown[:_MAX_CHARACTERS] + " ..."
    if read is None:
        return Meaning(value=shown, count=count, meaning=None)
    try:
        with item_boundary("bad_row"):
            meaning = _in_words(read(value), text)
    except Rejected as error:
        return Meaning(value=shown, count=count, meaning=f"{error.reason}: {error.detail}", is_refused=True)
    return Meaning(value=shown, count=count, meaning=meaning)


def _in_words(meaning: Any, text: str) -> str | None:
    """What a cell was read as; None where that is what stands there, or needs more words than a line."""
    if meaning is None:
        return _NULL
    if isinstance(meaning, bool):
        return "yes" if meaning else "no"
    if meaning == ():
        return "no finding"
    if isinstance(meaning, tuple) and all(isinstance(word, str) for word in meaning):
        return ", ".join(meaning)
    return str(meaning) if isinstance(meaning, str | int) and str(meaning) != text else None
