"""Samples from the two shard families, joined by key, in stored order or shuffled the same way on every machine.

`docs/architecture.md` ("Shards") has the format. The tars' headers are read once; from then on a sample is one read in
each family, wherever it lies, so that a worker reads no sample but its own. The order is a function of the seed and the
epoch alone, so that any number of workers sees the same global batches.
"""

import hashlib
import io
import json
import tarfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from webdataset.tariterators import base_plus_ext


TARGET = "target.png"


class ShardError(ValueError):
    """Shards that do not hold what their manifest says."""


@dataclass(frozen=True)
class Sample:
    """One image with its regions and texts; pixels are decoded when they are asked for.

    Attributes:
        key: The image_id.
        files: The image family's files by extension, undecoded.
        captions: `captions.json`.
        has_target: Whether somebody outlined its findings, or said that there are none; known without its files.
    """

    key: str
    files: dict[str, bytes]
    captions: dict[str, Any]
    has_target: bool

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
        return None if data is None else _mask(data)

    @property
    def target(self) -> np.ndarray:
        """All outlined findings: (image_size, image_size) bool; for a sample that `has_target`."""
        return _mask(self.files[TARGET])


def _rgb(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _mask(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("L")) > 127


@dataclass(frozen=True)
class _Index:
    """Where the files of one tar's samples lie; plain arrays, for a process of the loader holds those of all tars.

    Attributes:
        keys: Of the samples, in stored order.
        names: Extensions of each sample's files; equal tuples are one object.
        first: (samples,) place in `spans` of each sample's first file.
        spans: (files, 2) offset and bytes.
    """

    keys: list[str]
    names: list[tuple[str, ...]]
    first: np.ndarray
    spans: np.ndarray


@dataclass(frozen=True)
class ShardSet:
    """The image and caption shards of one split; what was read of the manifests and headers travels with a pickle.

    Args:
        images: Folder of the image family, with its manifest.
        captions: Folder of the caption family.
        split: train, validation or test; one that the manifests do not name has no samples.
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

    @cached_property
    def _starts(self) -> list[int]:
        """Number of each shard's first sample, and of all samples at the end."""
        return [0, *accumulate(entry["samples"] for entry in self.manifest["shards"])]

    @cached_property
    def _indices(self) -> list[tuple[_Index, _Index]]:
        """Of both families' tars; a missing, surplus or strange sample is an error."""
        return [self._checked(entry) for entry in self.manifest["shards"]]

    def _checked(self, entry: dict[str, Any]) -> tuple[_Index, _Index]:
        found = _index(self.images / entry["file"]), _index(self.captions / entry["file"])
        for family, index in zip((self.images, self.captions), found, strict=True):
            if len(index.keys) != entry["samples"]:
                file = family / entry["file"]
                raise ShardError(f"{file} holds {len(index.keys)} samples of {entry['samples']}: run `dvc repro`")
        for image, caption in zip(found[0].keys, found[1].keys, strict=True):
            if image != caption:
                raise ShardError(f"{self.split} {entry['file']}: {image} stands beside {caption}: run `dvc repro`")
        return found

    def sample(self, number: int, *, with_image: bool = True) -> Sample:
        """The sample at a place of the stored order, its files undecoded.

        Args:
            number: From 0.
            with_image: False reads the captions alone and leaves `files` empty.
        """
        shard = bisect_right(self._starts, number) - 1
        place, file = number - self._starts[shard], self.manifest["shards"][shard]["file"]
        images, captions = self._indices[shard]
        files = _read(self.images / file, images, place) if with_image else {}
        texts = json.loads(_read(self.captions / file, captions, place)["captions.json"])
        return Sample(images.keys[place], files, texts, has_target=TARGET in images.names[place])

    def samples(self, *, with_image: bool = True) -> Iterator[Sample]:
        """All samples in stored order."""
        return (self.sample(number, with_image=with_image) for number in range(len(self)))

    def order(self, seed: int, epoch: int, buffer: int) -> Iterator[int]:
        """The numbers of all samples in an order that depends on `seed` and `epoch` alone.

        Shards are permuted, and samples drawn at random from the next `buffer`, so that reads lie near.
        """
        random = np.random.default_rng([seed, epoch])
        waiting: list[int] = []
        for shard in random.permutation(len(self._starts) - 1):
            for number in range(self._starts[shard], self._starts[shard + 1]):
                waiting.append(number)
                if len(waiting) > buffer:
                    yield _draw(waiting, random)
        while waiting:
            yield _draw(waiting, random)


def _draw(waiting: list[int], random: np.random.Generator) -> int:
    index = int(random.integers(len(waiting)))
    waiting[index], waiting[-1] = waiting[-1], waiting[index]
    return waiting.pop()


def _manifest(folder: Path, split: str) -> dict[str, Any]:
    file = folder / "manifest.json"
    if not file.is_file():
        raise ShardError(f"{file} not found: the shards were not completed, run `dvc repro`")
    empty = {"samples": 0, "keys_sha256": keys_sha256([]), "shards": []}
    return json.loads(file.read_text(encoding="utf-8"))["splits"].get(split, empty)


def _index(file: Path) -> _Index:
    if not file.is_file():
        raise ShardError(f"{file} not found: run `dvc repro`")
    try:
        with tarfile.open(file, "r:") as tar:
            members = [member for member in tar if member.isreg()]
    except tarfile.ReadError as error:
        raise ShardError(f"{file} is damaged ({error.args[0]}): delete it and run `dvc repro`") from None
    keys: list[str] = []
    names: list[tuple[str, ...]] = []
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for key, parts in groupby((base_plus_ext(member.name) for member in members), key=lambda part: part[0]):
        extensions = tuple(extension for _, extension in parts)
        keys.append(key)
        names.append(known.setdefault(extensions, extensions))
    first = np.array([0, *accumulate(map(len, names))][:-1], dtype=np.int64)
    spans = np.array([(member.offset_data, member.size) for member in members], dtype=np.int64).reshape(-1, 2)
    return _Index(keys, names, first, spans)


def _read(file: Path, index: _Index, place: int) -> dict[str, bytes]:
    """A sample's files by extension; they lie side by side, so that one read has them all."""
    names, first = index.names[place], int(index.first[place])
    spans = index.spans[first : first + len(names)].tolist()
    start, end = spans[0][0], sum(spans[-1])
    with file.open("rb") as stream:
        stream.seek(start)
        data = stream.read(end - start)
    if len(data) != end - start:
        raise ShardError(f"{file} changed while it was read: run `dvc repro`")
    return {
        name: data[offset - start : offset - start + size] for name, (offset, size) in zip(names, spans, strict=True)
    }


def keys_sha256(keys: Iterable[str]) -> str:
    """The digest by which the two families recognise each other: SHA-256 over the keys, a newline after each."""
    digest = hashlib.sha256()
    for key in keys:
        digest.update(f"{key}\n".encode())
    return digest.hexdigest()
