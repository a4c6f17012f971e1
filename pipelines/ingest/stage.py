"""Reads one source through its adapter, opens every image and mask, and writes its tables.

Reads   the source's root (`ingest.sources.<name>.root`) and the params section `ingest`
Writes  data/ingest/<name>/{images,annotations,questions,rejected}.parquet, data/summaries/ingest-<name>.json
Alone   python -m pipelines.ingest <name>

An input is a row that the adapter yields, after the choice that `limit` makes. Rows that show the same pixels become
one image and count as duplicates (`pipelines.ingest.merge`). A row with an unusable mask or box is rejected as a whole.
"""

import hashlib
from collections import Counter, defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipelines.archives import locate, read_bytes
from pipelines.config import load
from pipelines.errors import Rejected, UserError, disk_fault, item_boundary
from pipelines.files import atomic_folder
from pipelines.images import (
    HeaderIds,
    decode,
    header_ids,
    image_identity,
    is_blank,
    perceptual_hash,
    pixel_sha256,
    thumbnail,
)
from pipelines.ingest.annotations import read_annotations
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.details import without_values
from pipelines.ingest.door import checked, writable
from pipelines.ingest.merge import ImageFile, ImageMerger, most_protected
from pipelines.ingest.patients import PatientHasher
from pipelines.ingest.record import SourceRecord, UnusableRow
from pipelines.records import ANNOTATIONS, IMAGES, QUESTIONS, REJECTED, RejectedRow, Sides
from pipelines.registry import plugin
from pipelines.stage import SUMMARIES, Summary, progress

ImageName = tuple[str, int | None]  # an image as rows name it: file and frame
RowsOfImage = dict[ImageName, list[SourceRecord]]


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
        The summary; beside the counts: images `available` and `selected` by published split, and the counts of
        `pipelines.ingest.merge.ImageMerger`.

    Raises:
        UserError: The source is unknown, its root or listing is missing, or no image is left.
    """
    if name not in config.sources:
        raise UserError(f"ingest.sources has no '{name}': choose from {', '.join(config.sources)}")
    settings = config.sources[name]
    root = Path(settings.root)
    summary = Summary(f"ingest-{name}")
    listed, unusable, sides = _listed(name, settings)
    selected = select(listed, settings.limit)
    inputs = len(unusable) + sum(len(listed[image]) for image in selected)
    for row in unusable:
        summary.rejected(row.reason)
    merger = ImageMerger(name, PatientHasher(name, settings.patient_ids, Path(config.keys)))
    for image in progress(selected, f"ingest {name}"):
        read: tuple[ImageFile, HeaderIds] | None = None
        for record in listed[image]:
            try:
                with item_boundary():
                    file, header = read = read or _read_image(root, *image, config.max_pixels)
                    annotations = read_annotations(root, record, file.width, file.height, config.max_pixels)
                is_new = merger.add(file, record, annotations, header)
            except Rejected as error:
                row = UnusableRow(row=record.row, path=record.name, reason=error.reason, detail=error.detail)
                unusable.append(writable(row))
                summary.rejected(error.reason)
            except OSError as error:
                summary.failed(disk_fault(error))
            else:
                if is_new:
                    summary.ok()
                else:
                    summary.duplicate("same_pixels" if record is listed[image][0] else "same_file")

    summary.limit_failures(config.max_failed_fraction)
    unusable = [replace(row, detail=without_values(row.detail, row.path)) for row in unusable]
    if not merger.images:
        first = f"; the first rejected: {_in_words(unusable[0])}" if unusable else ""
        raise UserError(f"ingest.sources.{name}: no image left of {inputs} rows in {root}{first}")
    annotations_of_source = merger.annotations
    with atomic_folder(output) as folder:
        IMAGES.write(folder / "images.parquet", [replace(row, sides=sides) for row in merger.images])
        ANNOTATIONS.write(folder / "annotations.parquet", annotations_of_source)
        QUESTIONS.write(folder / "questions.parquet", merger.questions)
        REJECTED.write(folder / "rejected.parquet", [RejectedRow(source=name, **asdict(row)) for row in unusable])
    summary.extra = {
        "available": _by_split(listed, list(listed)),
        "selected": _by_split(listed, selected),
        "annotations": len(annotations_of_source),
        "questions": len(merger.questions),
        "questions_repeated": merger.questions_repeated,
        "labels_differ": merger.labels_differ,
        "clipped_boxes": merger.clipped_boxes,
        "patients_joined": merger.patients_joined,
        "near_uniform": merger.near_uniform,
        "several_reports": merger.several_reports,
        "dropped": dict(sorted((+merger.dropped).items())),
    }
    return summary.write(inputs, summaries)


def _in_words(row: UnusableRow) -> str:
    """A rejected row for the screen; a file that no row lists is not named there."""
    return ", ".join(("a file" if row.row == row.path else row.row, row.reason, row.detail))


def select(listed: RowsOfImage, limit: int | dict[str, int] | None) -> list[ImageName]:
    """The images that `limit` leaves, in the order of the listing: those with the smallest hashes of their names."""
    limits: dict[Any, int] = {None: limit} if isinstance(limit, int) else limit or {}
    taken: Counter[str | None] = Counter()
    chosen = set()
    for image in sorted(listed, key=lambda image: hashlib.sha256(f"{image[0]}\0{image[1]}".encode()).digest()):
        split = None if isinstance(limit, int) else _split(listed[image])
        if split not in limits or taken[split] < limits[split]:
            taken[split] += 1
            chosen.add(image)
    return [image for image in listed if image in chosen]


def _listed(name: str, settings: SourceConfig) -> tuple[RowsOfImage, list[UnusableRow], Sides | None]:
    """All rows of a source by image, those that the adapter cannot use, and whose left and right its texts mean."""
    root = Path(settings.root)
    if not root.exists():
        raise UserError(f"ingest.sources.{name}.root: {root} not found: put the data there or name another place")
    listed: RowsOfImage = defaultdict(list)
    unusable = []
    try:
        adapter = plugin("sources", settings.adapter)(root, settings.options)
        for yielded in adapter.records():
            item = yielded if isinstance(yielded, UnusableRow) else checked(yielded)
            if isinstance(item, UnusableRow):
                unusable.append(writable(item))
            else:
                listed[item.name, item.frame].append(item)
    except (UserError, Rejected) as error:
        raise UserError(f"ingest.sources.{name}: {error}") from None
    return listed, unusable, settings.sides or getattr(adapter, "sides", None)


def _read_image(root: Path, name: str, frame: int | None, max_pixels: int) -> tuple[ImageFile, HeaderIds]:
    path, member = locate(root, name)
    data = read_bytes(root, path, member)
    image = decode(data, frame, max_pixels)
    if is_blank(image):
        raise Rejected("blank_image", "all pixels have one value, or next to it")
    file = ImageFile(
        image_id=image_identity(data, member, frame),
        path=path,
        member=member,
        frame=frame,
        sha256=hashlib.sha256(data).hexdigest(),
        pixel_sha256=pixel_sha256(image),
        perceptual_hash=perceptual_hash(image),
        thumbnail=thumbnail(image),
        width=image.width,
        height=image.height,
    )
    return file, header_ids(data)


def _split(records: list[SourceRecord]) -> str | None:
    return most_protected(record.split for record in records)


def _by_split(listed: RowsOfImage, images: list[ImageName]) -> dict[str, int]:
    return dict(sorted(Counter(_split(listed[image]) or "none" for image in images).items()))
