"""The family `images`: images, region crops, masks and their description."""

import io
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.data import format as shard_format
from models.data.format import ImageMeta, Manifest, RegionMeta
from models.data.tars import KeptTar, UnwrittenSample, write_samples
from models.geometry import fit_mask, unit_box
from models.preparation import crop_bytes, image_bytes
from pipelines.errors import Rejected, UserError, disk_fault
from pipelines.files import atomic_folder
from pipelines.masks import decode
from pipelines.raw_images import open_raw
from pipelines.records import ANNOTATIONS_PROPOSER, REGIONS, SPLIT_IMAGES, SPLITS, RegionRow, SplitImageRow
from pipelines.shards.checks import check_family, table_digest
from pipelines.shards.config import ShardsConfig
from pipelines.shards.earlier import EarlierTars
from pipelines.shards.stored_images import PlannedTar, ShardImage, StoredImages, file_of
from pipelines.shards.target import segmentation_target
from pipelines.sources import Sources
from pipelines.spill import Spill
from pipelines.stage import SUMMARIES, Summary, progress
from pipelines.tables import beside
from pipelines.workers.config import THIS_PROCESS, WorkersConfig
from pipelines.workers.crew import WORKER_DIED, Lost
from pipelines.workers.engine import in_batches, in_workers

BATCH = 32  # images
# Images that are worth a worker (`pipelines.workers.engine`).
WORTH = 1000

Members = Mapping[str, bytes]


def run(
    config: ShardsConfig,
    sources: Sources,
    images: Path,
    regions: Path,
    output: Path,
    summaries: Path = SUMMARIES,
    workers: WorkersConfig = THIS_PROCESS,
    earlier: EarlierTars | None = None,
) -> dict[str, Any]:
    """Write `output`, the folder of the family `images`.

    Workers decode and encode; this process writes the tars: 0.2 to 0.3 ms a sample, beside 6 to 8 ms for one of 512
    pixels, so that it keeps up with some 25 workers. A worker for each tar would hide which image ended it, and open a
    volume anew for each tar that its slices lie in.

    Args:
        config: Section `shards`.
        sources: Where the images are, and how large they may be.
        images: The table `split images`.
        regions: The table `regions`; its accepted rows are stored, in the order of `n`; all annotated ones make the
            targets.
        output: Replaced as a whole.
        summaries: Folder of the summary.
        workers: How many processes make samples.
        earlier: The tars of the run before; None: all are written anew.

    Returns:
        The summary; its inputs are images.
    """
    summary = Summary("image_shards")
    with atomic_folder(output) as folder:
        stored = StoredImages(folder)
        strange = f"{regions} has regions of images that {images} lacks: run `dvc repro regions`"
        for row, of_image in beside(SPLIT_IMAGES.rows(images), REGIONS.groups(regions), strange):
            if row.source not in sources.roots:
                raise UserError(f"{images} names the source '{row.source}', params.yaml does not: run `dvc repro`")
            stored.add(ShardImage(row, _of_samples(of_image)))
        if not len(stored):
            raise UserError(
                f"{images} has no image: see the rejected rows of the sources, or add a source to params.yaml"
            )
        tars = [(tar, _kept(tar, stored, earlier, config, sources)) for tar in stored.tars(config.samples_per_shard)]
        wanted = [index for tar, kept in tars if kept is None for index in tar.images]
        made = _in_stored_order(stored, wanted, partial(SampleMaker, config, sources), workers, folder)
        with closing(_samples(tars, progress(made, "image shards", len(wanted)), config, summary)) as samples:
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
    if earlier is not None:
        summary.extra["tars"] = earlier.keep(output, splits.values())
    summary.extra["samples"] = {name: split.samples for name, split in splits.items()}
    summary.extra["regions"] = {name: split.regions for name, split in splits.items()}
    return summary.write(len(stored), summaries)


