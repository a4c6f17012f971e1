"""What a trial gives: a row of benchmarks/results/faults.csv."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_ROOT = f"{Path(__file__).resolve().parents[2]}/"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trial.

    Attributes:
        kind: Which fault; kinds of killing hold the word `kill`.
        stage: What it met: a stage, a command, a reader or a kind of file.
        trial: Its number, which is also its seed.
        outcome: `ok`, or what was not as promised.
        equal_bytes: No other result came out than without the fault.
        left_overs: Files, folders and processes that are there afterwards and would not be without it.
        seconds: It took.
        detail: What was done, and what was seen.
    """

    kind: str
    stage: str
    trial: int
    outcome: str
    equal_bytes: bool
    left_overs: int
    seconds: float
    detail: str

    def cells(self) -> dict[str, Any]:
        """As in the file: one line of text, `true` and `false`, no path of this machine."""
        return asdict(self) | {
            "equal_bytes": str(self.equal_bytes).lower(),
            "seconds": f"{self.seconds:.1f}",
            "detail": " ".join(self.detail.replace(_ROOT, "").split())[:300],
        }
