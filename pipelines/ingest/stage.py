"""Reads one source through its adapter, opens every image and mask, and writes its tables.

Reads   the source's root (`ingest.sources.<name>.root`) and the params section `ingest`
Writes  data/ingest/<name>/{images,annotations,questions,rejected}.parquet, data/summaries/ingest-<name>.json; where the
        source's text in pixels is looked for, what was found to the result cache
Alone   python -m pipelines.ingest <name>

An input is a row that the adapter yields, after the choice that `limit` makes. Rows that show the same pixels become
one image and count as duplicates (`pipelines.ingest.merge`). A row with an unusable mask or box is rejected as a whole.
Workers read the images (`pipelines.ingest.reading`), and this process merges them in the order of the listing.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.cache import RESULT_CACHE
from pipelines.config import load
from pipelines.errors import Rejected, UserError
from pipelines.files import atomic_folder
from pipelines.ingest import warning_texts
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.details import without_values
from pipelines.ingest.door import writable
from pipelines.ingest.listed import ImageName, Listed, list_source, open_source
from pipelines.ingest.merge import ImageMerger
from pipelines.ingest.no_image import no_image_left
from pipelines.ingest.patients import PatientHasher
from pipelines.ingest.reading import ImageReader, ImageReading, ListedImage, RowFault
from pipelines.ingest.record import Source, UnusableRow
from pipelines.ingest.selection import by_split, file_by_file, select
from pipelines.ingest.tables import Watch
from pipelines.ray_session import cluster_address
from pipelines.records import (
    ANNOTATIONS,
    IMAGES,
    QUESTIONS,
    REJECTED,
    AnnotationRow,
    BurnedInPolicy,
    ImageRow,
    RejectedRow,
)
from pipelines.stage import SUMMARIES, Summary, progress
from pipelines.workers.config import THIS_PROCESS, WorkersConfig, load_workers
from pipelines.workers.crew import Lost
from pipelines.workers.engine import in_batches, in_workers

logger = logging.getLogger(__name__)

BATCH = 32  # images
# Images that are worth a worker (`pipelines.workers.engine`): of 96 pixels, and of any size where text is looked for.
WORTH, WORTH_WITH_TEXT = 1000, 4


def main(source: str) -> None:
    run(source, load(IngestConfig, "ingest"), Path("data/ingest") / source, workers=load_workers())


@dataclass(kw_only=True)
class ReadSource:
    """A source with its images read.

    Attributes:
        listed: What it lists.
        selected: The images that were read.
        source: The adapter.
        merger: These, merged.
        images: Rows of the table of images.
        unusable: All rejected rows, in words that may be passed on.
        summary: The outcome of each row.
        warnings: Sentences for the log, the summary and the report.
        further_pages: Pages and frames beside the images, which no row names.
        turned: Images that were turned by their EXIF orientation.
    """

    listed: Listed
    selected: list[ImageName]
    source: Source
    merger: ImageMerger
    images: list[ImageRow]
    unusable: list[UnusableRow]
    summary: Summary
    warnings: list[str]
    further_pages: int = 0
    turned: int = 0

    @property
    def inputs(self) -> int:
        """Rows of the selected images, and rows that the adapter cannot use."""
        return len(self.listed.unusable) + sum(len(self.listed.rows[image]) for image in self.selected)


def run(
    name: str,
    config: IngestConfig,
    output: Path,
    summaries: Path = SUMMARIES,
    cache: Path = RESULT_CACHE,
    workers: WorkersConfig = THIS_PROCESS,
) -> dict[str, Any]:
    """Ingest one source.

    Args:
        name: The source, one of `config.sources`.
        config: Section `ingest`; a relative root counts from the current folder.
        output: Folder for the four tables.
        summaries: Folder for `ingest-<name>.json`.
        cache: The result cache, for sources whose text in pixels is looked for.
        workers: How many processes read images.

    Returns:
        The summary; beside the counts: `lines` of the listings, `files` under the root, `warnings`, parts of rows that
        were `left_out`, images `available` and `selected` by published split, images with `burned_in_text`, and the
        counts of `pipelines.ingest.merge.ImageMerger`.

    Raises:
        UserError: The source is unknown, its root or listing is missing, or no image is left; then `output` holds the
            table of rejected rows alone.
    """
    read = read_source(name, config, cache=cache, workers=workers)
    merger, unusable, summary = read.merger, read.unusable, read.summary
    for sentence in read.warnings:
        logger.warning("%s: %s", name, sentence)
    summary.limit_failures(config.max_failed_fraction)
    if not read.images:
        with atomic_folder(output) as folder:
            _write_rejected(folder, name, unusable)
        rejected = output / "rejected.parquet"
        raise UserError(no_image_left(name, config.sources[name].root, read.inputs, unusable, rejected))
    annotations_of_source = merger.annotations
    with atomic_folder(output) as folder:
        IMAGES.write(folder / "images.parquet", read.images)
        ANNOTATIONS.write(folder / "annotations.parquet", annotations_of_source)
        QUESTIONS.write(folder / "questions.parquet", merger.questions)
        _write_rejected(folder, name, unusable)
    listed = read.listed
    summary.extra = {
        "lines": _summed(listed.lines),
        "files": {
            "listed": listed.files.listed,
            "unlisted": len(listed.files.unlisted),
            "unlisted_suffixes": listed.files.suffixes,
        },
        "warnings": read.warnings,
        "left_out": _left_out(read),
        "turned": read.turned,
        "available": by_split(listed.rows, list(listed.rows)),
        "selected": by_split(listed.rows, read.selected),
        "annotations": len(annotations_of_source),
        "look_alikes": sum(len(row.look_alikes) for row in read.images),
        "with_attributes": sum(bool(row.attributes) for row in read.images),
        "questions": len(merger.questions),
        "questions_repeated": merger.questions_repeated,
        "labels_differ": merger.labels_differ,
        "clipped_boxes": merger.clipped_boxes,
        "patients_joined": merger.patients_joined,
        "patients_from_headers": merger.from_header,
        "header_patients_ignored": merger.header_patients_ignored,
        "no_finding_with_annotations": _contradicting(read.images, annotations_of_source),
        "burned_in_text": dict(sorted(Counter(row.burned_in for row in read.images if row.burned_in).items())),
        "near_uniform": merger.near_uniform,
        "several_reports": merger.several_reports,
        "dropped": dict(sorted((+merger.dropped).items())),
    }
    return summary.write(read.inputs, summaries)


def read_source(
    name: str,
    config: IngestConfig,
    watch: Watch | None = None,
    cache: Path = RESULT_CACHE,
    workers: WorkersConfig = THIS_PROCESS,
) -> ReadSource:
    """List a source and read its images; nothing is written but what is cached.

    Args:
        name: The source, one of `config.sources`.
        config: Section `ingest`; a relative root counts from the current folder.
        watch: Called with the listing's name and each of its rows.
        cache: The result cache, for sources whose text in pixels is looked for; not used on a cluster, as SQLite's file
            cannot be shared by several hosts.
        workers: How many processes read images.

    Raises:
        UserError: The source is unknown, its root or listing is missing or broken, its text in pixels is looked for and
            the extra `ocr` is not installed, or workers died of too many rows.
    """
    if name not in config.sources:
        raise UserError(f"ingest.sources has no '{name}': choose from {', '.join(config.sources)}")
    settings = config.sources[name]
    make_reader = partial(ImageReader, settings, config.max_pixels, cache if cluster_address() is None else None)
    make_reader()  # refuses what is not installed before the listing is read
    source = open_source(name, settings)
    if watch is not None and hasattr(source, "listings"):
        source.listings.watch = watch
    listed = list_source(name, settings, source)
    read = ReadSource(
        listed=listed,
        source=source,
        selected=select(listed.rows, settings.limit),
        merger=ImageMerger(name, PatientHasher(name, settings.patient_ids, Path(config.keys))),
        unusable=list(listed.unusable),
        images=[],
        summary=Summary(f"ingest-{name}"),
        warnings=[],
    )
    for row in listed.unusable:
        read.summary.rejected(row.reason)
    images = (
        ListedImage(name=file, cut=cut, records=tuple(listed.rows[file, cut]))
        for file, cut in file_by_file(read.selected)
    )
    readings = in_workers(
        make_reader,
        in_batches(images, BATCH, lambda image: image.name),
        workers,
        items=len(read.selected),
        worth=WORTH_WITH_TEXT if settings.burned_in else WORTH,
    )
    with closing(progress(readings, f"ingest {name}", len(read.selected))) as pairs:
        for image, reading in pairs:
            if isinstance(reading, Lost):
                read.summary.failed(reading.reason, len(image.records))
                # Each costs the start of three workers: not to be counted to the end.
                if read.summary.counts["failed"] > config.max_failed_fraction * read.inputs:
                    read.summary.limit_failures(config.max_failed_fraction)
            else:
                _merge(image, reading, read)
    read.unusable = [replace(row, detail=without_values(row.detail, row.path)) for row in read.unusable]
    read.merger.join_patients()
    sides = settings.sides or getattr(source, "sides", None)
    read.images = [replace(row, sides=sides) for row in read.merger.images]
    read.warnings = [*listed.warnings, *_warnings(read, settings.burned_in)]
    return read


def _merge(image: ListedImage, reading: ImageReading, read: ReadSource) -> None:
    """Take in all rows of one file and frame."""
    read.further_pages += reading.further_pages
    read.turned += reading.is_turned
    for record, found in zip(image.records, reading.rows, strict=True):
        if isinstance(found, RowFault) and found.is_of_disk:
            read.summary.failed(found.reason)
            continue
        try:
            if isinstance(found, RowFault):
                raise Rejected(found.reason, found.detail)
            assert reading.file is not None, "all rows of an image that cannot be used are faults"
            is_new = read.merger.add(reading.file, record, found, reading.header)
        except Rejected as error:
            if reading.file is not None:
                read.merger.note_patient(reading.file, record, reading.header)
            row = UnusableRow(row=record.row, path=record.name, reason=error.reason, detail=error.detail)
            read.unusable.append(writable(row))
            read.summary.rejected(error.reason)
        else:
            if is_new:
                read.summary.ok()
            else:
                read.summary.duplicate("same_pixels" if record is image.records[0] else "same_file")


def _warnings(read: ReadSource, burned_in: BurnedInPolicy | None) -> Iterator[str]:
    """What makes a source less than it looks, although every row may be sound."""
    records = [record for same_image in read.listed.rows.values() for record in same_image]
    if records and all(record.report is None for record in records):
        yield warning_texts.NO_TEXT
    if records and not any([*(record.patient for record in records), *(image.patient for image in read.images)]):
        yield warning_texts.NO_PATIENT
    if not read.images:
        yield warning_texts.NO_IMAGE
    if count := read.merger.header_patients_ignored:
        yield f"{warning_texts.IGNORED_HEADERS}{count}"
    if burned_in is None and (count := sum(image.burned_in is not None for image in read.images)):
        yield f"{warning_texts.STATED_TEXT}{count}"
    labels = {label for record in records for label in record.labels or ()}
    if count := len(labels) - len({label.casefold() for label in labels}):
        yield f"{warning_texts.LABELS_IN_TWO_CASES}{count}; see options.values"
    if count := read.listed.files.unlisted_images:
        yield f"{warning_texts.UNLISTED_IMAGES}{count}"
    if count := read.listed.files.linked_folders:
        yield f"{warning_texts.LINKED_FOLDERS}{count}"


def _contradicting(images: list[ImageRow], annotations: list[AnnotationRow]) -> int:
    """Images that say "no finding" and have annotated regions: anatomy, or a contradiction."""
    annotated = {row.image_id for row in annotations}
    return sum(image.labels == () and image.image_id in annotated for image in images)


def _summed(lines: dict[str, dict[str, int]]) -> dict[str, int]:
    """The counts of all listings together: their names are private, as those of all raw files."""
    total = Counter({"listings": len(lines)})
    for counts in lines.values():
        total.update(counts)
    return dict(sorted(total.items()))


def _left_out(read: ReadSource) -> dict[str, int]:
    """Parts that rows lost, by reason; the rows themselves stay."""
    records = (record for image in read.selected for record in read.listed.rows[image])
    counts = Counter(reason for record in records for reason in record.left_out)
    counts["further_page"] += read.further_pages
    return dict(sorted((+counts).items()))


def _write_rejected(folder: Path, name: str, unusable: list[UnusableRow]) -> None:
    REJECTED.write(folder / "rejected.parquet", [RejectedRow(source=name, **asdict(row)) for row in unusable])
