"""Reads one source through its adapter, opens every image and mask, and writes its tables.

Reads   the source's root (`ingest.sources.<name>.root`) and the params section `ingest`
Writes  data/ingest/<name>/{images,annotations,questions,rejected}.parquet, data/summaries/ingest-<name>.json; where the
        source's text in pixels is looked for, what was found to the result cache
Keeps   data/cache/readings.sqlite: what decoding gave, so that images of which nothing changed are not decoded again
Alone   python -m pipelines.ingest <name>

An input is a row that the adapter yields, after the choice that `limit` makes. Rows that show the same pixels become
one image and count as duplicates (`pipelines.ingest.merge`). A row with an unusable mask or box is rejected as a whole.
Workers read the images (`pipelines.ingest.reading`), and this process merges them in the order of the listing.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.cache import RESULT_CACHE
from pipelines.code.closure import closure_digest
from pipelines.config import load
from pipelines.errors import Rejected, UserError
from pipelines.files import atomic_folder, digest_of, scratch_folder
from pipelines.formats.libraries import library_versions
from pipelines.ingest import warning_texts
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.door import as_rejected
from pipelines.ingest.listed import Listed, list_source, open_source
from pipelines.ingest.listed_rows import ListedRows
from pipelines.ingest.merge import ImageMerger
from pipelines.ingest.no_image import no_image_left
from pipelines.ingest.patients import PatientHasher
from pipelines.ingest.reading import ImageReader, ImageReading, ListedImage, RowFault
from pipelines.ingest.reading_cache import READING_CACHE, ReadingFile
from pipelines.ingest.record import Source, UnusableRow
from pipelines.ingest.selection import Images, by_split, file_by_file, select
from pipelines.ingest.tables import Watch
from pipelines.ray_session import cluster_address
from pipelines.records import (
    ANNOTATIONS,
    IMAGES,
    QUESTIONS,
    REJECTED,
    BurnedInPolicy,
    ImageRow,
    RejectedRow,
    Sides,
)
from pipelines.spill import Spill
from pipelines.stage import SUMMARIES, Summary, progress
from pipelines.workers.config import THIS_PROCESS, WorkersConfig, load_workers
from pipelines.workers.crew import Lost
from pipelines.workers.engine import in_batches, in_workers

logger = logging.getLogger(__name__)

BATCH = 32  # images
# Images that are worth a worker (`pipelines.workers.engine`): of 96 pixels, and of any size where text is looked for.
WORTH, WORTH_WITH_TEXT = 1000, 4


def main(source: str) -> None:
    code = digest_of([closure_digest(ImageReader.__module__), library_versions()])
    readings = ReadingFile(path=READING_CACHE, code=code)
    config = load(IngestConfig, "ingest")
    run(source, config, Path("data/ingest") / source, workers=load_workers(), readings=readings)


@dataclass(kw_only=True)
class ReadSource:
    """A source with its images read.

    Attributes:
        listed: What it lists.
        selected: The images that were read, as `listed.rows` counts them.
        inputs: Their rows, and rows that the adapter cannot use.
        source: The adapter.
        merger: These images, merged.
        refused: Rows that were rejected with their images, in words that may be passed on.
        summary: The outcome of each row.
        sides: Whose left and right the texts mean.
        warnings: Sentences for the log, the summary and the report.
        left_out: Parts that rows lost, by reason; the rows themselves stay.
        turned: Images that were turned by their EXIF orientation.
        from_cache: Images of which nothing was decoded, as nothing changed since an earlier run.
        cache_damage: Values and files of the cache of readings that were damaged.
    """

    listed: Listed
    selected: Images
    inputs: int
    source: Source
    merger: ImageMerger
    refused: Spill[UnusableRow]
    summary: Summary
    sides: Sides | None
    warnings: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    turned: int = 0
    from_cache: int = 0
    cache_damage: Counter[str] = field(default_factory=Counter)

    @property
    def unusable(self) -> Iterator[UnusableRow]:
        """All rejected rows."""
        return chain(self.listed.unusable, self.refused)

    def images(self) -> Iterator[ImageRow]:
        """Rows of the table of images, by image_id."""
        return self.merger.images(self.sides)


def run(
    name: str,
    config: IngestConfig,
    output: Path,
    summaries: Path = SUMMARIES,
    cache: Path = RESULT_CACHE,
    workers: WorkersConfig = THIS_PROCESS,
    readings: ReadingFile | None = None,
) -> dict[str, Any]:
    """Ingest one source.

    Args:
        name: The source, one of `config.sources`.
        config: Section `ingest`; a relative root counts from the current folder.
        output: Folder for the four tables.
        summaries: Folder for `ingest-<name>.json`.
        cache: The result cache, for sources whose text in pixels is looked for.
        workers: How many processes read images.
        readings: Where what decoding gave is kept, for the next run; None: nowhere.

    Returns:
        The summary; beside the counts: `lines` of the listings, `files` under the root, `warnings`, parts of rows that
        were `left_out`, images `from_cache` and damage of the cache, images `available` and `selected` by published
        split, images with `burned_in_text`, and the counts of `pipelines.ingest.merge.ImageMerger`.

    Raises:
        UserError: The source is unknown, its root or listing is missing, or no image is left; then `output` holds the
            table of rejected rows alone.
    """
    read = read_source(name, config, scratch_folder(output), cache=cache, workers=workers, readings=readings)
    merger, summary = read.merger, read.summary
    for sentence in read.warnings:
        logger.warning("%s: %s", name, sentence)
    summary.limit_failures(config.max_failed_fraction)
    with atomic_folder(output) as folder:
        if len(merger):
            IMAGES.write(folder / "images.parquet", read.images())
            ANNOTATIONS.write(folder / "annotations.parquet", merger.annotations())
            QUESTIONS.write(folder / "questions.parquet", merger.question_rows())
        rejected = (RejectedRow(source=name, **asdict(row)) for row in read.unusable)
        REJECTED.write(folder / "rejected.parquet", rejected)
    if not len(merger):
        table = output / "rejected.parquet"
        raise UserError(no_image_left(name, config.sources[name].root, read.inputs, read.unusable, table))
    listed, counts = read.listed, merger.counts
    summary.extra = {
        "lines": _summed(listed.lines),
        "files": {
            "listed": listed.files.listed,
            "unlisted": listed.files.unlisted,
            "unlisted_suffixes": listed.files.suffixes,
        },
        "warnings": read.warnings,
        "left_out": dict(sorted((+read.left_out).items())),
        "turned": read.turned,
        "from_cache": read.from_cache,
        **{name: read.cache_damage[name] for name in ("corrupt_in_cache", "caches_set_aside")},
        "available": by_split(listed.rows, np.arange(len(listed.rows))),
        "selected": by_split(listed.rows, read.selected),
        "annotations": counts["annotations"],
        "look_alikes": counts["look_alikes"],
        "with_attributes": counts["with_attributes"],
        "questions": len(merger.questions),
        "questions_repeated": merger.questions.repeated,
        "labels_differ": merger.labels_differ,
        "clipped_boxes": merger.clipped_boxes,
        "patients_joined": merger.patients_joined,
        "patients_from_headers": merger.from_header,
        "header_patients_ignored": merger.header_patients_ignored,
        "no_finding_with_annotations": counts["no_finding_with_annotations"],
        "burned_in_text": dict(sorted(merger.burned_in.items())),
        "near_uniform": merger.near_uniform,
        "several_reports": counts["several_reports"],
        "dropped": dict(sorted((+merger.dropped).items())),
    }
    return summary.write(read.inputs, summaries)


def read_source(
    name: str,
    config: IngestConfig,
    scratch: Path,
    watch: Watch | None = None,
    cache: Path = RESULT_CACHE,
    workers: WorkersConfig = THIS_PROCESS,
    readings: ReadingFile | None = None,
) -> ReadSource:
    """List a source and read its images; nothing is written that stays but what is cached.

    Args:
        name: The source, one of `config.sources`.
        config: Section `ingest`; a relative root counts from the current folder.
        scratch: Folder where rows and images wait, in files without a name that go with what is returned.
        watch: Called with the listing's name and each of its rows.
        cache: The result cache, for sources whose text in pixels is looked for.
        workers: How many processes read images.
        readings: As for `run`. Neither cache is used on a cluster, as SQLite's file cannot be shared by several hosts.

    Raises:
        UserError: The source is unknown, its root or listing is missing or broken, its text in pixels is looked for and
            the extra `ocr` is not installed, or workers died of too many rows.
    """
    if name not in config.sources:
        raise UserError(f"ingest.sources has no '{name}': choose from {', '.join(config.sources)}")
    settings, root = config.sources[name], config.roots()[name]
    caches = (cache, readings) if cluster_address() is None else (None, None)
    make_reader = partial(ImageReader, settings, root, config.max_pixels, *caches)
    damage = make_reader().cache_damage()  # refuses what is not installed before the listing is read
    source = open_source(name, settings, root)
    if watch is not None and hasattr(source, "listings"):
        source.listings.watch = watch
    listed = list_source(name, root, source, scratch)
    selected = select(listed.rows, settings.limit)
    read = ReadSource(
        listed=listed,
        source=source,
        selected=selected,
        inputs=len(listed.unusable) + int(listed.rows.counts[selected].sum()),
        merger=ImageMerger(name, PatientHasher(name, settings.patient_ids, Path(config.keys)), scratch),
        refused=Spill(scratch),
        summary=Summary(f"ingest-{name}"),
        sides=settings.sides or getattr(source, "sides", None),
        cache_damage=Counter(damage),
    )
    for row in listed.unusable:
        read.summary.rejected(row.reason)
    images = (_listed_image(listed.rows, image) for image in file_by_file(listed.rows, selected).tolist())
    outcomes = in_workers(
        make_reader,
        in_batches(images, BATCH, lambda image: image.name),
        workers,
        items=len(selected),
        worth=WORTH_WITH_TEXT if settings.burned_in else WORTH,
    )
    with closing(progress(outcomes, f"ingest {name}", len(selected))) as pairs:
        for image, reading in pairs:
            read.left_out.update(reason for record in image.records for reason in record.left_out)
            if isinstance(reading, Lost):
                read.summary.failed(reading.reason, len(image.records))
                # Each costs the start of three workers: not to be counted to the end.
                if read.summary.counts["failed"] > config.max_failed_fraction * read.inputs:
                    read.summary.limit_failures(config.max_failed_fraction)
            else:
                read.from_cache += reading.from_cache
                read.cache_damage.update(reading.cache_damage)
                _merge(image, reading, read)
    read.merger.join_patients()
    read.warnings = [*listed.warnings, *_warnings(read, settings.burned_in)]
    return read


def _listed_image(rows: ListedRows, image: int) -> ListedImage:
    records = rows.of_image(image)
    return ListedImage(name=records[0].name, cut=records[0].cut, records=records)


def _merge(image: ListedImage, reading: ImageReading, read: ReadSource) -> None:
    """Take in all rows of one file and frame."""
    read.left_out["further_page"] += reading.further_pages
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
            read.refused.add(as_rejected(row))
            read.summary.rejected(error.reason)
        else:
            if is_new:
                read.summary.ok()
            else:
                read.summary.duplicate("same_pixels" if record is image.records[0] else "same_file")


def _warnings(read: ReadSource, burned_in: BurnedInPolicy | None) -> Iterator[str]:
    """What makes a source less than it looks, although every row may be sound."""
    rows, merger = read.listed.rows, read.merger
    if rows.count and not rows.with_report:
        yield warning_texts.NO_TEXT
    if rows.count and not rows.with_patient and not merger.has_patients:
        yield warning_texts.NO_PATIENT
    if not len(merger):
        yield warning_texts.NO_IMAGE
    if count := merger.header_patients_ignored:
        yield f"{warning_texts.IGNORED_HEADERS}{count}"
    if burned_in is None and (count := merger.burned_in.total()):
        yield f"{warning_texts.STATED_TEXT}{count}"
    if count := len(rows.labels) - len({label.casefold() for label in rows.labels}):
        yield f"{warning_texts.LABELS_IN_TWO_CASES}{count}; see options.values"
    if count := read.listed.files.unlisted_images:
        yield f"{warning_texts.UNLISTED_IMAGES}{count}"
    if count := read.listed.files.linked_folders:
        yield f"{warning_texts.LINKED_FOLDERS}{count}"


def _summed(lines: dict[str, dict[str, int]]) -> dict[str, int]:
    """The counts of all listings together: their names are private, as those of all raw files."""
    total = Counter({"listings": len(lines)})
    for counts in lines.values():
        total.update(counts)
    return dict(sorted(total.items()))
