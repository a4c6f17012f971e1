"""`manifest.json` of a shard family: what its tars hold, and the checks that every reader makes against it.

The manifest is written last, so a folder that has one is complete. Three faults stay invisible in a tar itself:
a tar that ends early, a tar of an older run, and captions that belong to other images. `check` and `check_pair` find
them and say what to do.
"""

import dataclasses
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet

from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.files import read_json, sha256_file, write_json

# The file that every sample of a family has exactly once; counting it counts the samples.
MARKERS = {"images": "meta.json", "captions": "captions.json"}


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar: its path relative to the family's folder, and what it holds."""

    file: str
    samples: int
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split. `keys_sha256` is the SHA-256 over its keys in stored order, a newline after each."""

    samples: int
    regions: int
    keys_sha256: str
    shards: list[Shard]


@dataclass(frozen=True, kw_only=True)
class TableDigest:
    """A table that the shards were made from."""

    sha256: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One family of shards.

    Attributes:
        family: `images` or `captions`.
        samples_per_shard: Images a tar, at most; fewer where some could not be opened.
        splits: By name, in the order of `pipelines.records.SPLITS`; one without images has no shards.
        tables: By name; for `captions` also the manifest of the images, under the name `shards`.
        left_out: Rows of the table `images` (family `captions`: of `captions`) that are in no shard, because the image
            could not be opened.
        image_size: Side of `image.jpg` in pixels (family `images`).
        crop_size: Side of `crop<k>.jpg` in pixels (family `images`).
    """

    family: str
    samples_per_shard: int
    splits: dict[str, Split]
    tables: dict[str, TableDigest] = field(default_factory=dict)
    left_out: int = 0
    image_size: int | None = None
    crop_size: int | None = None

    @property
    def samples(self) -> int:
        return sum(split.samples for split in self.splits.values())

    @property
    def regions(self) -> int:
        return sum(split.regions for split in self.splits.values())


def table_digest(path: Path) -> TableDigest:
    return TableDigest(sha256=sha256_file(path), rows=pyarrow.parquet.read_metadata(path).num_rows)


def write(folder: Path, manifest: Manifest) -> None:
    values: dict[str, Any] = dataclasses.asdict(manifest)
    write_json(folder / "manifest.json", {key: value for key, value in values.items() if value is not None})


def load(folder: Path) -> Manifest:
    """Read a family's manifest.

    Raises:
        UserError: There is none, or it is not one.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError(f"{path} not found: run `dvc repro` to make the shards")
    try:
        values = read_json(path)
    except ValueError:
        raise UserError(f"{path} is not JSON: {_again(folder)}") from None
    return parse(Manifest, values, str(path))


def check(folder: Path, tables: Mapping[str, Path] | None = None, *, digests: bool = False) -> Manifest:
    """Compare a family's tars with its manifest, and the manifest with the tables it was made from.

    Reads the headers of the tars only, unless `digests` is set.

    Args:
        folder: The family's folder.
        tables: Tables by the name that the manifest gives them; each must be the very file the shards were made from.
        digests: Compare the SHA-256 of every tar too.

    Returns:
        The manifest, as `load` gives it.

    Raises:
        UserError: Something differs; the message names the tar or table and says what to do.
    """
    manifest = load(folder)
    for split in manifest.splits.values():
        for shard in split.shards:
            _check_shard(folder, shard, MARKERS[manifest.family], digests)
        if sum(shard.samples for shard in split.shards) != split.samples:
            raise UserError(f"{folder}/manifest.json: the shards of a split do not add up: {_again(folder)}")
    for name, path in (tables or {}).items():
        if not path.is_file():
            raise UserError(f"{path} not found: run `dvc repro`")
        if manifest.tables[name].sha256 != sha256_file(path):
            raise UserError(f"{folder} was made from another {path} than the present one: run `dvc repro`")
    _check_rows(folder, manifest)
    return manifest


def check_pair(images: Path, captions: Path) -> None:
    """Refuse captions whose keys, or their order, are not those of the images.

    Raises:
        UserError: They differ in a split, which the message names.
    """
    first, second = load(images).splits, load(captions).splits
    for name in sorted(first.keys() | second.keys()):
        if name not in first or name not in second or first[name].keys_sha256 != second[name].keys_sha256:
            raise UserError(f"{captions} does not belong to {images} (split {name}): run `dvc repro`")


def check_families(shards: Path) -> None:
    """`check` both families under one folder, and `check_pair` them: what every stage does before it reads them."""
    images, captions = (shards / family for family in MARKERS)
    check(images)
    check(captions)
    check_pair(images, captions)


def _check_shard(folder: Path, shard: Shard, marker: str, digests: bool) -> None:
    path = folder / shard.file
    if not path.is_file():
        raise UserError(f"{path} is missing: {_again(folder)}")
    if path.stat().st_size != shard.bytes:
        raise UserError(f"{path} has {path.stat().st_size} bytes, its manifest says {shard.bytes}: {_again(folder)}")
    try:
        with tarfile.open(path, "r:") as tar:
            samples = sum(member.name.partition(".")[2] == marker for member in tar)
    except tarfile.TarError as error:
        raise UserError(f"{path} cannot be read ({error}): {_again(folder)}") from None
    if samples != shard.samples:
        raise UserError(f"{path} holds {samples} samples, its manifest says {shard.samples}: {_again(folder)}")
    if digests and sha256_file(path) != shard.sha256:
        raise UserError(f"{path} has other bytes than its manifest says: {_again(folder)}")


def _check_rows(folder: Path, manifest: Manifest) -> None:
    items = manifest.samples + (manifest.regions if manifest.family == "captions" else 0)
    rows = manifest.tables[manifest.family].rows
    if items + manifest.left_out != rows:
        raise UserError(
            f"{folder}/manifest.json: {items} items and {manifest.left_out} left out do not make the {rows} rows of "
            f"the table '{manifest.family}': {_again(folder)}"
        )


def _again(folder: Path) -> str:
    return f"delete {folder} and run `dvc repro`"
