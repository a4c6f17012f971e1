"""The hash chain: what is written is read, and each kind of damage is one line with its number."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UserError
from pipelines.promotion import ledger


def entry(version: str) -> dict[str, Any]:
    names = ("time", "action", "method", "metric", "score", "gates", "champion", "model")
    # A line separator of Unicode, which JSON does not escape, is no end of a line.
    return {**dict.fromkeys(names), "version": version, "who": "Zoë\u2028"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "promotions.jsonl"
    for number in range(3):
        ledger.append(path, entry(str(number)))
    return path


def test_each_line_names_the_one_before(file: Path) -> None:
    lines = file.read_bytes().removesuffix(b"\n").split(b"\n")
    entries = ledger.read(file)
    assert [entry["version"] for entry in entries] == ["0", "1", "2"]
    assert entries[0]["previous"] == "0" * 64
    assert [entry["previous"] for entry in entries[1:]] == [hashlib.sha256(line).hexdigest() for line in lines[:2]]
    assert ledger.line_digests(file) == [hashlib.sha256(line).hexdigest() for line in lines]
    assert ledger.append(file, entry("3")) == ledger.line_digests(file)[3]


def test_a_ledger_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert ledger.read(tmp_path / "promotions.jsonl") == []


def changed(lines: list[str]) -> list[str]:
    return [lines[0], lines[1].replace('"1"', '"7"'), lines[2]]


def forged(lines: list[str]) -> list[str]:
    """A line put in, which names the one before it."""
    line = {**entry("9"), "previous": hashlib.sha256(lines[0].encode()).hexdigest()}
    return [lines[0], json.dumps(line), *lines[1:]]


@pytest.mark.parametrize(
    ("damage", "number"),
    [
        (changed, 3),
        (forged, 3),
        (lambda lines: [lines[0], lines[2]], 2),
        (lambda lines: [lines[1], lines[2]], 1),
        (lambda lines: [lines[1], lines[0], lines[2]], 1),
        (lambda lines: [*lines[:2], lines[2][:20]], 3),
        (lambda lines: [*lines, "[]"], 4),
        (lambda lines: [lines[0], "", *lines[1:]], 2),
        (lambda lines: [lines[0], "<<<<<<< HEAD", *lines[1:]], 2),
    ],
    ids=["changed", "forged", "dropped", "first dropped", "exchanged", "torn", "no entry", "empty", "merge conflict"],
)
def test_damage_is_one_line_with_its_number(file: Path, damage: Callable[[list[str]], list[str]], number: int) -> None:
    file.write_text("\n".join(damage(file.read_text().removesuffix("\n").split("\n"))) + "\n")
    before = file.read_bytes()
    for action in (lambda: ledger.read(file), lambda: ledger.append(file, entry("4"))):
        with pytest.raises(UserError, match=rf"promotions.jsonl: line {number} .*Bring the file back") as error:
            action()
        assert "\n" not in str(error.value)
    assert file.read_bytes() == before
