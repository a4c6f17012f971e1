"""The family `captions`: the texts of every image in the family `images`, same keys, same order, same tars.

It is kept apart so that a changed prompt rewrites these few bytes and leaves the pixels alone.

The table is in the order of image_id, the shards are so within each split. The table is read once, beside the shards of
all splits; what becomes of it waits on the disk until its split is written. Questions go with their image; training
learns nothing from them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from models.data import format as shard_format
from models.data.format import (
    ImageCaptions,
    ImageMeta,
    ImageQuestion,
    Manifest,
    ManifestSplit,
    RegionCaption,
    TableDigest,
)
from models.data.tars import KeptTar, UnwrittenSample, open_shard, write_samples
from models.verified import verified_sha256
from pipelines.files import atomic_folder
from pipelines.records import CAPTIONS, SPLITS, CaptionRow
from pipelines.shards.checks import check_family, check_pair, table_digest
from pipelines.shards.earlier import EarlierTars
from pipelines.shards.questions import QuestionsByImage
from pipelines.spill import Spill
from pipelines.stage import SUMMARIES, Summary, progress


def run(
    captions: Path,
    questions: Path,
    images: Path,
    output: Path,
    summaries: Path = SUMMARIES,
    earlier: EarlierTars | None = None,
) -> dict[str, Any]:
    """Write `output`, the folder of the family `captions`.

    Args:
        captions: The table `captions`.
        questions: The table `questions` of the split.
        images: The folder of the family `images`; it decides keys, order and regions.
        output: Replaced as a whole.
        summaries: Folder of the summary.
        earlier: The tars of the run before; None: all are written anew.

    Returns:
        The summary; its inputs are caption rows. Those of images that are in no shard count as failed.

    Raises:
        AssertionError: An image or region in the shards has no row in the table.
    """
    image_manifest = check_family(images)
    summary = Summary("caption_shards")
    with atomic_folder(output) as folder:
        asked = QuestionsByImage(questions, folder)
        joined = _Joined(captions, asked, image_manifest, images, folder)
        splits = write_samples(folder, "captions", _kept_or_written(joined.samples(), earlier), SPLITS)
        summary.ok(sum(split.samples + split.regions for split in splits.values()))
        if left_out := joined.left_out:
            summary.failed("image_not_in_shards", left_out)
        manifest = Manifest(
            family="captions",
            samples_per_shard=image_manifest.samples_per_shard,
            splits=splits,
            tables={
                "captions": table_digest(captions),
                "questions": table_digest(questions),
                "shards": TableDigest(
                    sha256=verified_sha256(images / shard_format.MANIFEST), rows=image_manifest.samples
                ),
            },
            left_out=left_out,
        )
        shard_format.write_manifest(folder, manifest)
    check_family(output)
    check_pair(images, output)
    if earlier is not None:
        summary.extra["tars"] = earlier.keep(output, splits.values())
    summary.extra["samples"] = {name: split.samples for name, split in splits.items()}
    summary.extra["questions"] = {"written": asked.given, "image_not_in_shards": len(asked) - asked.given}
    return summary.write(manifest.tables["captions"].rows, summaries)


class _Joined:
    """The captions of every image in the image shards.

    Args:
        captions: The table `captions`.
        questions: Of all images.
        manifest: Of the image shards.
        images: Their folder.
        folder: Where samples wait.

    Attributes:
        left_out: Rows of images that are in no shard.

    Raises:
        AssertionError: An image or region in the shards has no row in the table.
    """

    def __init__(
        self, captions: Path, questions: QuestionsByImage, manifest: Manifest, images: Path, folder: Path
    ) -> None:
        self.left_out = 0
        self._waiting: dict[str, Spill[UnwrittenSample]] = {split: Spill(folder) for split in manifest.splits}
        stored = {name: _stored(split, images) for name, split in manifest.splits.items()}
        heads = {name: next(metas, None) for name, metas in stored.items()}
        groups = progress(CAPTIONS.groups(captions), "caption shards", manifest.samples)
        for image_id, rows in groups:
            is_in_shards = False
            for split, head in heads.items():
                # An image before this one has no rows, which `_sample` says.
                if head is not None and head[1].image_id <= image_id:
                    by_item = {row.item_id: row for row in rows}
                    self._waiting[split].add(_sample(split, *head, by_item, questions.of(head[1].image_id)))
                    heads[split] = next(stored[split], None)
                    is_in_shards = True
            self.left_out += 0 if is_in_shards else len(rows)
        for split, head in heads.items():
            if head is not None:
                _sample(split, *head, {}, ())

    def samples(self) -> Iterator[UnwrittenSample]:
        """Split by split, in the order of the image shards."""
        for waiting in self._waiting.values():
            yield from waiting


def _kept_or_written(
    samples: Iterable[UnwrittenSample], earlier: EarlierTars | None
) -> Iterator[UnwrittenSample | KeptTar]:
    """The samples, but the tars of the run before where these hold the same. One tar is in memory."""
    if earlier is None:
        yield from samples
        return
    for (split, file), of_tar in groupby(samples, key=lambda sample: (sample.split, sample.file)):
        together = list(of_tar)
        keys, regions = [sample.key for sample in together], sum(sample.regions for sample in together)
        decides = (part for sample in together for part in (sample.key.encode(), *sample.members.values()))
        kept = earlier.find(split, file, keys, regions, decides)
        if kept is None:
            yield from together
        else:
            yield kept


def _stored(split: ManifestSplit, images: Path) -> Iterator[tuple[str, ImageMeta]]:
    """Tar and description of every image of a split, in stored order."""
    for shard in split.shards:
        index = open_shard(images, "images", shard)
        for row in range(len(index.keys)):
            text = index.read(row, (shard_format.META,))[shard_format.META]
            yield shard.file, shard_format.from_json(ImageMeta, text, str(index.path))


def _sample(
    split: str, file: str, meta: ImageMeta, rows: Mapping[str, CaptionRow], questions: tuple[ImageQuestion, ...]
) -> UnwrittenSample:
    """The captions of an image in the image shards, from the rows about it by item, and its questions."""
    items = [meta.image_id, *(region.region_id for region in meta.regions)]
    if missing := [item for item in items if item not in rows]:
        raise AssertionError(f"{len(missing)} items of an image in {file} have no caption row: {missing[:3]}")
    image, *regions = (rows[item] for item in items)
    members = {shard_format.CAPTIONS: shard_format.to_json(_image_captions(image, regions, questions))}
    return UnwrittenSample(split=split, file=file, key=meta.image_id, members=members, regions=len(regions))


def _image_captions(
    image: CaptionRow, regions: Sequence[CaptionRow], questions: tuple[ImageQuestion, ...]
) -> ImageCaptions:
    return ImageCaptions(
        image_id=image.image_id,
        status=image.status,
        basis=image.basis,
        oracle=image.oracle,
        summary=image.summary,
        report=image.report,
        other_reports=image.other_reports,
        questions=questions,
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