def _of_samples(regions: Iterable[RegionRow]) -> tuple[RegionRow, ...]:
    """The accepted and the annotated regions of an image, in the order of `n`."""
    wanted = (row for row in regions if row.status == "accepted" or row.proposer == ANNOTATIONS_PROPOSER)
    return tuple(sorted(wanted, key=lambda row: row.n))


def _kept(
    tar: PlannedTar, stored: StoredImages, earlier: EarlierTars | None, config: ShardsConfig, sources: Sources
) -> KeptTar | None:
    """The tar that an earlier run made of the same rows with the same settings."""
    if earlier is None:
        return None
    settings = repr((config.input_format, sources.max_pixels)).encode()
    decides = [settings, *stored.digests(tar)]
    return earlier.find(tar.split, tar.file, stored.keys(tar), stored.regions(tar), decides)


def _samples(
    tars: Sequence[tuple[PlannedTar, KeptTar | None]],
    made: Iterator[tuple[ShardImage, Members | str]],
    config: ShardsConfig,
    summary: Summary,
) -> Generator[UnwrittenSample | KeptTar, None, None]:
    """What the tars hold; what could not be made is counted.

    Args:
        tars: In stored order, each as the run before left it, or None.
        made: The images of all others, in stored order.
        config: Limits.
        summary: Of the stage.
    """
    images = sum(len(tar.images) for tar, _ in tars)
    for tar, kept in tars:
        if kept is not None:
            summary.ok(len(tar.images))
            yield kept
            continue
        for image, members in islice(made, len(tar.images)):
            if isinstance(members, str):
                summary.failed(members)
                # Each costs the start of three workers: not to be counted to the end.
                if members == WORKER_DIED and summary.counts["failed"] > config.max_failed_fraction * images:
                    summary.limit_failures(config.max_failed_fraction)
                continue
            summary.ok()
            yield UnwrittenSample(
                split=tar.split,
                file=tar.file,
                key=image.row.image_id,
                members=members,
                regions=len(image.accepted),
            )


def _in_stored_order(
    stored: StoredImages, wanted: list[int], make: "partial[SampleMaker]", workers: WorkersConfig, folder: Path
) -> Iterator[tuple[ShardImage, Members | str]]:
    """Each image with its members or why there are none; those of slices are made before all others, file by file."""
    is_wanted = np.zeros(len(stored), dtype=bool)
    is_wanted[wanted] = True
    slices = [index for index in stored.slices() if is_wanted[index]]
    made_slices: Spill[Members | str] = Spill(folder)
    for _, members in _made(stored, slices, make, workers):
        made_slices.add(members)
    place = {index: number for number, index in enumerate(slices)}
    others = _made(stored, [index for index in wanted if index not in place], make, workers)
    for index in wanted:
        yield (stored[index], made_slices[place[index]]) if index in place else next(others)


def _made(
    stored: StoredImages, indices: Sequence[int], make: "partial[SampleMaker]", workers: WorkersConfig
) -> Iterator[tuple[ShardImage, Members | str]]:
    batches = in_batches((stored[index] for index in indices), BATCH, lambda image: file_of(image.row))
    for image, members in in_workers(make, batches, workers, items=len(indices), worth=WORTH):
        yield image, members.reason if isinstance(members, Lost) else members


class SampleMaker:
    """Makes the samples of images.

    Args:
        config: Sizes.
        sources: Where the images are, and how large they may be.
    """

    def __init__(self, config: ShardsConfig, sources: Sources) -> None:
        self._config, self._sources = config, sources

    def __call__(self, images: Sequence[ShardImage]) -> list[Members | str]:
        """For each image the members of its sample by extension, or why there are none."""
        return [self._made(image) for image in images]

    def _made(self, image: ShardImage) -> Members | str:
        try:
            pixels = open_raw(self._sources, image.row)
        except Rejected as fault:
            return fault.reason
        except OSError as error:
            return disk_fault(error)
        annotated = [region for region in image.regions if region.proposer == ANNOTATIONS_PROPOSER]
        return image_members(image.row, image.accepted, annotated, pixels, self._config)


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
