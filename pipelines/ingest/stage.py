"""Reads one source through its adapter, looks at every picture and mask, and writes its tables.

Reads   the source's root (`ingest.sources.<name>.root`) and the params section `ingest`
Writes  data/ingest/<name>/{images,regions,questions,rejected}.parquet, data/summaries/ingest-<name>.json
Alone   python -m pipelines.ingest <name>

An input is a row that the adapter yields, after the choice that `limit` makes. Rows that show the same pixels become
one image and count as duplicates (`pipelines.ingest.merge`). A row with an unusable mask or box is rejected as a whole.
"""

import hashlib
from collections import Counter, defaultdict
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any

from pipelines.archives import locate, read_bytes
from pipelines.config import load
from pipelines.errors import Rejected, UserError, disk_fault
from pipelines.files import atomic_folder
from pipelines.images import decode, image_identity, perceptual_hash, pixel_sha256, thumbnail
from pipelines.ingest.annotations import read_annotations
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.merge import Pictures, most_protected
from pipelines.ingest.record import RejectedRow, SourceRecord
from pipelines.records import GIVEN_REGIONS, IMAGES, QUESTIONS, REJECTED
from pipelines.registry import plugin
from pipelines.stage import SUMMARIES, Summary, progress

Key = tuple[str, int | None]  # a picture as rows name it: file and frame
Groups = dict[Key, list[SourceRecord]]


def main(source: str) -> None:
    run(source, load(IngestConfig, "ingest"), Path("data/ingest") / source)


def run(name: str, config: IngestConfig, output: Path, summaries: Path = SUMMARIES) -> dict[str, Any]:
    """Ingest one source.

    Args:
        name: The source, one of `config.sources`.
        config: Section `ingest`; a relative root counts from the current folder.
        output: Folder for the four tables.
        summaries: Folder for `ingest-<name>.json`.

    Returns:
        The summary; beside the counts: pictures `available` and `selected` by published split, and the counts of
        `pipelines.ingest.merge.Pictures`.

    Raises:
        UserError: The source is unknown, its root or listing is missing, or no image is left.
    """
    if name not in config.sources:
        raise UserError(f"ingest.sources has no '{name}': choose from {', '.join(config.sources)}")
    settings = config.sources[name]
    root = Path(settings.root)
    summary = Summary(f"ingest-{name}")
    groups, rejected = _listed(name, settings)
    selected = select(groups, settings.limit)
    inputs = len(rejected) + sum(len(groups[key]) for key in selected)
    for row in rejected:
        summary.rejected(row.reason)
    pictures = Pictures(name)
    for key in progress(selected, f"ingest {name}"):
        look: dict[str, Any] = {}
        for record in groups[key]:
            try:
                look = look or _look(root, *key, config.max_pixels)
                said = read_annotations(root, record, look["width"], look["height"], config.max_pixels)
                new = pictures.add(look, record, said)
            except Rejected as error:
                rejected.append(RejectedRow(row=record.row, path=record.name, reason=error.reason, detail=error.detail))
                summary.rejected(error.reason)
            except OSError as error:
                summary.failed(disk_fault(error))
            else:
                if new:
                    summary.ok()
                else:
                    summary.duplicate("same_pixels" if record is groups[key][0] else "same_file")

    summary.limit_failures(config.max_failed_fraction)
    images = pictures.images
    if not images:
        first = (
            f"; the first rejected: {rejected[0].row}, {rejected[0].reason}, {rejected[0].detail}" if rejected else ""
        )
        raise UserError(f"ingest.sources.{name}: no image left of {inputs} rows in {root}{first}")
    _write(output, name, images, pictures, rejected)
    summary.extra = {
        "available": _by_split(groups, list(groups)),
        "selected": _by_split(groups, selected),
        "regions": len(pictures.regions),
        "questions": len(pictures.questions),
        "questions_repeated": pictures.questions_repeated,
        "labels_differ": pictures.labels_differ,
        "boxes_clipped": pictures.boxes_clipped,
        "patients_joined": pictures.patients_joined,
    }
    return summary.write(inputs, summaries)


def select(groups: Groups, limit: int | dict[str, int] | None) -> list[Key]:
    """The pictures that `limit` leaves, in the order of the listing: those with the smallest hashes of their names."""
    limits: dict[Any, int] = {None: limit} if isinstance(limit, int) else limit or {}
    taken: Counter[str | None] = Counter()
    chosen = set()
    for key in sorted(groups, key=lambda key: hashlib.sha256(f"{key[0]}\0{key[1]}".encode()).digest()):
        split = None if isinstance(limit, int) else _split(groups[key])
        if split not in limits or taken[split] < limits[split]:
            taken[split] += 1
            chosen.add(key)
    return [key for key in groups if key in chosen]


def _listed(name: str, settings: SourceConfig) -> tuple[Groups, list[RejectedRow]]:
    """All rows of a source by picture, and those that the adapter cannot use."""
    root = Path(settings.root)
    if not root.exists():
        raise UserError(f"ingest.sources.{name}.root: {root} not found: put the data there or name another place")
    groups: Groups = defaultdict(list)
    rejected = []
    try:
        for item in plugin("sources", settings.adapter)(root, settings.options).records():
            if isinstance(item, RejectedRow):
                rejected.append(item)
            else:
                groups[item.name, item.frame].append(item)
    except (UserError, Rejected) as error:
        raise UserError(f"ingest.sources.{name}: {error}") from None
    return groups, rejected


def _look(root: Path, name: str, frame: int | None, max_pixels: int) -> dict[str, Any]:
    """What a file and its pixels say, as columns of the table of images."""
    path, member = locate(root, name)
    data = read_bytes(root, path, member)
    image = decode(data, frame, max_pixels)
    return {
        "image_id": image_identity(data, member, frame),
        "path": path,
        "member": member,
        "frame": frame,
        "sha256": hashlib.sha256(data).hexdigest(),
        "pixel_sha256": pixel_sha256(image),
        "perceptual_hash": perceptual_hash(image),
        "thumbnail": thumbnail(image),
        "width": image.width,
        "height": image.height,
    }


def _split(records: list[SourceRecord]) -> str | None:
    return most_protected(record.split for record in records)


def _by_split(groups: Groups, keys: list[Key]) -> dict[str, int]:
    return dict(sorted(Counter(_split(groups[key]) or "none" for key in keys).items()))


def _write(
    output: Path, name: str, images: list[dict[str, Any]], pictures: Pictures, rejected: list[RejectedRow]
) -> None:
    with atomic_folder(output) as folder:
        IMAGES.write(IMAGES.frame(sorted(images, key=itemgetter("image_id"))), folder / "images.parquet")
        regions = sorted(pictures.regions, key=itemgetter("image_id", "n"))
        GIVEN_REGIONS.write(GIVEN_REGIONS.frame(regions), folder / "regions.parquet")
        questions = sorted(pictures.questions, key=itemgetter("image_id", "question_id"))
        QUESTIONS.write(QUESTIONS.frame(questions), folder / "questions.parquet")
        rows = [{"source": name, **asdict(row)} for row in rejected]
        REJECTED.write(REJECTED.frame(rows), folder / "rejected.parquet")
