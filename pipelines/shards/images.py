"""The family `images`: images, region crops, masks and their description."""

import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.data import format as shard_format
from models.data.format import ImageMeta, Manifest, RegionMeta
from models.data.tars import UnwrittenSample, write_samples
from models.geometry import fit_mask, unit_box
from models.preparation import crop_bytes, image_bytes
from pipelines.errors import Rejected, UserError, disk_fault
from pipelines.files import atomic_folder
from pipelines.masks import decode
from pipelines.raw_images import open_raw
from pipelines.records import ANNOTATIONS_PROPOSER, REGIONS, SPLIT_IMAGES, SPLITS, RegionRow, SplitImageRow
from pipelines.shards.checks import check_family, table_digest
from pipelines.shards.config import ShardsConfig
from pipelines.shards.slices import SliceStore, slice_rows
from pipelines.shards.target import segmentation_target
from pipelines.sources import Sources
from pipelines.stage import SUMMARIES, Summary, progress


def run(
    config: ShardsConfig,
    sources: Sources,
    images: Path,
    regions: Path,
    output: Path,
    summaries: Path = SUMMARIES,
) -> dict[str, Any]:
    """Write `output`, the folder of the family `images`.

    Args:
        config: Section `shards`.
        sources: Where the images are, and how large they may be.
        images: The table `split images`.
        regions: The table `regions`; its accepted rows are stored, in the order of `n`; all annotated ones make the
            targets.
        output: Replaced as a whole.
        summaries: Folder of the summary.

    Returns:
        The summary; its inputs are images.
    """
    rows = SPLIT_IMAGES.read(images)
    if not rows:
        raise UserError(f"{images} has no image: see the rejected rows of the sources, or add a source to params.yaml")
    if unknown := sorted({row.source for row in rows} - sources.roots.keys()):
        raise UserError(f"{images} names the source '{unknown[0]}', params.yaml does not: run `dvc repro`")
    regions_by_image = _regions_by_image(regions)
    summary = Summary("image_shards")
    with atomic_folder(output) as folder:
        in_tars = progress(_in_tars(rows, config.samples_per_shard), "image shards", len(rows))
        read = _SampleReader(rows, regions_by_image, config, sources, folder)
        samples = _samples(in_tars, regions_by_image, read, summary)
        splits = write_samples(folder, "images", samples, SPLITS)
        summary.limit_failures(config.max_failed_fraction)
        manifest = Manifest(
            family="images",
            samples_per_shard=config.samples_per_shard,
            splits=splits,
            tables={"images": table_digest(images), "regions": table_digest(regions)},
            left_out=summary.counts["failed"],
            image_size=config.image_size,
            crop_size=config.crop_size,
            crop_margin=config.crop_margin,
            quality=config.quality,
        )
        shard_format.write_manifest(folder, manifest)
    check_family(output)
    summary.extra["samples"] = {name: split.samples for name, split in splits.items()}
    summary.extra["regions"] = {name: split.regions for name, split in splits.items()}
    return summary.write(len(rows), summaries)


def _regions_by_image(path: Path) -> Mapping[str, list[RegionRow]]:
    """The accepted and the annotated regions of each image, in the order of `n`."""
    by_image: dict[str, list[RegionRow]] = defaultdict(list)
    for batch in REGIONS.batches(path):
        for region in batch:
            if region.status == "accepted" or region.proposer == ANNOTATIONS_PROPOSER:
                by_image[region.image_id].append(region)
    return {image_id: sorted(regions, key=lambda region: region.n) for image_id, regions in by_image.items()}


def _in_tars(rows: Sequence[SplitImageRow], samples_per_shard: int) -> Iterator[tuple[str, SplitImageRow]]:
    """Each image with the tar that it goes to, in stored order.

    The order is that of image_id. It is a hash, so every shard is a fair sample of the sources, and an image that
    cannot be opened moves no other image to another shard.
    """
    for split in SPLITS:
        of_split = sorted((row for row in rows if row.split == split), key=lambda row: row.image_id)
        for number, row in enumerate(of_split):
            yield f"{split}/{number // samples_per_shard:06d}.tar", row


