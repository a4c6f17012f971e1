"""What was not accepted, by stage, outcome and reason code: counts, and examples with picture and outline."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.records import rows_of
from pipelines.report.inputs import Tables
from pipelines.report.pictures import drawn, open_picture

Row = dict[str, Any]


def rejected_groups(tables: Tables, roots: dict[str, Path], max_pixels: int, examples: int) -> list[Row]:
    """One group a stage, outcome and reason code, the most frequent of a stage first.

    Rows that `ingest` rejected have no picture: most could not be opened, and none has a place in the dataset.

    Args:
        tables: Of the whole dataset.
        roots: Folder or archive of each source.
        max_pixels: A picture of more is not decoded.
        examples: Shown of each group, at most.
    """
    regions = tables.regions[tables.regions["status"] != "accepted"]
    captions = tables.captions[tables.captions["status"].isin(["rejected", "failed"])]

    def region(row: Row) -> Row:
        image = _image(tables, row)
        return _pictured(image, [row], roots, max_pixels) | {"region": row, "caption": None}

    def caption(row: Row) -> Row:
        image = _image(tables, row)
        own = tables.regions["image_id"] == row["image_id"]
        if row["kind"] == "region":
            own &= tables.regions["region_id"] == row["item_id"]
        else:
            own &= (tables.regions["role"] == "input") & (tables.regions["status"] == "accepted")
        regions = rows_of(tables.regions[own].sort_values("n"))
        named = next(iter(regions), None) if row["kind"] == "region" else None
        return _pictured(image, regions, roots, max_pixels) | {"region": named, "caption": row}

    return [
        *_groups("ingest", tables.rejected.assign(status="rejected"), ["source", "row"], examples, lambda row: row),
        *_groups("regions", regions, ["image_id", "n"], examples, region),
        *_groups("captions", captions, ["image_id", "item_id"], examples, caption),
    ]


def _groups(stage: str, table: pd.DataFrame, order: list[str], examples: int, entry: Callable[[Row], Row]) -> list[Row]:
    """Examples come from the sources in turn, in the order of image_id, which is a hash: fair and fixed."""
    groups = []
    for (status, reason), found in (
        table.astype({"reason": object}).fillna({"reason": "no reason"}).groupby(["status", "reason"])
    ):
        turns = found.sort_values(order).groupby("source").cumcount()
        chosen = turns.sort_values(kind="stable").index[:examples]
        sources = found["source"].value_counts().sort_index()
        groups.append(
            {
                "stage": stage,
                "status": str(status),
                "reason": str(reason),
                "count": len(found),
                "sources": {str(name): int(count) for name, count in sources.items()},
                "examples": [entry(row) for row in rows_of(table.loc[chosen])],
            }
        )
    return sorted(groups, key=lambda group: (-group["count"], group["status"], group["reason"]))


def _image(tables: Tables, row: Row) -> Row:
    return rows_of(tables.images[tables.images["image_id"] == row["image_id"]])[0]


def _pictured(image: Row, regions: list[Row], roots: dict[str, Path], max_pixels: int) -> Row:
    return {
        "image": image,
        "picture": open_picture(image, roots, max_pixels),
        "regions": [drawn(region, image) for region in regions],
    }
