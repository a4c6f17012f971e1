"""Published checkpoints that rows of a table score as they are: `studies/weights.yaml`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

METHOD = "pretrained"
# Of a folder that `transformers` reads.
CONFIG = "config.json"


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
    """Why a workspace cannot read a checkpoint, its own or the one that lies here, and what to do; None: it can."""
    own = workspace / one.place
    place = own if own.exists() else Path(one.place)
    return None if (place / CONFIG).is_file() else f"{one.name} is not in {place}: {one.obtained}"


def link(one: Weights, workspace: Path) -> None:
    """Let a workspace that has none of its own use the checkpoint that lies here."""
    here, there = Path(one.place), workspace / one.place
    if there.is_symlink() and not there.exists():
        # DVC stops at a link to what was moved away.
        there.unlink()
    if here.is_dir() and not there.exists():
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(here.resolve())
