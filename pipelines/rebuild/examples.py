"""Examples for the page of a rebuild: an item's texts before and after, its picture and its regions."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.rebuild.compare import FIELDS, Change
from pipelines.records import REGIONS, SPLIT_IMAGES, rows_of
from pipelines.report.pictures import drawn, open_picture
from pipelines.sources import Sources

Row = dict[str, Any]
Pieces = list[tuple[bool, str]]


def show(chosen: list[Change], before: pd.DataFrame, after: pd.DataFrame, project: Path, sources: Sources) -> list[Row]:
    """The changes as the template needs them. A region's shows this region, an image's those that a method may see.

    Args:
        chosen: The changes to show.
        before: Table of `CAPTIONS`.
        after: Table of `CAPTIONS`.
        project: Folder of params.yaml, with data/.
        sources: Where the images are, relative to `project`, and how large one may be.
    """
    items = [change.item_id for change in chosen]
    ids = [_image_id(change) for change in chosen]
    images = SPLIT_IMAGES.read(project / "data/split/images.parquet")
    regions = REGIONS.read(project / "data/regions/regions.parquet")
    rows = {row["image_id"]: row for row in rows_of(images[images["image_id"].isin(ids)])}
    drawable = rows_of(regions[regions["image_id"].isin(ids)].sort_values(["image_id", "n"]))
    old, new = (
        {row["item_id"]: row for row in rows_of(table[table["item_id"].isin(items)])} for table in (before, after)
    )
    roots = {name: project / root for name, root in sources.roots.items()}
    shown = []
    for change in chosen:
        entry: Row = {
            "change": change,
            "texts": _texts(change, old.get(change.item_id, {}), new.get(change.item_id, {})),
            "image": rows.get(_image_id(change)),
        }
        # An image that has left the dataset has no picture.
        if image := entry["image"]:
            entry["picture"] = open_picture(image, roots, sources.max_pixels)
            entry["regions"] = [drawn(region, image) for region in drawable if _is_shown(region, change)]
        shown.append(entry)
    return shown


def _image_id(change: Change) -> str:
    return change.item_id.partition("-")[0]


def _is_shown(region: Row, change: Change) -> bool:
    if change.kind == "region":
        return region["region_id"] == change.item_id
    own = region["image_id"] == change.item_id
    return own and region["role"] == "input" and region["status"] == "accepted"


def _texts(change: Change, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Row]:
    """The columns that differ; of an item that is new or gone all that are not null."""
    fields = change.fields if old and new else [field for field in FIELDS if (old or new)[field] is not None]
    return [
        {"field": field, "before": before, "after": after}
        for field in fields
        for before, after in [marked(_text(old.get(field)), _text(new.get(field)))]
    ]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return ("\n".join(value) or "(empty)") if isinstance(value, list) else str(value)


def marked(before: str, after: str) -> tuple[Pieces, Pieces]:
    """Both texts in pieces, word by word: each piece with whether it differs from the other text."""
    old, new = (re.findall(r"\s*\S+|\s+$", text) for text in (before, after))
    matcher = difflib.SequenceMatcher(a=old, b=new, autojunk=False)
    sides: tuple[Pieces, Pieces] = ([], [])
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        for side, words in zip(sides, (old[i1:i2], new[j1:j2]), strict=True):
            if words:
                side.append((tag != "equal", "".join(words)))
    return sides
