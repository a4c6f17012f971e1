"""Do region captions name the side that their image's report names? Counts of the column `report_side`."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.records import CaptionRow


@dataclass(frozen=True, kw_only=True)
class ReportSideCounts:
    """Region captions of images whose report names one side.

    Attributes:
        same: They name the same side.
        opposite: They name the other one: the caption, the outline or the report is wrong.
        center: They name neither.
    """

    same: int = 0
    opposite: int = 0
    center: int = 0

    @property
    def agreement(self) -> float | None:
        """Of the captions that name a side, the fraction (0 to 1) that name the same; None where none does."""
        sided = self.same + self.opposite
        return round(self.same / sided, 4) if sided else None


class ReportSides:
    """Counts the rows that have such captions."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def add(self, row: CaptionRow) -> None:
        if row.report_side is not None:
            assert row.basis is not None
            self._counts[row.source, row.basis][row.report_side] += 1

    def counts(self) -> dict[tuple[str, str], ReportSideCounts]:
        """Those of each source and basis (annotation or proposal) that has such captions."""
        return {key: ReportSideCounts(**self._counts[key]) for key in sorted(self._counts)}


def report_sides(rows: Iterable[CaptionRow]) -> dict[tuple[str, str], ReportSideCounts]:
    """The counts of each source and basis (annotation or proposal) that has such captions."""
    sides = ReportSides()
    for row in rows:
        sides.add(row)
    return sides.counts()
