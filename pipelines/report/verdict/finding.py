"""The verdict: what a person should know before any figure, in words, and what to do about it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pipelines.files import write_json

Level = Literal["wrong", "warning", "ok"]
LEVELS: tuple[Level, ...] = ("wrong", "warning", "ok")

# Of style.css: characters of a line, lines of the two columns together, and the gap below a finding in lines.
_CHARACTERS, _LINES, _GAP = 80, 62, 0.5


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One sentence of the verdict.

    Attributes:
        level: wrong (the result misleads or is lost until it is mended), warning (know it before you use the result),
            ok.
        topic: What it is about, such as `data` or `scores`.
        text: Plain text, no markup.
        action: What to do about it: a command, or a setting of params.yaml; None: nothing, or nothing to be named.
    """

    level: Level
    topic: str
    text: str
    action: str | None = None


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """What is wrong first; within a level the order stays."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def first_screen(findings: Sequence[Finding]) -> int:
    """How many of the findings, from the first, two columns of a screen of 1,280 x 800 pixels hold; at least one."""
    lines = 0.0
    for number, finding in enumerate(findings):
        texts = (
            f"{finding.level} {finding.topic} {finding.text}",
            f"To do: {finding.action}" if finding.action else "",
        )
        lines += sum(math.ceil(len(text) / _CHARACTERS) for text in texts) + _GAP
        if lines > _LINES and number:
            return number
    return len(findings)


def write_verdict(path: Path, findings: Iterable[Finding]) -> None:
    """Write `{"findings": [{"level", "topic", "text", "action"}]}`."""
    write_json(path, {"findings": [asdict(finding) for finding in findings]})
