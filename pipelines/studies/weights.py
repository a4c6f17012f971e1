"""Published checkpoints that rows of a table score as they are: `studies/weights.yaml`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

METHOD = "pretrained"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A published checkpoint.

    Attributes:
        name: As its publishers call it.
        obtained: How a person makes the folder.
        place: The folder, as the method `pretrained` reads it.
        max_length: Tokens that it reads of a text.
    """

    name: str
    obtained: str
    place: str
    max_length: int

    @property
    def entry(self) -> dict[str, Any]:
        """In `train.methods`: nothing is trained."""
        return {
            "method": METHOD,
            "model": {"pretrained": self.place},
            "training": {"phases": {}, "max_length": self.max_length},
        }


def missing(one: Weights, workspace: Path) -> str | None:
    """Why a checkpoint can be read neither in a workspace nor here, and what to do; None: it can."""
    if any((root / one.place).is_dir() for root in (workspace, Path())):
        return None
    return f"{one.name} is not in {one.place}: {one.obtained}"


def link(one: Weights, workspace: Path) -> None:
    """Let a workspace that has none of its own use the checkpoint that lies here."""
    here, there = Path(one.place), workspace / one.place
    if here.is_dir() and not there.exists():
        # A link whose folder is gone is no folder.
        there.unlink(missing_ok=True)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(here.resolve())
