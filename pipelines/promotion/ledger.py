"""The ledger of promotions: a line of JSON for each decision, chained by hashes, kept by git.

Each line has `previous`, the SHA-256 of the line before, so that no line can be changed, dropped or put in without the
next one showing it. The end has no next one: there, the verdict of a version, which names its line, shows what was
changed or cut off (`registry.py`).
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.files import write_text

LEDGER = Path("data/promotions.jsonl")
# What every entry has.
_KEYS = {"time", "who", "action", "version", "method", "metric", "score", "gates", "champion", "model", "previous"}
# What stands in the place of the line before the first.
_FIRST = "0" * 64


def read(path: Path) -> list[dict[str, Any]]:
    """The entries from the first to the last; none where there is no file.

    Raises:
        UserError: A line is not what was written; the message names its number.
    """
    lines = _lines(path)
    entries, previous = [], _FIRST
    for number, line in enumerate(lines, start=1):
        entry = _entry(line)
        if entry is None or entry.get("previous") != previous:
            changed = f"does not follow line {number - 1}: one of them was changed, if only in its line end"
            fault = "is no entry" if entry is None else changed
            raise UserError(f"{path}: line {number} {fault}. Bring the file back from git (`git log -p -- {path}`)")
        entries.append(entry)
        previous = line_sha256(line)
    return entries


def append(path: Path, entry: dict[str, Any]) -> str:
    """Add an entry, with `previous`, and return the SHA-256 of its line; the file is replaced as a whole.

    Raises:
        UserError: The lines that are there are damaged.
    """
    read(path)
    lines = _lines(path)
    previous = line_sha256(lines[-1]) if lines else _FIRST
    line = json.dumps({**entry, "previous": previous}, ensure_ascii=False, allow_nan=False)
    write_text(path, "".join(f"{one}\n" for one in [*lines, line]))
    return line_sha256(line)


def line_digests(path: Path) -> list[str]:
    """SHA-256 of each line, the first one first."""
    return [line_sha256(line) for line in _lines(path)]


def line_sha256(line: str) -> str:
    return hashlib.sha256(line.encode("utf-8")).hexdigest()


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    # Not `splitlines`, which also splits at characters that JSON leaves in texts.
    text = path.read_bytes().decode("utf-8", errors="replace")
    return text.removesuffix("\n").split("\n") if text else []


def _entry(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.keys() >= _KEYS else None
