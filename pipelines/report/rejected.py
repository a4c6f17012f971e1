"""What was not accepted, by stage, outcome and reason code: counts, and examples with image and outline."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from pipelines.records import CaptionRow, RegionRow, RejectedRow
from pipelines.report.inputs import Tables
from pipelines.report.page_images import ImageEntry, open_page_image, overlay
from pipelines.report.selection import in_turns
from pipelines.sources import Sources

RowT = TypeVar("RowT", RejectedRow, RegionRow, CaptionRow)


@dataclass(frozen=True, kw_only=True)
class RejectedExample:
    """A row of the table `rejected` without the names of files, for pages are passed on.

    Attributes:
        source: The source.
        row: Its number in the source's listing; None: no listing has it.
        detail: What was wrong.
    """

    source: str
    row: int | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class RejectedGroup:
    """The rows of one stage that ended with one outcome and reason code.

    Attributes:
        stage: The stage.
        status: rejected or failed.
        reason: Reason code.
        count: How many rows.
        sources: How many of each source.
        examples: Rows that a source lists for the stage ingest, else images with outlines.
    """

    stage: str
    status: str
    reason: str
    count: int
    sources: dict[str, int]
    examples: list[RejectedExample] | list[ImageEntry]


def rejected_groups(tables: Tables, sources: Sources, examples: int) -> list[RejectedGroup]:
    """One group for each stage, outcome and reason code, the most frequent of a stage first.

    Rows that `ingest` rejected have no image: most files could not be opened, and none is part of the dataset.

    Args:
        tables: Of the whole dataset.
        sources: Where the images are, and how large one may be.
        examples: Maximum number of examples of each group.
    """
    entries = _Entries(tables, sources)
    regions = [row for row in tables.regions if row.status != "accepted"]
    captions = [row for row in tables.captions if row.status in ("rejected", "failed")]
    return [
        *_groups("ingest", tables.rejected, lambda row: (row.source, row.row), examples, _listed),
        *_groups("regions", regions, lambda row: (row.image_id, row.n), examples, entries.of_regions),
        *_groups("captions", captions, lambda row: (row.image_id, row.item_id), examples, entries.of_captions),
    ]


def _groups(
    stage: str,
    rows: Iterable[RowT],
    order: Callable[[RowT], Any],
    examples: int,
    show: Callable[[list[RowT]], list[RejectedExample] | list[ImageEntry]],
) -> list[RejectedGroup]:
    """Examples come from the sources in turn, in the order of image_id, which is a hash: fair and fixed."""
    by_reason: dict[tuple[str, str], list[RowT]] = defaultdict(list)
    for row in sorted(rows, key=order):
        by_reason[_status(row), row.reason or "no reason"].append(row)
    groups = [
        RejectedGroup(
            stage=stage,
            status=status,
            reason=reason,
            count=len(group),
            sources=dict(sorted(Counter(row.source for row in group).items())),
            examples=show(in_turns(group, lambda row: row.source)[:examples]),
        )
        for (status, reason), group in by_reason.items()
    ]
    return sorted(groups, key=lambda group: (-group.count, group.status, group.reason))


def _listed(rows: list[RejectedRow]) -> list[RejectedExample]:
    numbers = (re.search(r":(\d+)$", row.row) for row in rows)
    return [
        RejectedExample(source=row.source, row=number and int(number[1]), detail=row.detail)
        for row, number in zip(rows, numbers, strict=True)
    ]


def _status(row: RejectedRow | RegionRow | CaptionRow) -> str:
    return "rejected" if isinstance(row, RejectedRow) else row.status


class _Entries:
    """Entries of rejected regions and captions, with their images.

    Args:
        tables: Of the whole dataset.
        sources: Where the images are.
    """

    def __init__(self, tables: Tables, sources: Sources) -> None:
        self._sources = sources
        self._images = {row.image_id: row for row in tables.images}
        self._regions = defaultdict(list)
        for region in sorted(tables.regions, key=lambda row: row.n):
            self._regions[region.image_id].append(region)

    def of_regions(self, rows: list[RegionRow]) -> list[ImageEntry]:
        return [self._entry(row.image_id, [row], row, None) for row in rows]

    def of_captions(self, rows: list[CaptionRow]) -> list[ImageEntry]:
        """A region's caption with this region, an image's with the regions that a method may see."""
        return [self._of_region_caption(row) if row.kind == "region" else self._of_image_caption(row) for row in rows]

    def _of_region_caption(self, row: CaptionRow) -> ImageEntry:
        regions = [region for region in self._regions[row.image_id] if region.region_id == row.item_id]
        return self._entry(row.image_id, regions, next(iter(regions), None), row)

    def _of_image_caption(self, row: CaptionRow) -> ImageEntry:
        regions = self._regions[row.image_id]
        usable = [region for region in regions if region.role == "input" and region.status == "accepted"]
        return self._entry(row.image_id, usable, None, row)

    def _entry(
        self, image_id: str, regions: list[RegionRow], region: RegionRow | None, caption: CaptionRow | None
    ) -> ImageEntry:
        image = self._images[image_id]
        return ImageEntry(
            image=image,
            page_image=open_page_image(image, self._sources),
            overlays=[overlay(row, image) for row in regions],
            caption=caption,
            region=region,
        )
