"""Small shards for tests, written by the contract of `models/data/format.py`."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.data import format as shard_format
from models.data.format import ImageCaptions, ImageMeta, Manifest, RegionCaption, RegionMeta, TableDigest
from models.data.tars import UnwrittenSample, write_samples
from models.preparation import InputFormat

# How the images of tests were prepared, as their manifests and checkpoints say.
INPUT_FORMAT = InputFormat(image_size=16, crop_size=8, crop_margin=0.1, quality=95)


@dataclass(frozen=True)
class SmallSample:
    """One sample with its pixels encoded.

    Attributes:
        meta: Without the spans of crops, masks and look-alikes, and without `has_target`.
        captions: Its texts.
        image: JPEG.
        crops: JPEG of each region.
        masks: PNG of each region; None where the region has only a box.
        target: PNG; None where nobody outlined the findings.
        look_alikes: PNG of each.
    """

    meta: ImageMeta
    captions: ImageCaptions
    image: bytes
    crops: Sequence[bytes] = ()
    masks: Sequence[bytes | None] = ()
    target: bytes | None = None
    look_alikes: Sequence[bytes] = ()

    def image_members(self) -> dict[str, bytes]:
        crops, crop_spans = shard_format.pack(self.crops)
        masks, spans = shard_format.pack([*(mask or b"" for mask in self.masks), *self.look_alikes])
        mask_spans, look_alikes = spans[: len(self.masks)], tuple(spans[len(self.masks) :])
        regions = tuple(
            replace(region, crop=crop, mask=mask if mask[1] else None)
            for region, crop, mask in zip(self.meta.regions, crop_spans, mask_spans, strict=True)
        )
        meta = replace(self.meta, has_target=self.target is not None, regions=regions, look_alikes=look_alikes)
        black = png(np.zeros_like(np.asarray(Image.open(io.BytesIO(self.image)).convert("L"))))
        return {
            shard_format.CROPS: crops,
            shard_format.IMAGE: self.image,
            shard_format.MASKS: masks,
            shard_format.META: shard_format.to_json(meta),
            shard_format.TARGET: black if self.target is None else self.target,
        }

    def caption_members(self) -> dict[str, bytes]:
        return {shard_format.CAPTIONS: shard_format.to_json(self.captions)}


def image_meta(key: str, regions: Sequence[RegionMeta] = (), **changes: Any) -> ImageMeta:
    values = {
        "source": "one",
        "split": "train",
        "group": key,
        "modality": "other",
        "view": None,
        "labels": None,
        "width": 16,
        "height": 16,
        "has_target": False,
    }
    return ImageMeta(image_id=key, regions=tuple(regions), **values | changes)


def region_meta(region_id: str, role: str = "input", **changes: Any) -> RegionMeta:
    values = {"label": None, "score": 1.0, "box": (0.0, 0.0, 1.0, 1.0), "crop": (0, 0), "mask": None}
    return RegionMeta(region_id=region_id, role=role, **values | changes)


def image_captions(key: str, regions: Sequence[RegionCaption] = (), **changes: Any) -> ImageCaptions:
    values = {"status": "ok", "basis": "report", "oracle": False, "summary": None, "report": None}
    return ImageCaptions(image_id=key, regions=tuple(regions), **values | changes)


def region_caption(region_id: str, adjective: str, term: str, position: str, **changes: Any) -> RegionCaption:
    values = {
        "status": "ok",
        "caption": f"{adjective} | {term} | {position}",
        "negatives": (),
        "basis": "proposal",
        "oracle": False,
    }
    words = {"adjective": adjective, "term": term, "position": position}
    return RegionCaption(region_id=region_id, **words, **values | changes)


def write_shards(root: Path, samples: Sequence[SmallSample], split: str | None, per_shard: int) -> tuple[Path, Path]:
    """Both families with their manifests; the folders `images` and `captions` of `root`.

    Args:
        root: Where to.
        samples: In the order of the splits.
        split: Of all samples; None: each sample's own.
        per_shard: Samples of a tar.
    """
    regions = sum(len(sample.meta.regions) for sample in samples)
    rows = {"images": len(samples), "captions": len(samples) + regions}
    for family in shard_format.EXTENSIONS:
        unwritten = (
            UnwrittenSample(
                split=split or sample.meta.split,
                file=f"{split or sample.meta.split}/{number // per_shard:06d}.tar",
                key=sample.meta.image_id,
                members=sample.image_members() if family == "images" else sample.caption_members(),
                regions=len(sample.meta.regions),
            )
            for number, sample in enumerate(samples)
        )
        (root / family).mkdir(parents=True, exist_ok=True)
        splits = write_samples(root / family, family, unwritten, [split] if split else ["train", "validation", "test"])
        tables = {family: TableDigest(sha256="0" * 64, rows=rows[family])}
        manifest = Manifest(family=family, samples_per_shard=per_shard, splits=splits, tables=tables)
        if family == "images":
            manifest = replace(manifest, **asdict(INPUT_FORMAT))
        shard_format.write_manifest(root / family, manifest)
    return root / "images", root / "captions"


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    return _encoded(pixels, "JPEG", **options)


def png(mask: np.ndarray) -> bytes:
    """A mask with the values 0 and 255."""
    return _encoded(mask, "PNG")


def _encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()
