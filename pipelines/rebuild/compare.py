"""Two caption tables compared: what changed, item by item and column by column, and a fair choice of examples."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from pipelines.records import CAPTIONS, CaptionRow

# What a row is about and how it was made; every other column is compared.
_NOT_COMPARED = {"item_id", "image_id", "source", "kind", "captioner", "prompt_sha256", "raw_answer", "attempts"}
FIELDS = tuple(name for name in CAPTIONS.columns if name not in _NOT_COMPARED)
COUNTS = ("before", "after", "unchanged", "changed", "added", "removed")


@dataclass(frozen=True, kw_only=True)
class Change:
    """An item that changed.

    Attributes:
        item_id: The image or region.
        image_id: Its image.
        source: Its source.
        kind: image or region.
        fields: Columns that differ; for an item that was added or removed the one word `added` or `removed`.
    """

    item_id: str
    image_id: str
    source: str
    kind: str
    fields: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The items of two caption tables compared.

    Attributes:
        rows: One for each source and kind: `before`, `after` (items in the table), `unchanged`, `changed`, `added`,
            `removed`, and under `fields` the number of changed items by column.
            before = unchanged + changed + removed, and after = unchanged + changed + added.
        changes: Every item that changed, was added or was removed, in the order of item_id.
    """

    rows: list[dict[str, Any]]
    changes: list[Change]

    @property
    def totals(self) -> dict[str, int]:
        """The counts over all sources and kinds."""
        return {name: sum(row[name] for row in self.rows) for name in COUNTS}

    @property
    def fields(self) -> dict[str, int]:
        """Changed items by column, columns without any left out."""
        counts = {field: sum(row["fields"][field] for row in self.rows) for field in FIELDS}
        return {field: count for field, count in counts.items() if count}


def compare(before: list[CaptionRow], after: list[CaptionRow]) -> Comparison:
    """Compare two tables of `CAPTIONS` item by item. An item keeps its source and kind, for both are in its id."""
    old, new = ({row.item_id: row for row in rows} for rows in (before, after))
    changes = [
        *(_change(row, _differing_fields(old[item], row)) for item, row in new.items() if item in old),
        *(_change(row, ("added",)) for item, row in new.items() if item not in old),
        *(_change(row, ("removed",)) for item, row in old.items() if item not in new),
    ]
    changed = sorted((change for change in changes if change.fields), key=lambda change: change.item_id)
    return Comparison(rows=_count(before, after, changed), changes=changed)


def _differing_fields(old: CaptionRow, new: CaptionRow) -> tuple[str, ...]:
    return tuple(field for field in FIELDS if getattr(old, field) != getattr(new, field))


def _change(row: CaptionRow, fields: tuple[str, ...]) -> Change:
    return Change(item_id=row.item_id, image_id=row.image_id, source=row.source, kind=row.kind, fields=fields)


def _count(before: Iterable[CaptionRow], after: Iterable[CaptionRow], changes: list[Change]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for when, rows in (("before", before), ("after", after)):
        for (source, kind), count in Counter((row.source, row.kind) for row in rows).items():
            empty = {"source": source, "kind": kind, **dict.fromkeys(COUNTS, 0), "fields": dict.fromkeys(FIELDS, 0)}
            groups.setdefault((source, kind), empty)[when] = count
    for change in changes:
        group = groups[change.source, change.kind]
        if change.fields in (("added",), ("removed",)):
            group[change.fields[0]] += 1
        else:
            group["changed"] += 1
            for field in change.fields:
                group["fields"][field] += 1
    for group in groups.values():
        group["unchanged"] = group["before"] - group["removed"] - group["changed"]
    return [groups[key] for key in sorted(groups)]


def choose(changes: list[Change], count: int) -> list[Change]:
    """Up to `count` changes, one of each pair of a column (or added, removed) and a source in turn.

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
