"""Two caption tables compared: what changed, item by item and column by column, and a fair choice of examples."""

from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import pandas as pd
import pyarrow

from pipelines.records import CAPTIONS, rows_of

# What a row is about and how it was made; every other column is compared.
_NOT_COMPARED = {"item_id", "image_id", "source", "kind", "captioner", "prompt_sha256", "raw_answer", "attempts"}
FIELDS = tuple(name for name in CAPTIONS.contract.columns if name not in _NOT_COMPARED)


@dataclass(frozen=True, kw_only=True)
class Change:
    """An item that is not as it was.

    Attributes:
        item_id: The image or region.
        source: Its source.
        kind: image or region.
        fields: Columns that differ; for an item that is new or gone the one word `new` or `gone`.
    """

    item_id: str
    source: str
    kind: str
    fields: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What became of the items of two caption tables.

    Attributes:
        rows: One a source and kind: `before`, `after` (items in the table), `unchanged`, `changed`, `new`, `gone`, and
            under `fields` the number of changed items by column. before = unchanged + changed + gone, and after =
            unchanged + changed + new.
        changes: Every item that changed, is new or is gone, in the order of item_id.
    """

    rows: list[dict[str, Any]]
    changes: list[Change]

    @property
    def totals(self) -> dict[str, int]:
        """The counts over all sources and kinds."""
        names = ("before", "after", "unchanged", "changed", "new", "gone")
        return {name: sum(row[name] for row in self.rows) for name in names}

    @property
    def fields(self) -> dict[str, int]:
        """Changed items by column, columns without any left out."""
        counts = {field: sum(row["fields"][field] for row in self.rows) for field in FIELDS}
        return {field: count for field, count in counts.items() if count}


def compare(before: pd.DataFrame, after: pd.DataFrame) -> Comparison:
    """Compare two tables of `CAPTIONS` item by item. An item keeps its source and kind, for both are in its id."""
    old, new = (table.sort_values("item_id").reset_index(drop=True) for table in (before, after))
    common = set(old["item_id"]) & set(new["item_id"])
    kept, renewed = (table[table["item_id"].isin(common)].reset_index(drop=True) for table in (old, new))
    # One column at a time, as plain values: lists compare as lists, and null equals null.
    differing: list[list[str]] = [[] for _ in range(len(kept))]
    for field in FIELDS:
        for place, (one, other) in enumerate(zip(_values(kept, field), _values(renewed, field), strict=True)):
            if one != other:
                differing[place].append(field)
    gone, added = (table[~table["item_id"].isin(common)] for table in (old, new))
    changes = [
        Change(item_id=row["item_id"], source=row["source"], kind=row["kind"], fields=tuple(fields))
        for table, found in (
            (renewed, differing),
            (added, [["new"]] * len(added)),
            (gone, [["gone"]] * len(gone)),
        )
        for row, fields in zip(rows_of(table[["item_id", "source", "kind"]]), found, strict=True)
        if fields
    ]
    return Comparison(
        rows=_count(old, new, changes), changes=sorted(changes, key=lambda change: (change.item_id, change.fields))
    )


def _values(table: pd.DataFrame, field: str) -> list[Any]:
    return pyarrow.Table.from_pandas(table[[field]], preserve_index=False).column(0).to_pylist()


def _count(old: pd.DataFrame, new: pd.DataFrame, changes: list[Change]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    names = ("before", "after", "unchanged", "changed", "new", "gone")
    for when, table in (("before", old), ("after", new)):
        for (source, kind), count in Counter(zip(table["source"], table["kind"], strict=True)).items():
            empty = {"source": source, "kind": kind, **dict.fromkeys(names, 0), "fields": dict.fromkeys(FIELDS, 0)}
            groups.setdefault((source, kind), empty)[when] = count
    for change in changes:
        group = groups[change.source, change.kind]
        if change.fields in (("new",), ("gone",)):
            group[change.fields[0]] += 1
        else:
            group["changed"] += 1
            for field in change.fields:
                group["fields"][field] += 1
    for group in groups.values():
        group["unchanged"] = group["before"] - group["gone"] - group["changed"]
    return [groups[key] for key in sorted(groups)]


def choose(changes: list[Change], count: int) -> list[Change]:
    """Up to `count` changes, one of each pair of a column (or new, gone) and a source in turn.

    Within a pair they come in the order of item_id, which is a hash: the choice is fair and fixed.
    """
    piles: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        for field in change.fields:
            piles.setdefault((field, change.source), []).append(change)
    chosen: dict[str, Change] = {}
    for turn in zip_longest(*(piles[key] for key in sorted(piles))):
        for change in turn:
            if change is not None and len(chosen) < count:
                chosen.setdefault(change.item_id, change)
    return list(chosen.values())
