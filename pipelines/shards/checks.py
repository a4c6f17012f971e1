"""Checks of finished shards that every stage makes before it reads them; a fault is one line for the user.

Every file of a family is hashed and compared with what was written. What digests cannot see: a manifest of another
run's table, and captions that belong to other images.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet

from models.data.format import EXTENSIONS, MANIFEST, Manifest, ShardError, TableDigest, read_manifest
from models.data.tars import open_shard
from models.verified import open_verified, verified_sha256, verify_folder
from pipelines.errors import UserError
from pipelines.records import KEYED
from pipelines.tables import BATCH_ROWS, READING


@contextmanager
def shard_faults() -> Iterator[None]:
    """Turn a ShardError of the contract into a UserError."""
    try:
        yield
    except ShardError as error:
        raise UserError(str(error)) from None


def table_digest(path: Path) -> TableDigest:
    """Digest and number of rows of a Parquet file, for the manifest.

    Of a table with hashes of patients and studies the digest is that of all other columns: shards hold none, and
    another key for these hashes must change no shard.
    """
    with open_verified(path) as stream, pyarrow.parquet.ParquetFile(stream, **READING) as file:
        names = file.schema_arrow.names
        if not KEYED.intersection(names):
            return TableDigest(sha256=verified_sha256(path), rows=file.metadata.num_rows)
        digest = hashlib.sha256()
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[name for name in names if name not in KEYED]):
            for row in batch.to_pylist():
                digest.update(f"{json.dumps(row)}\n".encode())
        return TableDigest(sha256=digest.hexdigest(), rows=file.metadata.num_rows)


def check_family(folder: Path, tables: Mapping[str, Path] | None = None) -> Manifest:
    """Hash a family's files, compare its tars with its manifest, and the manifest with the tables it was made from.

    Args:
        folder: The family's folder.
        tables: Tables by the name that the manifest gives them; each must be the very file the shards were made from.

    Returns:
        The manifest.

    Raises:
        DamagedError: A file has other bytes than were written.
        UserError: Something differs; the message names the tar or table and says what to do.
    """
    with shard_faults():
        manifest = read_manifest(folder)
        for split in manifest.splits.values():
            for shard in split.shards:
                open_shard(folder, manifest.family, shard)
            if sum(shard.samples for shard in split.shards) != split.samples:
                raise UserError(f"{folder}/{MANIFEST}: the shards of a split do not add up: {_again(folder)}")
    for name, path in (tables or {}).items():
        if not path.is_file():
            raise UserError(f"{path} not found: run `dvc repro`")
        if manifest.tables.get(name) != table_digest(path):
            raise UserError(f"{folder} was made from another {path} than the present one: run `dvc repro`")
    _check_rows(folder, manifest)
    verify_folder(folder)
    return manifest


def check_pair(images: Path, captions: Path) -> None:
    """Refuse captions whose keys, or their order, are not those of the images.

    Raises:
        UserError: They differ in a split, which the message names.
    """
    with shard_faults():
        image_splits, caption_splits = read_manifest(images).splits, read_manifest(captions).splits
    for name in sorted(image_splits.keys() | caption_splits.keys()):
        pair = image_splits.get(name), caption_splits.get(name)
        if pair[0] is None or pair[1] is None or pair[0].keys_sha256 != pair[1].keys_sha256:
            raise UserError(f"{captions} does not belong to {images} (split {name}): run `dvc repro`")


def check_families(shards: Path) -> None:
    """Check both families under one folder, and that they belong together."""
    images, captions = (shards / family for family in EXTENSIONS)
    check_family(images)
    check_family(captions)
    check_pair(images, captions)


def _check_rows(folder: Path, manifest: Manifest) -> None:
    items = manifest.samples + (manifest.regions if manifest.family == "captions" else 0)
    rows = manifest.tables[manifest.family].rows
    if items + manifest.left_out != rows:
        raise UserError(
            f"{folder}/{MANIFEST}: {items} items and {manifest.left_out} left out do not make the {rows} rows of "
            f"the table '{manifest.family}': {_again(folder)}"
        )


def _again(folder: Path) -> str:
    return f"delete {folder} and run `dvc repro`"
