"""Examples for the page of a rebuild: an item's texts before and after, its image and its regions."""

import difflib
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.rebuild.compare import FIELDS, Change
from pipelines.records import REGIONS, SPLIT_IMAGES, CaptionRow, RegionRow
from pipelines.report.page_images import ImageEntry, open_page_image, overlay
from pipelines.sources import Sources

Pieces = list[tuple[bool, str]]


@dataclass(frozen=True, kw_only=True)
class FieldDiff:
    """One column of an item before and after, in pieces with whether each differs from the other text."""

    field: str
    before: Pieces
    after: Pieces


@dataclass(frozen=True, kw_only=True)
class ChangeExample:
    """A change as the page shows it.

    Attributes:
        change: The change.
        texts: The columns that differ; of an item that was added or removed all that are not null.
        entry: The image with its regions; None for an image that is no longer in the dataset.
    """

    change: Change
    texts: list[FieldDiff]
    entry: ImageEntry | None


def change_examples(
    chosen: list[Change], before: list[CaptionRow], after: list[CaptionRow], project: Path, sources: Sources
) -> list[ChangeExample]:
    """The changes with texts and images. A region's shows this region, an image's those that a method may see.

    Args:
        chosen: The changes to show.
        before: Rows of `CAPTIONS`.
        after: Rows of `CAPTIONS`.
        project: Folder of params.yaml, with data/.
        sources: Where the images are, relative to `project`, and how large one may be.
    """
    item_ids = {change.item_id for change in chosen}
    image_ids = {change.image_id for change in chosen}
    images = {
        row.image_id: row
        for row in SPLIT_IMAGES.read(project / "data/split/images.parquet")
        if row.image_id in image_ids
    }
    regions = defaultdict(list)
    for region in sorted(REGIONS.read(project / "data/regions/regions.parquet"), key=lambda row: row.n):
        if region.image_id in image_ids:
            regions[region.image_id].append(region)
    old, new = ({row.item_id: row for row in rows if row.item_id in item_ids} for rows in (before, after))
    in_project = sources.under(project)

    def entry(change: Change) -> ImageEntry | None:
        image = images.get(change.image_id)
        if image is None:
            return None
        overlays = [overlay(region, image) for region in regions[change.image_id] if _is_shown(region, change)]
        page_image = open_page_image(image, in_project)
        return ImageEntry(image=image, page_image=page_image, overlays=overlays, caption=new.get(change.item_id))

    return [
        ChangeExample(
            change=change,
            texts=_field_diffs(change, old.get(change.item_id), new.get(change.item_id)),
            entry=entry(change),
        )
        for change in chosen
    ]


def _is_shown(region: RegionRow, change: Change) -> bool:
    if change.kind == "region":
        return region.region_id == change.item_id
    return region.role == "input" and region.status == "accepted"


def _field_diffs(change: Change, old: CaptionRow | None, new: CaptionRow | None) -> list[FieldDiff]:
    fields = change.fields if old and new else [field for field in FIELDS if getattr(old or new, field) is not None]
    return [
        FieldDiff(field=field, before=before, after=after)
        for field in fields
        for before, after in [word_diff(_text(getattr(old, field, None)), _text(getattr(new, field, None)))]
    ]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return ("\n".join(value) or "(empty)") if isinstance(value, tuple) else str(value)


def word_diff(before: str, after: str) -> tuple[Pieces, Pieces]:
    """Both texts in pieces, word by word: each piece with whether it differs from the other text."""
    old, new = (re.findall(r"\s*\S+|\s+$", text) for text in (before, after))
    matcher = difflib.SequenceMatcher(a=old, b=new, autojunk=False)
    sides: tuple[Pieces, Pieces] = ([], [])
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        for side, words in zip(sides, (old[i1:i2], new[j1:j2]), strict=True):
            if words:
                side.append((tag != "equal", "".join(words)))
    return sides