def _samples(
    in_tars: Iterator[tuple[str, SplitImageRow]],
    regions_by_image: Mapping[str, list[RegionRow]],
    read: Callable[[SplitImageRow], dict[str, bytes] | str],
    summary: Summary,
) -> Iterator[UnwrittenSample]:
    for file, row in in_tars:
        members = read(row)
        if isinstance(members, str):
            summary.failed(members)
            continue
        summary.ok()
        accepted = sum(region.status == "accepted" for region in regions_by_image.get(row.image_id, []))
        yield UnwrittenSample(split=row.split, file=file, key=row.image_id, members=members, regions=accepted)


class _SampleReader:
    """The members of each image's sample; those of slices are made when it is built, file by file."""

    def __init__(
        self,
        rows: Sequence[SplitImageRow],
        regions_by_image: Mapping[str, list[RegionRow]],
        config: ShardsConfig,
        sources: Sources,
        folder: Path,
    ) -> None:
        self._regions, self._config, self._sources = regions_by_image, config, sources
        self._slices = SliceStore(folder)
        self._faults: dict[str, str] = {}
        for row in slice_rows(rows):
            found = self._made(row)
            if isinstance(found, str):
                self._faults[row.image_id] = found
            else:
                self._slices.put(row.image_id, found)

    def __call__(self, row: SplitImageRow) -> dict[str, bytes] | str:
        """The members by extension, or why there are none."""
        return self._faults.get(row.image_id) or self._slices.take(row.image_id) or self._made(row)

    def _made(self, row: SplitImageRow) -> dict[str, bytes] | str:
        try:
            image = open_raw(self._sources, row)
        except Rejected as fault:
            return fault.reason
        except OSError as error:
            return disk_fault(error)
        regions = self._regions.get(row.image_id, [])
        accepted = [region for region in regions if region.status == "accepted"]
        annotated = [region for region in regions if region.proposer == ANNOTATIONS_PROPOSER]
        return image_members(row, accepted, annotated, image, self._config)


def image_members(
    row: SplitImageRow,
    accepted: Sequence[RegionRow],
    annotated: Sequence[RegionRow],
    image: Image.Image,
    config: ShardsConfig,
) -> dict[str, bytes]:
    """The members of one sample by extension; `models/data/format.py` describes them.

    Args:
        row: Of the table of images.
        accepted: Its regions that are stored.
        annotated: Its regions that the source annotated, for the target.
        image: The original.
        config: Sizes.
    """
    crops, crop_spans = shard_format.pack(crop_bytes(image, region.box, config.input_format) for region in accepted)
    outlines = [*(region.mask for region in accepted), *row.look_alikes]
    masks, mask_spans = shard_format.pack(_mask(image, outline, config) for outline in outlines)
    regions = zip(accepted, crop_spans, mask_spans[: len(accepted)], strict=True)
    target = segmentation_target(row, annotated)
    meta = ImageMeta(
        image_id=row.image_id,
        source=row.source,
        split=row.split,
        group=row.group,
        modality=row.modality,
        view=row.view,
        labels=row.labels,
        width=row.width,
        height=row.height,
        has_target=target is not None,
        sides=None if row.sides == shard_format.usual_sides(row.view) else row.sides,
        regions=tuple(
            RegionMeta(
                region_id=region.region_id,
                role=region.role,
                label=region.label,
                score=region.score,
                box=unit_box(region.box, row.width, row.height, config.image_size),
                crop=crop,
                mask=None if region.mask is None else mask,
            )
            for region, crop, mask in regions
        ),
        attributes=row.attributes,
        look_alikes=tuple(mask_spans[len(accepted) :]),
    )
    # Every sample has a target.png, so that all samples have the same members; `has_target` says whether it counts.
    outlined = np.zeros((row.height, row.width), dtype=bool) if target is None else target
    return {
        shard_format.IMAGE: image_bytes(image, config.input_format),
        shard_format.TARGET: _png(fit_mask(outlined, config.image_size)),
        shard_format.CROPS: crops,
        shard_format.MASKS: masks,
        shard_format.META: shard_format.to_json(meta),
    }


def _mask(image: Image.Image, outline: str | None, config: ShardsConfig) -> bytes:
    """The PNG of a mask's run-length code; no bytes where a region has only a box."""
    if outline is None:
        return b""
    return _png(fit_mask(decode(outline, image.height, image.width), config.image_size))


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
