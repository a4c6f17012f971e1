"""A killed command runs again to the very files of one that nobody killed, and nothing else lies there."""

from pathlib import Path

import pytest
from fault_parts import kills
from fault_parts.trials import Row
from fault_parts.workspace import copy

STAGES = {killed.name: killed for killed in kills.stage_kills()}


def check(row: Row) -> None:
    assert row.outcome == "ok", row
    assert row.kind == "kill", f"it ended before it was killed: {row}"
    assert row.equal_bytes
    assert row.left_overs == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phantom", "caption_shards over an old output"])
def test_a_killed_stage_runs_again_as_if_nothing_had_been(study: Path, tmp_path: Path, name: str) -> None:
    check(kills.trial(STAGES[name], study, tmp_path, 1))


def test_a_file_that_should_not_be_there_is_counted(tmp_path: Path) -> None:
    study = tmp_path / "study"
    (study / "data/split").mkdir(parents=True)
    (study / "data/split/images.parquet").write_bytes(b"rows")
    script = (
        "touch data/split/.$$.partial; printf rows > data/split/images.parquet; sleep 0.4; rm data/split/.$$.partial"
    )
    # Trial 2 kills it at its first change.
    row = kills.trial(kills.Killed("kill", "careless", ["sh", "-c", script], lambda _: None), study, tmp_path, 2)
    assert (row.kind, row.outcome, row.equal_bytes, row.left_overs) == ("kill", "left over", True, 1)
    assert ".partial" in row.detail


def test_other_bytes_are_noticed(tmp_path: Path) -> None:
    study = tmp_path / "study"
    (study / "data").mkdir(parents=True)
    random = ["sh", "-c", "echo $$ > data/a; sleep 0.4"]
    row = kills.trial(kills.Killed("kill", "random", random, lambda _: None), study, tmp_path, 7)
    assert (row.outcome, row.equal_bytes, row.left_overs) == ("other bytes", False, 0)


def test_a_copy_shares_nothing_with_its_study(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study/a").write_text("a")
    (copy(tmp_path / "study", tmp_path / "copy") / "a").open("a").write("b")
    assert (tmp_path / "study/a").read_text() == "a"
