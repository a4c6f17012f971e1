"""Shards of random images and texts, by the contract of models/data/format.py."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from models.data import format as shard_format
from models.data.format import ImageCaptions, ImageMeta, Manifest, RegionCaption, RegionMeta
from models.data.shards import ShardSet
from models.data.tars import UnwrittenSample, write_samples

REGIONS = 2
PER_SHARD = 256
ADJECTIVES = ("round", "oval", "irregular", "lobulated", "spiculated", "flat")
TERMS = ("opacity", "nodule", "effusion", "mass", "consolidation")
POSITIONS = ("left upper", "left lower", "right upper", "right lower")

Members = tuple[ImageMeta, dict[str, bytes], ImageCaptions]


def random_shards(folder: Path, images: int, side: int, words: int) -> ShardSet:
    """Training images with two regions each; made once in each folder.

    Args:
        folder: Where to.
        images: How many.
        side: Of images and of crops, pixels.
        words: Of a report.
    """
    return write_once(
        folder, lambda: (random_sample(number, side, words, REGIONS) for number in range(images)), side, "train"
    )


def write_once(folder: Path, samples: Callable[[], Iterator[Members]], side: int, *splits: str) -> ShardSet:
    """Both families of shards, unless the folder has them; the first split.

    Args:
        folder: The parent of the families' folders.
        samples: Gives the samples, grouped by split in the order of `splits`.
        side: Of the images, pixels.
        splits: Names of the splits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The last file written: an item that was stopped at its time box may have left half of the others.
    if not (folder / "captions" / shard_format.MANIFEST).exists():
        _write(folder, list(samples()), side, splits)
    return ShardSet(folder / "images", folder / "captions", splits[0])


def _write(folder: Path, samples: Sequence[Members], side: int, splits: Sequence[str]) -> None:
    for family in shard_format.EXTENSIONS:
        unwritten = (
            UnwrittenSample(
                split=meta.split,
                file=f"{meta.split}/{number // PER_SHARD:06d}.tar",
                key=meta.image_id,
                members=members if family == "images" else {shard_format.CAPTIONS: shard_format.to_json(captions)},
                regions=len(meta.regions),
            )
            for number, (meta, members, captions) in enumerate(samples)
        )
        (folder / family).mkdir(exist_ok=True)
        written = write_samples(folder / family, family, unwritten, splits)
        sizes = {"image_size": side, "crop_size": side} if family == "images" else {}
        manifest = Manifest(family=family, samples_per_shard=PER_SHARD, splits=written, **sizes)
        shard_format.write_manifest(folder / family, manifest)


def random_sample(number: int, side: int, words: int, regions: int) -> Members:
    """An image with so many regions, and a report of so many words; the number decides them."""
    random = np.random.default_rng(number)
    key = f"{number:016x}"
    crops, crop_spans = shard_format.pack(random_jpeg(random, side) for _ in range(regions))
    found = [
        RegionMeta(
            region_id=f"{key}-{n}", role="input", label=None, score=1.0, box=(0.0, 0.0, 1.0, 1.0), crop=span, mask=None
        )
        for n, span in enumerate(crop_spans)
    ]
    meta = image_meta(key, "train", side, regions=found)
    members = {
        shard_format.CROPS: crops,
        shard_format.IMAGE: random_jpeg(random, side),
        shard_format.MASKS: b"",
        shard_format.META: shard_format.to_json(meta),
        shard_format.TARGET: png(np.zeros((side, side), dtype=bool)),
    }
    report = " ".join(f"word{word}" for word in random.integers(0, 2000, words))
    captions = ImageCaptions(
        image_id=key,
        status="ok",
        basis="report",
        oracle=False,
        summary=None,
        report=report,
        regions=tuple(_region_caption(random, region.region_id) for region in found),
    )
    return meta, members, captions


def image_meta(key: str, split: str, side: int, *, group: str = "", regions: Sequence[RegionMeta] = ()) -> ImageMeta:
    """Of a square radiograph; one without regions is outlined as a whole."""
    return ImageMeta(
        image_id=key,
        source="gpu_benchmark",
        split=split,
        group=group or key,
        modality="radiograph",
        view=None,
        labels=None,
        width=side,
        height=side,
        has_target=not regions,
        regions=tuple(regions),
    )


def _region_caption(random: np.random.Generator, region_id: str) -> RegionCaption:
    adjective, term, position = (str(random.choice(words)) for words in (ADJECTIVES, TERMS, POSITIONS))
    return RegionCaption(
        region_id=region_id,
        status="ok",
        caption=f"{adjective} | {term} | {position}",
        adjective=adjective,
        term=term,
        position=position,
        negatives=tuple(f"{other} | {term} | {position}" for other in ADJECTIVES if other != adjective),
        basis="proposal",
        oracle=False,
    )


def random_jpeg(random: np.random.Generator, side: int) -> bytes:
    """A smooth random image: its JPEG has about the size of a radiograph's."""
    coarse = random.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def png(mask: np.ndarray) -> bytes:
    """A mask (height, width) bool as a PNG of one bit a pixel."""
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG", optimize=True)
    return stream.getvalue()
