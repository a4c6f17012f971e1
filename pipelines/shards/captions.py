"""The family `captions`: the texts of every image in the family `images`, same keys, same order, same tars.

It is kept apart so that a changed prompt rewrites these few bytes and leaves the pixels alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.data import format as shard_format
from models.data.format import ImageCaptions, ImageMeta, Manifest, RegionCaption, TableDigest
from models.data.tars import UnwrittenSample, open_shard, write_samples
from models.verified import verified_sha256
from pipelines.files import atomic_folder
from pipelines.records import CAPTIONS, SPLITS, CaptionRow
from pipelines.shards.checks import check_family, check_pair, table_digest
from pipelines.stage import SUMMARIES, Summary, progress


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
        AssertionError: An image or region in the shards has no row in the table.
    """
    image_manifest = check_family(images)
    rows = {row.item_id: row for batch in CAPTIONS.batches(captions) for row in batch}
    stored: set[str] = set()
    summary = Summary("caption_shards")
    with atomic_folder(output) as folder:
        samples = progress(_samples(rows, image_manifest, images, stored), "caption shards", image_manifest.samples)
        splits = write_samples(folder, "captions", samples, SPLITS)
        summary.ok(sum(split.samples + split.regions for split in splits.values()))
        if left_out := sum(row.image_id not in stored for row in rows.values()):
            summary.failed("image_not_in_shards", left_out)
        manifest = Manifest(
            family="captions",
            samples_per_shard=image_manifest.samples_per_shard,
            splits=splits,
            tables={
                "captions": table_digest(captions),
                "shards": TableDigest(
                    sha256=verified_sha256(images / shard_format.MANIFEST), rows=image_manifest.samples
                ),
            },
            left_out=left_out,
        )
        shard_format.write_manifest(folder, manifest)
    check_family(output)
    check_pair(images, output)
    summary.extra["samples"] = {name: split.samples for name, split in splits.items()}
    return summary.write(len(rows), summaries)


def _image_shards(manifest: Manifest, images: Path) -> Iterator[tuple[str, str, list[ImageMeta]]]:
    """Split, tar and the description of every image in it, in stored order."""
    for name, split in manifest.splits.items():
        for shard in split.shards:
            index = open_shard(images, "images", shard)
            texts = (index.read(row, (shard_format.META,))[shard_format.META] for row in range(len(index.keys)))
            metas = [shard_format.from_json(ImageMeta, text, str(index.path)) for text in texts]
            yield name, shard.file, metas


def _samples(
    rows: Mapping[str, CaptionRow], manifest: Manifest, images: Path, stored: set[str]
) -> Iterator[UnwrittenSample]:
    """The captions of every image in the image shards, in stored order; its image_id is added to `stored`."""
    for split, file, metas in _image_shards(manifest, images):
        if missing := [item for meta in metas for item in _items(meta) if item not in rows]:
            raise AssertionError(f"{len(missing)} items of {images / file} have no caption row: {missing[:3]}")
        for meta in metas:
            stored.add(meta.image_id)
            image, *regions = (rows[item] for item in _items(meta))
            members = {shard_format.CAPTIONS: shard_format.to_json(_image_captions(image, regions))}
            yield UnwrittenSample(split=split, file=file, key=meta.image_id, members=members, regions=len(regions))


def _items(meta: ImageMeta) -> list[str]:
    return [meta.image_id, *(region.region_id for region in meta.regions)]


def _image_captions(image: CaptionRow, regions: Sequence[CaptionRow]) -> ImageCaptions:
    return ImageCaptions(
        image_id=image.image_id,
        status=image.status,
        basis=image.basis,
        oracle=image.oracle,
        summary=image.summary,
        report=image.report,
        other_reports=image.other_reports,
        regions=tuple(
            RegionCaption(
                region_id=region.item_id,
                status=region.status,
                caption=region.region_caption,
                adjective=region.adjective,
                term=region.term,
                position=region.position,
                negatives=region.negatives,
                basis=region.basis,
                oracle=region.oracle,
                phrase=region.phrase,
            )
            for region in regions
        ),
    )
