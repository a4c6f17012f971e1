"""Writing samples to tars with reproducible bytes, and reading their JSON back.

A WebDataset shard is a plain tar whose members stand together by key. The standard library writes it: a fresh `TarInfo`
has time 0 and no owner, so equal samples give equal bytes, and this stage need not import torch, as webdataset does.
"""

import hashlib
import io
import itertools
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.files import sha256_file
from pipelines.records import SPLITS
from pipelines.shards.manifest import Shard, Split


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image's files on their way into a tar.

    Attributes:
        split: Its split.
        file: The tar, relative to the family's folder.
        key: The image_id; it has no dot, for WebDataset ends a key at the first one.
        files: Bytes by extension.
        regions: How many regions it describes.
    """

    split: str
    file: str
    key: str
    files: dict[str, bytes]
    regions: int


def write_samples(folder: Path, samples: Iterable[Sample]) -> dict[str, Split]:
    """Write samples, in the order given, to the tars they name. One sample is in memory at a time.

    Args:
        folder: The family's folder.
        samples: Grouped by tar, tars grouped by split.

    Returns:
        Every split of `SPLITS`, for the manifest.
    """
    splits = {}
    for name, of_split in itertools.groupby(samples, key=lambda sample: sample.split):
        keys = hashlib.sha256()
        shards, regions = [], 0
        for file, of_shard in itertools.groupby(of_split, key=lambda sample: sample.file):
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            count = 0
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
                for sample in of_shard:
                    _add(tar, sample)
                    keys.update(f"{sample.key}\n".encode())
                    count += 1
                    regions += sample.regions
            shards.append(Shard(file=file, samples=count, sha256=sha256_file(path), bytes=path.stat().st_size))
        if name in splits:
            raise AssertionError(f"the samples of the split {name} do not stand together")
        samples_of_split = sum(shard.samples for shard in shards)
        splits[name] = Split(samples=samples_of_split, regions=regions, keys_sha256=keys.hexdigest(), shards=shards)
    empty = Split(samples=0, regions=0, keys_sha256=hashlib.sha256().hexdigest(), shards=[])
    return {name: splits.get(name, empty) for name in SPLITS}


def read_members(path: Path, extension: str) -> Iterator[tuple[str, Any]]:
    """Key and parsed JSON of every sample's file with this extension, in stored order; other files are skipped over."""
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            key, _, found = member.name.partition(".")
            stream = tar.extractfile(member) if found == extension else None
            if stream is not None:
                yield key, json.load(stream)


def json_bytes(value: Any) -> bytes:
    """Compact JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _add(tar: tarfile.TarFile, sample: Sample) -> None:
    for extension, data in sorted(sample.files.items()):
        member = tarfile.TarInfo(f"{sample.key}.{extension}")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
