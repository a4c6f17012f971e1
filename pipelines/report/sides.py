"""Whose left and right each source means, how that is known, and what its region captions say beside its reports."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipelines.captions.report_sides import ReportSideCounts, report_sides
from pipelines.records import SplitImageRow
from pipelines.report.inputs import Tables


@dataclass(frozen=True, kw_only=True)
class SidesOfView:
    """The convention of one source and view.

    Attributes:
        source: The source.
        view: frontal, lateral or unknown.
        images: Its images.
        sides: patient or image; None: that of the modality.
        reason: How that is known.
    """

    source: str
    view: str
    images: int
    sides: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class SidesFacts:
    """What the page shows of left and right.

    Attributes:
        conventions: Of each source and view that has reports, or a convention of its own.
        captions: Source and basis -> its region captions of images whose report names one side.
    """

    conventions: list[SidesOfView]
    captions: dict[tuple[str, str], ReportSideCounts]


def sides_facts(tables: Tables, summaries: Iterable[dict[str, Any]]) -> SidesFacts:
    """From the tables, and the votes in the summary of `split`."""
    told: dict[str, Any] = next((summary["sides"] for summary in summaries if "sides" in summary), {})
    rows: Counter[tuple[str, str, str | None]] = Counter()
    rows.update((row.source, row.view or "unknown", row.sides) for row in tables.images if _is_concerned(row))
    return SidesFacts(
        conventions=[
            SidesOfView(
                source=source, view=view, images=count, sides=sides, reason=_reason(told.get(source, {}).get(view))
            )
            for (source, view, sides), count in sorted(rows.items(), key=str)
        ],
        captions=report_sides(tables.captions),
    )


def _is_concerned(row: SplitImageRow) -> bool:
    return row.report is not None or row.sides is not None


def _reason(told: dict[str, Any] | None) -> str:
    if told is None:
        return "the summary of split does not say"
    counts = told["votes"]
    total = sum(counts.values())
    if told["sides"] is None:
        return f"the modality's convention; votes: patient {counts['patient']}, image {counts['image']}"
    voted = f"{counts[told['sides']]} of {total} votes agree" if total else "no votes"
    return f"declared by the source; {voted}" if told["declared"] else voted
