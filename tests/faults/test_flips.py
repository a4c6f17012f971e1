"""A turned bit is noticed or without effect, in the readers and in whole stages."""

import random
from pathlib import Path

import pytest
from fault_parts import flips

# The study of these tests ends before there are the others.
KINDS = [kind for kind in flips.KINDS if kind.name not in ("checkpoints", "metrics")]


@pytest.fixture(scope="module")
def readers(study: Path, tmp_path_factory: pytest.TempPathFactory) -> flips.Readers:
    return flips.Readers(flips.prepare(study, tmp_path_factory.mktemp("flips") / "study"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_turned_bit_gives_another_result(readers: flips.Readers, kind: flips.Kind) -> None:
    rows = [readers.trial(kind, number) for number in range(4)]
    assert [row for row in rows if row.outcome != "ok" or not row.equal_bytes] == []


@pytest.mark.slow
def test_a_stage_with_a_turned_bit_in_its_input(study: Path, tmp_path: Path) -> None:
    row = flips.stage_trial(study, tmp_path, 5)  # caption_shards
    assert row.outcome == "ok", row


def test_one_bit_is_turned_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(bytes(100))
    flips.turn(file, random.Random(3))
    assert sum(byte.bit_count() for byte in file.read_bytes()) == 1
