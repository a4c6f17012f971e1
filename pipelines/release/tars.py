"""The shards of a release: those of the study as they are, or without the samples of sources that are left out."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

from models.data import format as shard_format
from models.data.format import CAPTIONS, EXTENSIONS, MANIFEST, META, ImageCaptions, ImageMeta, Manifest, TableDigest
from models.data.tars import UnwrittenSample, open_shard, write_samples
from models.verified import verified_sha256
from pipelines.records import SPLITS
from pipelines.release.contents import Contents
from pipelines.shards.checks import check_families
from pipelines.shards.questions import image_questions

SHARDS = "shards"


def write_tars(contents: Contents, shards: Path, out: Path) -> None:
    """Write both families with their manifests.

    Args:
        contents: What is released.
        shards: The study's `data/shards`.
        out: The release.
    """
    folder = out / SHARDS
    if contents.is_whole:
        for family in EXTENSIONS:
            _copy(shards / family, folder / family)
    else:
        kept = {row.image_id for row in contents.rows}
        regions = {image_id: len(regions) for image_id, regions in contents.regions.items()}
        for manifest in (contents.images_in, contents.captioned_in):
            _write_family(contents, kept, regions, manifest, shards, folder)
    check_families(folder)


def _copy(source: Path, target: Path) -> None:
    """The files of a family byte for byte: no links, for whoever edits a release must not edit the study."""
    for file in sorted(file for file in source.rglob("*") if file.is_file()):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def _write_family(
    contents: Contents, kept: set[str], regions: dict[str, int], manifest: Manifest, shards: Path, folder: Path
) -> None:
    """One family without the samples of sources that are left out; tars keep their names, an empty one has none."""
    family = manifest.family
    (folder / family).mkdir(parents=True)
    samples = _samples(contents, kept, regions, manifest, shards / family)
    splits = write_samples(folder / family, family, samples, SPLITS)
    found = dataclasses.replace(manifest, splits=splits)
    items = found.samples + (found.regions if family == "captions" else 0)
    tables = dict(manifest.tables)
    if family == "captions":
        digest = verified_sha256(folder / "images" / MANIFEST)
        tables["shards"] = TableDigest(sha256=digest, rows=found.samples)
    left_out = tables[family].rows - items
    shard_format.write_manifest(folder / family, dataclasses.replace(found, tables=tables, left_out=left_out))


def _samples(
    contents: Contents, kept: set[str], regions: dict[str, int], manifest: Manifest, folder: Path
) -> Iterator[UnwrittenSample]:
    for name, split in manifest.splits.items():
        for shard in split.shards:
            index = open_shard(folder, manifest.family, shard)
            for row, key in enumerate(index.keys):
                if key in kept:
                    members = index.read(row)
                    if manifest.family == "images":
                        members[META] = _renamed(contents, members[META], shard.file)
                    else:
                        members[CAPTIONS] = _asked(contents, key, members[CAPTIONS], shard.file)
                    count = regions.get(key, 0)
                    yield UnwrittenSample(split=name, file=shard.file, key=key, members=members, regions=count)


def _renamed(contents: Contents, text: bytes, file: str) -> bytes:
    """The description of an image whose group is not called after an image that is left out."""
    meta = shard_format.from_json(ImageMeta, text, file)
    return shard_format.to_json(dataclasses.replace(meta, group=contents.groups[meta.group]))


def _asked(contents: Contents, key: str, text: bytes, file: str) -> bytes:
    """The texts of an image with the questions of released sources alone."""
    if b'"questions"' not in text:
        return text
    captions = shard_format.from_json(ImageCaptions, text, file)
    questions = image_questions(key, contents.questions.get(key, ()))
    return shard_format.to_json(dataclasses.replace(captions, questions=questions))
