"""The gallery: some images of each source with their regions and texts, whatever became of them."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.records import rows_of
from pipelines.report.inputs import Tables
from pipelines.report.pictures import drawn, open_picture

Row = dict[str, Any]


def gallery(tables: Tables, roots: dict[str, Path], max_pixels: int, per_source: int) -> dict[str, list[Row]]:
    """Some images of each source, as the template needs them: each with its picture, caption and regions.

    Args:
        tables: Of the whole dataset.
        roots: Folder or archive of each source, in the order of the page.
        max_pixels: A picture of more is not decoded.
        per_source: Images of a source, at most.
    """
    chosen = {name: choose(tables, name, per_source) for name in roots}
    ids = [row["image_id"] for rows in chosen.values() for row in rows]
    texts = {row["item_id"]: row for row in rows_of(tables.captions[tables.captions["image_id"].isin(ids)])}
    regions = defaultdict(list)
    for region in rows_of(tables.regions[tables.regions["image_id"].isin(ids)].sort_values(["image_id", "n"])):
        regions[region["image_id"]].append({**region, "caption": texts.get(region["region_id"])})
    return {
        name: [
            {
                "image": row,
                "picture": open_picture(row, roots, max_pixels),
                "caption": texts.get(row["image_id"]),
                "regions": [drawn(region, row) for region in regions[row["image_id"]]],
            }
            for row in rows
        ]
        for name, rows in chosen.items()
    }


def choose(tables: Tables, source: str, count: int) -> list[Row]:
    """Up to `count` images of a source that differ: by split, status of the caption, rejections and contradictions.

    One image of each kind is taken in turn, in the order of image_id, which is a hash: the choice is fair and fixed.
    """
    images = tables.images[tables.images["source"] == source].sort_values("image_id")
    captions = tables.captions[tables.captions["kind"] == "image"]
    status = pd.Series(captions["status"].tolist(), index=captions["image_id"].tolist())
    kinds = pd.DataFrame(
        {
            "status": images["image_id"].map(status).astype(object).fillna(""),
            "rejected": images["image_id"].isin(tables.regions["image_id"][tables.regions["status"] != "accepted"]),
            "contradiction": images["image_id"].isin(
                tables.captions["image_id"][tables.captions["contradiction"].notna()]
            ),
            "split": images["split"],
        }
    )
    turns = kinds.groupby(list(kinds.columns)).cumcount()
    order = turns.sort_values(kind="stable").index[:count]
    return rows_of(images.loc[order])
