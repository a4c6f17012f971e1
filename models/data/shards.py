"""Samples from the two shard families, joined by key, in stored order or shuffled the same way on every machine.

`docs/architecture.md` ("Shards") has the format. WebDataset reads the tars; which sample goes where is decided here, as
a function of the seed and the epoch alone, so that any number of workers sees the same global batches.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander


class ShardError(ValueError):
    """Shards that do not hold what their manifest says."""


@dataclass(frozen=True)
class Sample:
    """One image with its regions and texts; pixels are decoded when they are asked for.

    Attributes:
        key: The image_id.
        files: The image family's files by extension, undecoded.
        captions: `captions.json`.
    """

    key: str
    files: dict[str, bytes]
    captions: dict[str, Any]

    @cached_property
    def meta(self) -> dict[str, Any]:
        return json.loads(self.files["meta.json"])

    @property
    def image(self) -> np.ndarray:
        """(image_size, image_size, 3) uint8."""
        return _rgb(self.files["image.jpg"])

    def crop(self, index: int) -> np.ndarray:
        """Region `index` of `meta["regions"]`: (crop_size, crop_size, 3) uint8."""
        return _rgb(self.files[f"crop{index}.jpg"])

    def mask(self, index: int) -> np.ndarray | None:
        """Mask of region `index`: (image_size, image_size) bool, or None where the region has only a box."""
        data = self.files.get(f"mask{index}.png")
        return None if data is None else np.asarray(Image.open(io.BytesIO(data)).convert("L")) > 127


def _rgb(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@dataclass(frozen=True)
class ShardSet:
    """The image and caption shards of one split.

    Args:
        images: Folder of the image family, with its manifest.
        captions: Folder of the caption family.
        split: train, validation or test.
    """

    images: Path
    captions: Path
    split: str

    @cached_property
    def manifest(self) -> dict[str, Any]:
        images, captions = (_manifest(folder, self.split) for folder in (self.images, self.captions))
        if images["keys_sha256"] != captions["keys_sha256"]:
            raise ShardError(
                f"{self.captions} describes other images than {self.images} holds ({self.split}): run `dvc repro`"
            )
        return images

    def __len__(self) -> int:
        return int(self.manifest["samples"])

    def shard(self, number: int) -> Iterator[Sample]:
        """The samples of one shard, in order; a missing or surplus sample is an error."""
        entry = self.manifest["shards"][number]
        found = 0
        pairs = zip(_read(self.images / entry["file"]), _read(self.captions / entry["file"]), strict=False)
        for image, caption in pairs:
            if image["__key__"] != caption["__key__"]:
                raise ShardError(f"{self.split} {entry['file']}: {image['__key__']} stands beside {caption['__key__']}")
            found += 1
            files = {name: value for name, value in image.items() if not name.startswith("__")}
            yield Sample(image["__key__"], files, json.loads(caption["captions.json"]))
        if found != entry["samples"]:
            raise ShardError(f"{self.split} {entry['file']} holds {found} samples of {entry['samples']}: run `dvc repro`")

    def samples(self) -> Iterator[Sample]:
        """All samples in stored order."""
        for number in range(len(self.manifest["shards"])):
            yield from self.shard(number)

    def shuffled(self, seed: int, epoch: int, buffer: int) -> Iterator[Sample]:
        """All samples in an order that depends on `seed` and `epoch` alone.

        Shards are permuted, and samples drawn at random from a buffer of `buffer` undecoded ones, which bounds memory.
        """
        random = np.random.default_rng([seed, epoch])
        waiting: list[Sample] = []
        for number in random.permutation(len(self.manifest["shards"])):
            for sample in self.shard(int(number)):
                waiting.append(sample)
                if len(waiting) > buffer:
                    yield _draw(waiting, random)
        while waiting:
            yield _draw(waiting, random)


def _draw(waiting: list[Sample], random: np.random.Generator) -> Sample:
    index = int(random.integers(len(waiting)))
    waiting[index], waiting[-1] = waiting[-1], waiting[index]
    return waiting.pop()


def _manifest(folder: Path, split: str) -> dict[str, Any]:
    file = folder / "manifest.json"
    if not file.is_file():
        raise ShardError(f"{file} not found: the shards were not completed, run `dvc repro`")
    return json.loads(file.read_text(encoding="utf-8"))["splits"][split]


def _read(file: Path) -> Iterator[dict[str, Any]]:
    if not file.is_file():
        raise ShardError(f"{file} not found: run `dvc repro`")
    # The file is opened here, never by WebDataset, to which a name may also be a command to run or an address.
    try:
        with file.open("rb") as stream:
            yield from group_by_keys(tar_file_expander([{"url": str(file), "stream": stream}]))
    except tarfile.ReadError as error:
        raise ShardError(f"{file} is damaged ({error.args[0]}): delete it and run `dvc repro`") from None


def read_split(images: Path, captions: Path, split: str) -> Iterator[Sample]:
    """All samples of a split in stored order."""
    return ShardSet(images, captions, split).samples()


def keys_sha256(keys: Iterable[str]) -> str:
    """The digest by which the two families recognise each other: SHA-256 over the keys, a newline after each."""
    digest = hashlib.sha256()
    for key in keys:
        digest.update(f"{key}\n".encode())
    return digest.hexdigest()
