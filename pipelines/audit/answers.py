"""The answers of people in an audit, one JSON object on each line; a dependency of the stage `report` alone."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.audit.sample import What
from pipelines.days import is_day
from pipelines.errors import UserError
from pipelines.json_lines import read_lines, write_lines

Decision = Literal["yes", "no", "unsure"]
DECISIONS: tuple[Decision, ...] = ("yes", "no", "unsure")

# Reason codes of a no or an unsure, with the words that people see.
REASONS: dict[What, dict[str, str]] = {
    "regions": {
        "nothing_there": "nothing there",
        "wrong_place": "beside the finding",
        "too_large": "far too large",
        "too_small": "far too small",
        "not_anatomy": "a device, text or the border",
        "image_quality": "the image does not show it",
        "other": "something else",
    },
    "captions": {
        "wrong_finding": "wrong finding",
        "wrong_place": "wrong place or side",
        "wrong_appearance": "wrong shape or size",
        "not_visible": "says what cannot be seen",
        "not_a_sentence": "makes no sense",
        "image_quality": "the image does not show it",
        "other": "something else",
    },
}

_ITEM = re.compile(r"(region|caption):[0-9a-f]{16}(-\d{1,9})?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_INITIALS = 8


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One person's answer about one item.

    Attributes:
        item: Name of the item (`pipelines.audit.sample.Item.name`).
        shown: SHA-256 of what the person saw.
        answer: yes, no or unsure.
        reason: Reason code of a no or an unsure; null: none was given.
        reviewer: The person's initials.
        date: The day, as 2026-11-28.
    """

    item: str
    shown: str
    answer: Decision
    reason: str | None = None
    reviewer: str
    date: str

    def __post_init__(self) -> None:
        for field, fault in faults(self).items():
            raise ValueError(f"{field}: {fault}")

    @property
    def what(self) -> What:
        return "regions" if self.item.startswith("region:") else "captions"


def faults(answer: Answer) -> dict[str, str]:
    """Field -> what is wrong with its value, and what it should hold."""
    found = {}
    if not _ITEM.fullmatch(answer.item) or (answer.what == "regions" and "-" not in answer.item):
        found["item"] = f"{answer.item!r} names no region and no caption"
    if not _SHA256.fullmatch(answer.shown):
        found["shown"] = f"{answer.shown!r} is no SHA-256: leave this column as it was exported"
    if answer.answer not in DECISIONS:
        found["answer"] = f"{answer.answer!r} is none of {', '.join(DECISIONS)}"
    if answer.reason is not None:
        if answer.reason not in REASONS[answer.what]:
            found["reason"] = f"{answer.reason!r} is none of {', '.join(REASONS[answer.what])}"
        elif answer.answer == "yes":
            found["reason"] = f"{answer.reason!r} goes with no or unsure, the answer is yes"
    if not answer.reviewer.isalpha() or len(answer.reviewer) > _LONGEST_INITIALS:
        found["reviewer"] = f"{answer.reviewer!r}: write initials of 1 to {_LONGEST_INITIALS} letters, such as AB"
    if not is_day(answer.date):
        found["date"] = f"{answer.date!r}: write the day as 2026-11-28"
    return found


def read(path: Path) -> list[Answer]:
    """All answers of a file, in its order.

    Raises:
        UserError: The file is missing, or a line is no answer.
    """
    if not path.exists():
        raise UserError(f"audit.answers names {path}, which is absent: make an empty file, or read a sheet")
    return read_lines(Answer, path)


def write(answers: Iterable[Answer], path: Path) -> None:
    """Write answers sorted, so that the file does not depend on the order of the sheets."""
    write_lines(sorted(answers, key=_key), path)


def merge(existing: Sequence[Answer], latest: Sequence[Answer]) -> list[Answer]:
    """Both; of a person's answers about an item as it was shown the one of the later day, or the one read later."""
    found: dict[tuple[str, str, str], Answer] = {}
    for answer in [*existing, *latest]:
        key = _key(answer)
        if key not in found or answer.date >= found[key].date:
            found[key] = answer
    return list(found.values())


def _key(answer: Answer) -> tuple[str, str, str]:
    return answer.item, answer.shown, answer.reviewer
