"""Two small caption tables whose differences are known, and the choice among many changes."""

from typing import Any

from pipelines.rebuild.compare import FIELDS, Change, choose, compare
from pipelines.records import CaptionRow

DIGEST = "ab" * 32


def row(item: str, source: str = "alpha", **columns: Any) -> CaptionRow:
    defaults = {
        "item_id": item,
        "image_id": item.partition("-")[0],
        "source": source,
        "kind": "region" if "-" in item else "image",
        "status": "ok",
        "oracle": False,
        "captioner": "findings",
        "prompt_sha256": DIGEST,
    }
    return CaptionRow(**(defaults | columns))


ONE, TWO, THREE, FOUR = (f"{number:016x}" for number in range(4))
BEFORE = [
    row(ONE, summary="A."),
    row(f"{ONE}-0", adjective="round", negatives=("a", "b")),
    row(f"{ONE}-1", adjective="oval"),
    row(TWO, "beta", summary="B.", report="R."),
    row(THREE, "beta", warnings=()),
]


def test_same_table_in_another_order_has_no_change() -> None:
    comparison = compare(BEFORE, BEFORE[::-1])
    assert comparison.changes == []
    assert comparison.fields == {}
    assert comparison.totals == {"before": 5, "after": 5, "unchanged": 5, "changed": 0, "added": 0, "removed": 0}


def test_changes_are_counted_by_source_kind_and_column() -> None:
    after = [
        row(ONE, summary="A.", captioner="vllm", prompt_sha256="cd" * 32, attempts=2),
        row(f"{ONE}-0", adjective="oval", negatives=("b", "a")),
        row(TWO, "beta", summary="C.", status="rejected", reason="r", raw_answer="x"),
        row(THREE, "beta"),
        row(FOUR, "beta", summary="D."),
    ]
    comparison = compare(BEFORE, after)
    # How a row was made is no change; null is not the empty tuple, and the order of negatives counts.
    assert comparison.changes == [
        Change(item_id=f"{ONE}-0", image_id=ONE, source="alpha", kind="region", fields=("adjective", "negatives")),
        Change(item_id=f"{ONE}-1", image_id=ONE, source="alpha", kind="region", fields=("removed",)),
        Change(
            item_id=TWO, image_id=TWO, source="beta", kind="image", fields=("status", "reason", "summary", "report")
        ),
        Change(item_id=THREE, image_id=THREE, source="beta", kind="image", fields=("warnings",)),
        Change(item_id=FOUR, image_id=FOUR, source="beta", kind="image", fields=("added",)),
    ]
    assert comparison.totals == {"before": 5, "after": 5, "unchanged": 1, "changed": 3, "added": 1, "removed": 1}
    names = ("source", "kind", "before", "after", "unchanged", "changed", "added", "removed")
    assert [tuple(line[name] for name in names) for line in comparison.rows] == [
        ("alpha", "image", 1, 1, 1, 0, 0, 0),
        ("alpha", "region", 2, 1, 0, 1, 0, 1),
        ("beta", "image", 2, 3, 0, 2, 1, 0),
    ]
    ones = ("status", "reason", "summary", "report", "adjective", "negatives", "warnings")
    assert comparison.fields == dict.fromkeys(ones, 1)
    assert comparison.rows[1]["fields"] == {**dict.fromkeys(FIELDS, 0), "adjective": 1, "negatives": 1}


def test_against_an_empty_table_all_items_are_added_or_removed() -> None:
    empty: list[CaptionRow] = []
    assert compare(empty, BEFORE).totals == {
        "before": 0,
        "after": 5,
        "unchanged": 0,
        "changed": 0,
        "added": 5,
        "removed": 0,
    }
    assert compare(BEFORE, empty).totals == {
        "before": 5,
        "after": 0,
        "unchanged": 0,
        "changed": 0,
        "added": 0,
        "removed": 5,
    }
    assert compare(empty, empty).rows == []


def change(item: int, source: str, *fields: str) -> Change:
    return Change(item_id=f"{item:016x}", image_id=f"{item:016x}", source=source, kind="image", fields=fields)


def test_rare_columns_and_small_sources_are_among_the_examples() -> None:
    many = [change(number, "alpha", "summary") for number in range(100)]
    rare = [change(200, "alpha", "report"), change(201, "beta", "summary"), change(202, "beta", "removed")]
    chosen = choose(many + rare, 5)
    # The first of the four piles in the order of their names, then the second of the one that has more.
    assert [int(one.item_id, 16) for one in chosen] == [202, 200, 0, 201, 1]
    assert choose(many + rare, 0) == []


def test_an_item_that_changed_in_several_columns_is_shown_once() -> None:
    changes = [change(0, "alpha", "report", "summary"), change(1, "alpha", "summary")]
    assert [one.item_id for one in choose(changes, 10)] == [changes[0].item_id, changes[1].item_id]
