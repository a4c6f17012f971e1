"""QaTa-COV19 as one file that travels, and the shards that are made of it again.

A tar of shards pads each member to 512 bytes and would take 40 MB for padding alone. The file is a safetensors file of
byte tensors: JPEGs and PNGs one after the other, where each ends, and a table as JSON.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from gpu_parts.random_shards import Members, image_meta
from models.data import format as shard_format
from models.data.format import ImageCaptions

SPLITS = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class PackedSample:
    """One image with its mask and text.

    Attributes:
        key: Without a dot.
        split: train or test.
        group: The patient.
        text: The sentence that comes with it.
        image: JPEG.
        mask: PNG of one bit a pixel.
    """

    key: str
    split: str
    group: str
    text: str | None
    image: bytes
    mask: bytes


def write(path: Path, samples: Sequence[PackedSample], side: int) -> None:
    """Write samples in the order of `SPLITS`, square images of `side` pixels."""
    rows = [
        {name: value for name, value in asdict(sample).items() if not isinstance(value, bytes)} for sample in samples
    ]
    table = json.dumps({"side": side, "samples": rows}, ensure_ascii=False).encode()
    tensors = {"table": np.frombuffer(table, dtype=np.uint8)}
    for name in ("image", "mask"):
        members = [getattr(sample, name) for sample in samples]
        tensors[name] = np.frombuffer(b"".join(members), dtype=np.uint8)
        tensors[f"{name}_ends"] = np.cumsum([len(member) for member in members], dtype=np.int64)
    save_file(tensors, path)


def read(path: Path) -> tuple[int, list[PackedSample]]:
    """The side of the images in pixels, and the samples."""
    tensors = load_file(path)
    table = json.loads(tensors["table"].tobytes())
    members = zip(_split(tensors, "image"), _split(tensors, "mask"), strict=True)
    rows = zip(table["samples"], members, strict=True)
    return table["side"], [PackedSample(**row, image=image, mask=mask) for row, (image, mask) in rows]


def _split(tensors: dict[str, np.ndarray], name: str) -> Iterator[bytes]:
    ends = tensors[f"{name}_ends"].tolist()
    for start, end in zip([0, *ends], ends, strict=False):
        yield tensors[name][start:end].tobytes()


def members(samples: Sequence[PackedSample], side: int) -> Iterator[Members]:
    """The samples as shards hold them: without regions, the mask as the outline of all findings."""
    for sample in samples:
        meta = image_meta(sample.key, sample.split, side, group=sample.group)
        parts = {
            shard_format.CROPS: b"",
            shard_format.IMAGE: sample.image,
            shard_format.MASKS: b"",
            shard_format.META: shard_format.to_json(meta),
            shard_format.TARGET: sample.mask,
        }
        captions = ImageCaptions(
            image_id=sample.key,
            status="ok",
            basis="report",
            oracle=False,
            summary=None,
            report=sample.text,
            regions=(),
        )
        yield meta, parts, captions
