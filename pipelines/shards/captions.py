"""The family `captions`: the texts of every image in the family `images`, same keys, same order, same tars.

It is kept apart so that a changed prompt rewrites these few bytes and leaves the pixels alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.files import atomic_folder, sha256_file
from pipelines.records import CAPTIONS, rows_of
from pipelines.shards import manifest
from pipelines.shards.tars import Sample, json_bytes, read_members, write_samples
from pipelines.stage import SUMMARIES, Summary, progress

Row = dict[str, Any]


def run(captions: Path, images: Path, output: Path, summaries: Path = SUMMARIES) -> dict[str, Any]:
    """Write `output`, the folder of the family `captions`.

    Args:
        captions: The table `captions`.
        images: The folder of the family `images`; it decides keys, order and regions.
        output: Replaced as a whole.
        summaries: Folder of the summary.

    Returns:
        The summary; its inputs are caption rows. Those of images that are in no shard count as failed.

    Raises:
        AssertionError: An image or region in the shards has no row in the table, or a row of such an image no place.
    """
    made_from = manifest.check(images)
    table = CAPTIONS.read(captions)
    keys = [key for file in _files(made_from) for key, _ in read_members(images / file, "meta.json")]
    left_out = int((~table["image_id"].isin(keys)).sum())
    texts = table.set_index("item_id", drop=False)
    summary = Summary("caption_shards")
    with atomic_folder(output) as folder:
        samples = progress(_samples(texts, made_from, images), "caption shards", made_from.samples)
        splits = write_samples(folder, samples)
        summary.ok(sum(split.samples + split.regions for split in splits.values()))
        if left_out:
            summary.failed("image_not_in_shards", left_out)
        made = manifest.Manifest(
            family="captions",
            samples_per_shard=made_from.samples_per_shard,
            splits=splits,
            tables={
                "captions": manifest.table_digest(captions),
                "shards": manifest.TableDigest(sha256=sha256_file(images / "manifest.json"), rows=made_from.samples),
            },
            left_out=left_out,
        )
        manifest.write(folder, made)
    manifest.check(output)
    manifest.check_pair(images, output)
    summary.extra["samples"] = {name: split.samples for name, split in splits.items()}
    return summary.write(len(table), summaries)


def _samples(texts: pd.DataFrame, made_from: manifest.Manifest, images: Path) -> Iterator[Sample]:
    for name, split in made_from.splits.items():
        for shard in split.shards:
            metas = [meta for _, meta in read_members(images / shard.file, "meta.json")]
            items = [item for meta in metas for item in _items(meta)]
            if missing := pd.Index(items).difference(texts.index).tolist():
                raise AssertionError(
                    f"{len(missing)} items of {images / shard.file} have no caption row: {missing[:3]}"
                )
            rows = {row["item_id"]: row for row in rows_of(texts.loc[items].reset_index(drop=True))}
            for meta in metas:
                files = {"captions.json": json_bytes(_captions([rows[item] for item in _items(meta)]))}
                yield Sample(
                    split=name, file=shard.file, key=meta["image_id"], files=files, regions=len(meta["regions"])
                )


def _files(made_from: manifest.Manifest) -> list[str]:
    return [shard.file for split in made_from.splits.values() for shard in split.shards]


def _items(meta: dict[str, Any]) -> list[str]:
    return [meta["image_id"], *(region["region_id"] for region in meta["regions"])]


def _captions(rows: list[Row]) -> dict[str, Any]:
    image, *regions = rows
    return {
        **{name: image[name] for name in ("image_id", "status", "basis", "oracle", "summary", "report")},
        "regions": [
            {
                "region_id": region["item_id"],
                "caption": region["region_caption"],
                **{
                    name: region[name]
                    for name in ("status", "adjective", "term", "position", "negatives", "basis", "oracle")
                },
            }
            for region in regions
        ],
    }
