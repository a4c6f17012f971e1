"""The one line about a source of which no image is left."""

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from pipelines.ingest.record import UnusableRow


def no_image_left(name: str, root: str, inputs: int, unusable: Iterable[UnusableRow], table: Path) -> str:
    """How many rows were rejected for each reason, where all of them stand, and the first.

    Args:
        name: The source.
        root: Its folder or archive.
        inputs: Its rows.
        unusable: Those that were rejected.
        table: Of rejected rows.
    """
    line = f"ingest.sources.{name}: no image left of {inputs} rows in {root}"
    rows = iter(unusable)
    first = next(rows, None)
    if first is None:
        return line
    counts = Counter(row.reason for row in chain([first], rows))
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items(), key=lambda one: (-one[1], one)))
    return f"{line}: {reasons}; all are in {table}; the first rejected: {_in_words(first)}"


def _in_words(row: UnusableRow) -> str:
    """A rejected row for the screen; a file that no row lists is not named there."""
    return ", ".join(("a file" if row.row == row.path else row.row, row.reason, row.detail))
