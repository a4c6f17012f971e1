"""The gallery: pictures with their regions drawn over them as SVG, beside their texts."""

import base64
import io
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from pipelines.errors import Rejected
from pipelines.images import open_image
from pipelines.ingest.config import IngestConfig
from pipelines.masks import decode
from pipelines.records import rows_of
from pipelines.report.inputs import Tables
from pipelines.stage import Summary

Row = dict[str, Any]

LONGEST_SIDE = 360  # pixels of a picture on the page


def gallery(tables: Tables, ingest: IngestConfig, per_source: int, summary: Summary) -> dict[str, list[Row]]:
    """Some images of each source, as the template needs them.

    Args:
        tables: Of the whole dataset.
        ingest: Section `ingest`, for the sources (in the order of the page), their roots and the largest picture.
        per_source: Images of a source, at most.
        summary: Counts the images; one that cannot be opened is failed, and shown with its reason.
    """
    chosen = {name: choose(tables, name, per_source) for name in ingest.sources}
    ids = [row["image_id"] for rows in chosen.values() for row in rows]
    texts = {row["item_id"]: row for row in rows_of(tables.captions[tables.captions["image_id"].isin(ids)])}
    regions = defaultdict(list)
    for region in rows_of(tables.regions[tables.regions["image_id"].isin(ids)].sort_values(["image_id", "n"])):
        regions[region["image_id"]].append(region)
    return {
        name: [_entry(row, regions[row["image_id"]], texts, ingest, summary) for row in rows]
        for name, rows in chosen.items()
    }


def choose(tables: Tables, source: str, count: int) -> list[Row]:
    """Up to `count` images of a source that differ: by split, by status of the caption, with and without rejections.

    One image of each kind is taken in turn, in the order of image_id, which is a hash: the choice is fair and fixed.
    """
    images = tables.images[tables.images["source"] == source].sort_values("image_id")
    captions = tables.captions[tables.captions["kind"] == "image"]
    status = pd.Series(captions["status"].tolist(), index=captions["image_id"].tolist())
    rejected = tables.regions["image_id"][tables.regions["status"] != "accepted"]
    kinds = pd.DataFrame(
        {
            "status": images["image_id"].map(status).astype(object).fillna(""),
            "rejected": images["image_id"].isin(rejected),
            "split": images["split"],
        }
    )
    turns = kinds.groupby(["status", "rejected", "split"]).cumcount()
    order = turns.sort_values(kind="stable").index[:count]
    return rows_of(images.loc[order])


def _entry(row: Row, regions: list[Row], texts: dict[str, Row], ingest: IngestConfig, summary: Summary) -> Row:
    drawn = [
        {
            **region,
            "kind": _kind(region),
            "caption": texts.get(region["region_id"]),
            "outline": outline(region, row["height"], row["width"]),
        }
        for region in regions
    ]
    entry = {"image": row, "caption": texts.get(row["image_id"]), "regions": drawn}
    try:
        root = Path(ingest.sources[row["source"]].root)
        picture = open_image(root, row["path"], row["member"], row["frame"], ingest.max_pixels)
    except Rejected as fault:
        summary.failed(fault.reason)
        return {**entry, "fault": str(fault)}
    summary.ok()
    return {**entry, "picture": data_uri(_jpeg(picture), "image/jpeg")}


def _kind(region: Row) -> str:
    if region["status"] != "accepted":
        return "rejected"
    return "truth" if region["role"] == "truth" else "accepted"


def outline(region: Row, height: int, width: int) -> str:
    """The region's border as an SVG path in pixels of the original image: of its mask, or of its box without one."""
    if region["mask"] is None:
        x0, y0, x1, y1 = (_number(region[name]) for name in ("x0", "y0", "x1", "y1"))
        return f"M{x0} {y0}H{x1}V{y1}H{x0}Z"
    return mask_outline(decode(region["mask"], height, width))


def mask_outline(mask: NDArray[np.bool_]) -> str:
    """The borders of a mask (height x width), holes included, as one SVG path.

    A pixel's centre lies half a pixel inside its edges, and the padding keeps borders closed at the image's edge.
    """
    tolerance = max(mask.shape) / 400
    paths = []
    for contour in find_contours(np.pad(mask, 1).astype(float), 0.5):
        points = approximate_polygon(contour, tolerance)[:-1] - 0.5
        paths.append("M" + "L".join(f"{_number(x)} {_number(y)}" for y, x in points) + "Z")
    return "".join(paths)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _jpeg(picture: Image.Image) -> bytes:
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
