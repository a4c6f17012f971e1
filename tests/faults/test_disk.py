"""A full, read-only or forbidden disk is one line, and the next run on a good one is as ever."""

from pathlib import Path

import pytest
from fault_parts import disk
from fault_parts.workspace import STAGES, Done

BY_NAME = {stage.name: stage for stage in STAGES}


@pytest.mark.slow
@pytest.mark.parametrize("way", disk.WAYS)
def test_a_stage_on_a_bad_disk(study: Path, tmp_path: Path, way: str) -> None:
    if way not in disk.ways():
        pytest.skip("no mount is allowed here")
    row = disk.trial(way, BY_NAME["proposals" if way == "full_cache" else "caption_shards"], study, tmp_path, 0)
    assert row.outcome == "ok", row
    assert "error: " in row.detail
    assert (row.equal_bytes, row.left_overs) == (True, 0)


@pytest.mark.parametrize(
    ("code", "text", "problem"),
    [
        (1, "error: data is full\n", None),
        (1, "INFO x\nerror: data is full\n", None),
        (0, "", "exit code 0"),
        (2, "error: usage\n", "exit code 2"),
        (1, "error: a\nerror: b\n", "2 lines of error"),
        (1, "nothing\n", "0 lines of error"),
        (1, 'Traceback (most recent call last):\n  File "x"\nOSError: full\n', "traceback: OSError: full"),
    ],
)
def test_what_counts_as_one_line(code: int, text: str, problem: str | None) -> None:
    assert Done(code, text, 0.0).problem == problem
