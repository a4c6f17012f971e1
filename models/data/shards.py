"""Samples from the two shard families, joined by key, in stored order or shuffled the same way on every machine.

`models/data/format.py` has the format. The tars' headers are read once; from then on a sample is one read in each
family, wherever it lies, so that a worker reads no sample but its own. The order is a function of the seed and the
epoch alone, so that any number of workers sees the same global batches. `models/data/stream.py` reads the same samples
from whole tars, one after the other.
"""

import io
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from models.data.format import (
    CAPTIONS,
    CROPS,
    IMAGE,
    MASKS,
    META,
    TARGET,
    ImageCaptions,
    ImageMeta,
    ManifestSplit,
    ShardError,
    ShardFile,
    from_json,
    keys_sha256,
    read_manifest,
    unpack,
)
from models.data.tars import TarIndex, open_shard


@dataclass(frozen=True)
class Sample:
    """One image with its regions and texts. Pixels are decoded at each access.

    Attributes:
        key: The image_id.
        meta: Description of the image and its regions.
        captions: Texts of the image and its regions.
        members: The image family's members by extension, undecoded; empty where they were not read.
    """

    key: str
    meta: ImageMeta
    captions: ImageCaptions
    members: Mapping[str, bytes]

    @property
    def image(self) -> np.ndarray:
        """(image_size, image_size, 3) uint8."""
        return _rgb(self.members[IMAGE])

    def crop(self, index: int) -> np.ndarray:
        """The crop of `meta.regions[index]`: (crop_size, crop_size, 3) uint8."""
        return _rgb(unpack(self.members[CROPS], self.meta.regions[index].crop))

    def mask(self, index: int) -> np.ndarray | None:
        """The mask of `meta.regions[index]`: (image_size, image_size) bool; None where the region has only a box."""
        span = self.meta.regions[index].mask
        return None if span is None else _mask(unpack(self.members[MASKS], span))

    def look_alikes(self) -> list[np.ndarray]:
        """The masks of `meta.look_alikes`: (image_size, image_size) bool each."""
        return [_mask(unpack(self.members[MASKS], span)) for span in self.meta.look_alikes]

    @property
    def target(self) -> np.ndarray:
        """All outlined findings: (image_size, image_size) bool; says nothing unless `meta.has_target`."""
        return _mask(self.members[TARGET])


def joined(
    key: str, members: Mapping[str, bytes], texts: Mapping[str, bytes], tars: tuple[object, object], *, with_image: bool
) -> Sample:
    """The sample of one key from its members in both families.

    Args:
        key: The image_id.
        members: Of the images; its description at least.
        texts: Of the captions.
        tars: Where both came from, images first, for error messages.
        with_image: Keep `members`.

    Raises:
        ShardError: A description is none.
    """
    images, captions = tars
    return Sample(
        key=key,
        meta=from_json(ImageMeta, members[META], f"{images}: {key}.{META}"),
        captions=from_json(ImageCaptions, texts[CAPTIONS], f"{captions}: {key}.{CAPTIONS}"),
        members=members if with_image else {},
    )


def _rgb(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _mask(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("L")) > 127


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
    def manifest(self) -> ManifestSplit:
        """What the image family's manifest says of the split.

        Raises:
            ShardError: A manifest is missing or damaged, or the captions are those of other images.
        """
        images, captions = (_manifest_split(folder, self.split) for folder in (self.images, self.captions))
        if images.keys_sha256 != captions.keys_sha256:
            raise ShardError(
                f"{self.captions} describes other images than {self.images} holds ({self.split}): run `dvc repro`"
            )
        return images

    def __len__(self) -> int:
        return self.manifest.samples

    @cached_property
    def starts(self) -> list[int]:
        """Number of each shard's first sample, and of all samples at the end."""
        return [0, *accumulate(shard.samples for shard in self.manifest.shards)]

    @cached_property
    def pairs(self) -> list[tuple[ShardFile, ShardFile]]:
        """What both families' manifests say of each shard: its tar of images, and that of captions.

        Raises:
            ShardError: They have other tars, or other counts.
        """
        captions = _manifest_split(self.captions, self.split).shards
        stored = [[(shard.file, shard.samples) for shard in shards] for shards in (self.manifest.shards, captions)]
        if stored[0] != stored[1]:
            raise ShardError(f"{self.captions} has other tars than {self.images} ({self.split}): run `dvc repro`")
        return list(zip(self.manifest.shards, captions, strict=True))

    def without_headers(self) -> Self:
        """The same split with what the manifests say and nothing of the tars, to travel to another machine."""
        light = replace(self)
        # Read now: the folders may not be there.
        _ = light.pairs
        return light

    @cached_property
    def _indices(self) -> list[tuple[TarIndex, TarIndex]]:
        """Of both families' tars; a missing, surplus or strange sample is an error."""
        return [self._pair(*pair) for pair in self.pairs]

    def _pair(self, image_shard: ShardFile, caption_shard: ShardFile) -> tuple[TarIndex, TarIndex]:
        images = open_shard(self.images, "images", image_shard)
        captions = open_shard(self.captions, "captions", caption_shard)
        if images.keys != captions.keys:
            raise ShardError(f"{captions.path} has other samples than {images.path}: run `dvc repro`")
        return images, captions

    def sample(self, number: int, *, with_image: bool = True) -> Sample:
        """One sample, its pixels undecoded.

        Args:
            number: Its index in stored order, from 0.
            with_image: False reads the description and the texts alone and leaves `members` empty.
        """
        shard = bisect_right(self.starts, number) - 1
        row = number - self.starts[shard]
        images, captions = self._indices[shard]
        members = images.read(row, None if with_image else (META,))
        texts = captions.read(row)
        return joined(images.keys[row], members, texts, (images.path, captions.path), with_image=with_image)

    def samples(self, *, with_image: bool = True) -> Iterator[Sample]:
        """All samples in stored order."""
        return (self.sample(number, with_image=with_image) for number in range(len(self)))

    def order(self, seed: int, epoch: int, buffer: int) -> Iterator[int]:
        """The numbers of all samples in an order that depends on `seed` and `epoch` alone.

        Shards are permuted, and samples drawn at random from the next `buffer`, so that reads lie near.
        """
        random = np.random.default_rng([seed, epoch])
        permuted = random.permutation(len(self.starts) - 1)
        stored = (range(self.starts[shard], self.starts[shard + 1]) for shard in permuted)
        return shuffled(chain.from_iterable(stored), buffer, random)


def shuffled(numbers: Iterable[int], buffer: int, random: np.random.Generator) -> Iterator[int]:
    """Numbers in another order: each is drawn from the `buffer + 1` that came and were not drawn yet."""
    waiting: list[int] = []
    for number in numbers:
        waiting.append(number)
        if len(waiting) > buffer:
            yield _draw(waiting, random)
    while waiting:
        yield _draw(waiting, random)


def _draw(waiting: list[int], random: np.random.Generator) -> int:
    index = int(random.integers(len(waiting)))
    waiting[index], waiting[-1] = waiting[-1], waiting[index]
    return waiting.pop()


def _manifest_split(folder: Path, split: str) -> ManifestSplit:
    empty = ManifestSplit(samples=0, regions=0, keys_sha256=keys_sha256([]), shards=[])
    return read_manifest(folder).splits.get(split, empty)
