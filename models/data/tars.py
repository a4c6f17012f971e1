"""Tars of samples with reproducible bytes, and reading any sample of them.

The standard library writes them: a fresh `TarInfo` has time 0 and no owner, so that equal samples give equal bytes, and
the stage `shards` need not import torch, as webdataset does.
"""

import io
import itertools
import os
import shutil
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.data.format import EXTENSIONS, ManifestSplit, ShardError, ShardFile, keys_sha256
from models.verified import sha256_file


@dataclass(frozen=True, slots=True, kw_only=True)
class UnwrittenSample:
    """One sample on its way into a tar.

    Attributes:
        split: Its split.
        file: The tar, relative to the family's folder.
        key: The image_id. It has no dot, for WebDataset ends a key at the first one.
        members: Bytes by extension: all extensions of the family, and no other.
        regions: How many regions it describes.
    """

    split: str
    file: str
    key: str
    members: Mapping[str, bytes]
    regions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTar:
    """A whole tar that was written before.

    Attributes:
        split: Its split.
        file: Where it is to lie, relative to the family's folder.
        keys: Of its samples, in stored order.
        regions: How many regions they describe.
        path: Where it lies now.
        sha256: Of its bytes, which whoever gives it has compared.
    """

    split: str
    file: str
    keys: Sequence[str]
    regions: int
    path: Path
    sha256: str


def write_samples(
    folder: Path, family: str, samples: Iterable[UnwrittenSample | KeptTar], splits: Sequence[str]
) -> dict[str, ManifestSplit]:
    """Write samples, in the order given, to the tars that they name. One sample is in memory at a time.

    Args:
        folder: The family's folder.
        family: `images` or `captions`.
        samples: Grouped by tar, tars grouped by split; a tar that was written before stands in the place of its own.
        splits: Names of all splits.

    Returns:
        Every split, in the order of `splits`, for the manifest.
    """
    written = {}
    for split, of_split in itertools.groupby(samples, key=lambda sample: sample.split):
        keys: list[str] = []
        shards, regions = [], 0
        for file, of_shard in itertools.groupby(of_split, key=lambda sample: sample.file):
            path, first = folder / file, next(of_shard)
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(first, KeptTar):
                of_tar, described, digest = _take_over(first, path)
            else:
                samples_of_tar = itertools.chain([first], of_shard)  # noqa: B031 - the first was taken from it
                of_tar, described, digest = _write(path, family, samples_of_tar)
            keys += of_tar
            regions += described
            shards.append(ShardFile(file=file, samples=len(of_tar), sha256=digest, bytes=path.stat().st_size))
        if split in written:
            raise AssertionError(f"the samples of the split {split} do not stand together")
        written[split] = ManifestSplit(samples=len(keys), regions=regions, keys_sha256=keys_sha256(keys), shards=shards)
    empty = ManifestSplit(samples=0, regions=0, keys_sha256=keys_sha256([]), shards=[])
    return {split: written.get(split, empty) for split in splits}


def _take_over(kept: KeptTar, path: Path) -> tuple[Sequence[str], int, str]:
    """The same file under another name, or a copy where there are no hard links; its keys, regions and digest."""
    try:
        os.link(kept.path, path)
    except OSError:
        shutil.copyfile(kept.path, path)
    return kept.keys, kept.regions, kept.sha256


def _write(path: Path, family: str, samples: Iterable[UnwrittenSample | KeptTar]) -> tuple[Sequence[str], int, str]:
    """Write a tar; its keys, regions and digest."""
    keys, regions = [], 0
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            assert isinstance(sample, UnwrittenSample), f"{path} is kept and written"
            _add(tar, family, sample)
            keys.append(sample.key)
            regions += sample.regions
    return keys, regions, sha256_file(path)


def _add(tar: tarfile.TarFile, family: str, sample: UnwrittenSample) -> None:
    if sample.members.keys() != set(EXTENSIONS[family]):
        raise AssertionError(f"sample {sample.key} of {family} has the members {sorted(sample.members)}")
    for extension in EXTENSIONS[family]:
        member = tarfile.TarInfo(f"{sample.key}.{extension}")
        member.size = len(sample.members[extension])
        tar.addfile(member, io.BytesIO(sample.members[extension]))


@dataclass(frozen=True, slots=True)
class TarIndex:
    """Where the members of one tar's samples lie; plain arrays, for a process of the loader holds those of all tars.

    Attributes:
        path: The tar.
        extensions: Of every sample, in stored order.
        keys: Of the samples, in stored order.
        spans: (samples, extensions, 2) int64, offset and size in bytes.
    """

    path: Path
    extensions: tuple[str, ...]
    keys: list[str]
    spans: np.ndarray

    def read(self, row: int, extensions: Sequence[str] | None = None) -> dict[str, bytes]:
        """Members of one sample by extension, as one read.

        Args:
            row: The sample, from 0.
            extensions: Those to read, None for all; what lies between the first and the last is read too.

        Raises:
            ShardError: The tar changed after its headers were read.
        """
        wanted = self.extensions if extensions is None else extensions
        spans = [self.spans[row, self.extensions.index(extension)].tolist() for extension in wanted]
        start, end = min(offset for offset, _ in spans), max(offset + size for offset, size in spans)
        with self.path.open("rb") as stream:
            stream.seek(start)
            data = stream.read(end - start)
        if len(data) != end - start:
            raise ShardError(f"{self.path} changed while it was read: run `dvc repro`")
        return {
            extension: data[offset - start : offset - start + size]
            for extension, (offset, size) in zip(wanted, spans, strict=True)
        }


def open_shard(folder: Path, family: str, shard: ShardFile) -> TarIndex:
    """The index of one tar, after its headers were compared with the manifest; `verify_folder` has hashed it before.

    Args:
        folder: The family's folder.
        family: `images` or `captions`.
        shard: What the manifest says of the tar.

    Raises:
        ShardError: The tar is missing or damaged, or holds other samples or members than it should.
    """
    path, again = folder / shard.file, f"delete {folder} and run `dvc repro`"
    if not path.is_file():
        raise ShardError(f"{path} is missing: {again}")
    if path.stat().st_size != shard.bytes:
        raise ShardError(f"{path} has {path.stat().st_size} bytes, its manifest says {shard.bytes}: {again}")
    try:
        with tarfile.open(path, "r:") as tar:
            members = [member for member in tar if member.isreg()]
    except tarfile.TarError as error:
        raise ShardError(f"{path} is damaged ({error}): {again}") from None
    extensions = EXTENSIONS[family]
    keys = [member.name.partition(".")[0] for member in members[:: len(extensions)]]
    expected = [f"{key}.{extension}" for key in keys for extension in extensions]
    for name, member in itertools.zip_longest(expected, members):
        if member is None or member.name != name:
            found = "its end" if member is None else member.name
            raise ShardError(f"{path} holds {found} where {name} should stand: {again}")
    if len(keys) != shard.samples:
        raise ShardError(f"{path} holds {len(keys)} samples, its manifest says {shard.samples}: {again}")
    spans = np.array([(member.offset_data, member.size) for member in members], dtype=np.int64)
    return TarIndex(path, extensions, keys, spans.reshape(-1, len(extensions), 2))
