"""Batch functions for the tests of the engine. Worker processes import this module, and little else."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UserError


class TwoWords(Exception):
    """Its class asks for two arguments and hands on one: what was pickled does not come back."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


@dataclass(frozen=True, kw_only=True)
class Doubling:
    """Twice each number, with the process that worked; what else happens is as the fields say.

    Attributes:
        notes: Folder for one file for each worker that was built, and one for each call of a batch.
        deadly: Numbers that end the process, each time.
        deadly_once: Numbers that end it as often as the file of their name in `notes` has characters.
        slow: Seconds for each of some numbers.
        wrong: A number that raises a `UserError`; `defect` one that raises another error.
    """

    notes: Path
    deadly: tuple[int, ...] = ()
    deadly_once: tuple[int, ...] = ()
    slow: tuple[tuple[int, float], ...] = ()
    wrong: int | None = None
    defect: int | None = None
    lost_words: int | None = None

    def __call__(self, items: Sequence[int]) -> list[tuple[int, int]]:
        with (self.notes / "calls").open("a") as calls:
            calls.write(" ".join(map(str, items)) + "\n")
        return [self._one(item) for item in items]

    def _one(self, item: int) -> tuple[int, int]:
        if item in self.deadly:
            os._exit(7)
        if item in self.deadly_once and (left := (self.notes / str(item)).read_text()):
            (self.notes / str(item)).write_text(left[1:])
            os._exit(7)
        if item == self.wrong:
            raise UserError(f"{item} is wrong: choose another")
        if item == self.defect:
            raise KeyError(f"number {item}")
        if item == self.lost_words:
            raise TwoWords("never", "again")
        time.sleep(dict(self.slow).get(item, 0))
        return 2 * item, os.getpid()


@dataclass(frozen=True)
class Built:
    """Builds a function as a stage does, once in each worker."""

    function: Doubling
    refused: bool = False
    deadly: bool = False

    def __call__(self) -> Doubling:
        if self.refused:
            raise UserError("an option is wrong: choose another")
        if self.deadly:
            os._exit(7)
        (self.function.notes / f"built-{os.getpid()}").touch()
        return self.function
