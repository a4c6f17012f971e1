"""The family `images`: pictures, region crops, masks and their description."""

import io
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from models.geometry import crop_with_margin, fit_image, fit_mask, unit_box
from pipelines.errors import Rejected, UserError, disk_fault
from pipelines.files import atomic_folder
from pipelines.images import open_image
from pipelines.ingest.config import IngestConfig
from pipelines.masks import decode
from pipelines.records import REGIONS, SPLIT_IMAGES, SPLITS, rows_of
from pipelines.shards import manifest
from pipelines.shards.config import ShardsConfig
from pipelines.shards.target import DRAWN, target_of
from pipelines.shards.tars import Sample, json_bytes, write_samples
from pipelines.stage import SUMMARIES, Summary, progress

Row = dict[str, Any]


def run(
    config: ShardsConfig,
    ingest: IngestConfig,
    images: Path,
    regions: Path,
    output: Path,
    summaries: Path = SUMMARIES,
) -> dict[str, Any]:
    """Write `output`, the folder of the family `images`.

    Args:
        config: Section `shards`.
        ingest: Section `ingest`, for the roots of the sources and the largest picture.
        images: The table `split images`.
        regions: The table `regions`; its accepted rows are stored, in the order of `n`; all that sources drew makes
            the targets.
        output: Replaced as a whole.
        summaries: Folder of the summary.

    Returns:
        The summary; its inputs are images.
    """
    table = SPLIT_IMAGES.read(images)
    if table.empty:
        raise UserError(f"{images} has no image: see the rejected rows of the sources, or add a source to params.yaml")
    if unknown := sorted(set(table["source"]) - ingest.sources.keys()):
        raise UserError(f"{images} names the source '{unknown[0]}', params.yaml does not: run `dvc repro`")
    found = REGIONS.read(regions).sort_values(["image_id", "n"])
    kept = found.query("status == 'accepted' or proposer == @DRAWN")
    summary = Summary("image_shards")
    with atomic_folder(output) as folder:
        rows = progress(_rows(table, kept, config.samples_per_shard), "image shards", len(table))
        splits = write_samples(folder, _samples(rows, config, ingest, summary))
        summary.limit_failures(config.max_failed_fraction)
        made = manifest.Manifest(
            family="images",
            samples_per_shard=config.samples_per_shard,
            splits=splits,
            tables={"images": manifest.table_digest(images), "regions": manifest.table_digest(regions)},
            left_out=summary.counts["failed"],
            image_size=config.image_size,
            crop_size=config.crop_size,
        )
        manifest.write(folder, made)
    manifest.check(output)
    summary.extra["samples"] = {name: split.samples for name, split in splits.items()}
    summary.extra["regions"] = {name: split.regions for name, split in splits.items()}
    return summary.write(len(table), summaries)


def _rows(table: pd.DataFrame, kept: pd.DataFrame, samples_per_shard: int) -> Iterator[tuple[str, Row, list[Row]]]:
    """The tar, image row and region rows (accepted, or drawn by the source) of every image, in stored order.

    The order is that of image_id. It is a hash, so every shard is a fair sample of the sources, and an image that
    cannot be opened moves no other image to another shard.
    """
    places = kept.groupby("image_id").indices
    for split in SPLITS:
        of_split = table[table["split"] == split].sort_values("image_id")
        for number, start in enumerate(range(0, len(of_split), samples_per_shard)):
            rows = rows_of(of_split.iloc[start : start + samples_per_shard])
            positions = [place for row in rows for place in places.get(row["image_id"], ())]
            found = defaultdict(list)
            for region in rows_of(kept.iloc[positions]):
                found[region["image_id"]].append(region)
            for row in rows:
                yield f"{split}/{number:06d}.tar", row, found[row["image_id"]]


def _samples(
    rows: Iterator[tuple[str, Row, list[Row]]], config: ShardsConfig, ingest: IngestConfig, summary: Summary
) -> Iterator[Sample]:
    roots = ingest.roots()
    for file, row, regions in rows:
        try:
            image = open_image(roots[row["source"]], row["path"], row["member"], row["frame"], ingest.max_pixels)
            if image.size != (row["width"], row["height"]):
                raise Rejected("size_changed", f"{image.size} now, {row['width']} x {row['height']} in the table")
        except Rejected as fault:
            summary.failed(fault.reason)
            continue
        except OSError as error:
            summary.failed(disk_fault(error))
            continue
        files = sample_files(row, regions, image, config)
        summary.ok()
        accepted = sum(region["status"] == "accepted" for region in regions)
        yield Sample(split=row["split"], file=file, key=row["image_id"], files=files, regions=accepted)


def sample_files(row: Row, regions: list[Row], image: Image.Image, config: ShardsConfig) -> dict[str, bytes]:
    """The files of one sample by extension; docs/architecture.md, "Shards", describes them.

    Args:
        row: Of the table of images.
        regions: Those that were accepted, and those that the source drew.
        image: The original.
        config: Sizes.
    """
    width, height = image.size
    files = {"image.jpg": _encoded(fit_image(image, config.image_size), config)}
    target = target_of(row, [region for region in regions if region["proposer"] == DRAWN])
    if target is not None:
        files["target.png"] = _encoded(fit_mask(target, config.image_size), config)
    described = []
    for k, region in enumerate(region for region in regions if region["status"] == "accepted"):
        box = (region["x0"], region["y0"], region["x1"], region["y1"])
        files[f"crop{k}.jpg"] = _encoded(crop_with_margin(image, box, config.crop_margin, config.crop_size), config)
        if region["mask"] is not None:
            mask = fit_mask(decode(region["mask"], height, width), config.image_size)
            files[f"mask{k}.png"] = _encoded(mask, config)
        box_in_square = unit_box(box, width, height, config.image_size)
        described.append(
            {**{name: region[name] for name in ("region_id", "role", "label", "score")}, "box": box_in_square}
        )
    names = ("image_id", "source", "split", "group", "modality", "view", "labels", "width", "height")
    files["meta.json"] = json_bytes({**{name: row[name] for name in names}, "regions": described})
    return files


def _encoded(image: Image.Image, config: ShardsConfig) -> bytes:
    stream = io.BytesIO()
    if image.mode == "L":
        image.save(stream, "PNG")
    else:
        # Full colour resolution: halved, it would blur the red of an endoscopy image at these small sizes.
        image.save(stream, "JPEG", quality=config.quality, subsampling=0)
    return stream.getvalue()
