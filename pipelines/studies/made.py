"""What a run of a study leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import TemporaryError, UserError
from pipelines.studies.definition import Study
from pipelines.studies.table import SHOWN, Cell


@dataclass(frozen=True, kw_only=True)
class MadeTable:
    """The table of a run, whatever became of its stages.

    Attributes:
        study: The study.
        name: Its name.
        scale: Demo or paper.
        commit: Of the code that made it.
        changed: Files of settings, such as its own, that were not as in the commit when the run began.
        left_out: Files of code that were not, either, and of which the workspace had those of the commit.
        folder: Where the table and its page lie.
        found: The cells, by row and column.
        fault: Why the run is not complete; None: it is.
        passes_again: Whether the fault may be gone the next time.
    """

    study: Study
    name: str
    scale: str
    commit: str
    changed: Sequence[str]
    left_out: Sequence[str]
    folder: Path
    found: Mapping[tuple[str, str], Cell]
    fault: str | None
    passes_again: bool

    @property
    def code(self) -> str:
        """What made it, for a person."""
        said = f"commit {self.commit[:SHOWN]}"
        if self.changed:
            said += f", with changes that are not committed: {', '.join(self.changed)}"
        if self.left_out:
            said += f"; trained and scored without changes that are not committed: {', '.join(self.left_out)}"
        return said

    def check(self) -> None:
        """Raise the fault, if there is one.

        Raises:
            TemporaryError: It may be gone the next time.
            UserError: It is to be mended.
        """
        if self.fault is not None:
            raise TemporaryError(self.fault) if self.passes_again else UserError(self.fault)
