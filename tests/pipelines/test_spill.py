"""Items that wait on the disk come back as they were, in any order, and leave no file."""

from pathlib import Path

import pytest

from pipelines.records import RejectedRow
from pipelines.spill import Spill


def test_items_come_back_in_any_order_and_as_often_as_wanted(tmp_path: Path) -> None:
    spill: Spill[RejectedRow | bytes] = Spill(tmp_path)
    row = RejectedRow(source="s", row="t.csv:1", reason="missing_file", detail="")
    assert [spill.add(row), spill.add(b"x" * 100_000)] == [0, 1]
    assert spill[1] == b"x" * 100_000
    assert spill.add(b"") == 2  # after a read
    assert (spill[0], spill[2], spill[0]) == (row, b"", row)
    assert len(spill) == 3
    with pytest.raises(IndexError):
        spill[3]


def test_no_file_is_seen_or_left(tmp_path: Path) -> None:
    Spill[int](tmp_path).add(1)
    assert list(tmp_path.iterdir()) == []
