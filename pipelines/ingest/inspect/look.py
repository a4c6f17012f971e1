"""Reads a source as the stage `ingest` would, and shows what that gives: on the screen, and on a page.

Reads   the source's root and the params section `ingest`
Writes  data/inspect/<source>.html, and nothing else (but what is found of text in pixels, to the result cache)
Alone   python -m pipelines.ingest.inspect SOURCE [IMAGES]

All rows are read, and of the images at most IMAGES (1000; `all`) are opened, chosen as `limit` chooses. The page quotes
texts, ids and names of files: it is a look at one's own data, and no output to pass on. No patient key is needed.
"""

import base64
import io
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pipelines.cache import RESULT_CACHE
from pipelines.config import load
from pipelines.errors import UserError
from pipelines.files import scratch_folder, write_text
from pipelines.images import painted_over, picture
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.inspect.profile import ColumnView, Profiles
from pipelines.ingest.record import SourceRecord, UnusableRow
from pipelines.ingest.stage import ReadSource, read_source
from pipelines.opened import open_file
from pipelines.records import ImageRow
from pipelines.report.pages import templates
from pipelines.storage import Root
from pipelines.workers.config import THIS_PROCESS, WorkersConfig, load_workers

FOLDER = Path("data/inspect")
IMAGES = 1000

_TEMPORARY = Path(tempfile.gettempdir())
_EXAMPLES = 3  # of a column's values, and of rows rejected for one reason
_PICTURES = 12
_WORDS = 60  # labels, sizes
_LONGER_SIDE = 240  # pixels of a picture on the page


@dataclass(frozen=True, kw_only=True)
class RejectedExamples:
    """Rows rejected for one reason: how many, and some of them."""

    reason: str
    count: int
    rows: list[UnusableRow]


@dataclass(frozen=True, kw_only=True)
class PictureExample:
    """An image as a data URI, with its row of the table."""

    uri: str
    image: ImageRow


@dataclass(frozen=True, kw_only=True)
class SourceLook:
    """What a source is, as the page shows it.

    Attributes:
        name: The source.
        settings: Its section of params.yaml.
        read: The source, read as `ingest` reads it.
        columns: Of its listings.
        counts: Title -> value -> rows, of what the adapter made of the rows; and what it counts itself.
        patients: Different patients that rows name.
        without_patient: Rows that name none.
        from_header: Of those rows, how many have a patient in the header of their file, among the opened ones.
        without_text: Rows without text.
        sizes: Width x height -> opened images.
        rejected: By reason, the most frequent first.
        pictures: Some opened images.
    """

    name: str
    settings: SourceConfig
    read: ReadSource
    columns: list[ColumnView]
    counts: dict[str, dict[str, int]]
    patients: int
    without_patient: int
    from_header: int
    without_text: int
    sizes: dict[str, int]
    rejected: list[RejectedExamples]
    pictures: list[PictureExample]

    @property
    def rows(self) -> int:
        """All rows, usable or not."""
        return len(self.read.listed.unusable) + self.read.listed.rows.count


def main(source: str, images: str = str(IMAGES)) -> None:
    if images != "all" and not images.isdecimal():
        raise UserError(f"'{images}' is no number of images: python -m pipelines.ingest.inspect SOURCE [IMAGES or all]")
    count = None if images == "all" else int(images)
    page = FOLDER / f"{source}.html"
    found = look(source, load(IngestConfig, "ingest"), count, workers=load_workers(), scratch=scratch_folder(page))
    write_page(page, found)
    print_look(found)
    print(f"page: {page.resolve()} (it quotes texts, ids and names of files: for your own eyes)")


def look(
    name: str,
    config: IngestConfig,
    images: int | None,
    cache: Path = RESULT_CACHE,
    workers: WorkersConfig = THIS_PROCESS,
    scratch: Path = _TEMPORARY,
) -> SourceLook:
    """Read a source.

    Args:
        name: One of `config.sources`.
        config: Section `ingest`.
        images: How many images to open at most; None: all that `limit` leaves.
        cache: The result cache, for a source whose text in pixels is looked for.
        workers: How many processes read images.
        scratch: Folder where rows and images wait, in files without a name.

    Raises:
        UserError: As `ingest` raises it, but for a source of which no image is left.
    """
    if name in config.sources:
        shown = replace(config.sources[name], patient_ids="public")  # hashed in memory alone
        if images is not None and not isinstance(shown.limit, dict):
            shown = replace(shown, limit=images if shown.limit is None else min(shown.limit, images))
        config = replace(config, sources={**config.sources, name: shown})
    profiles = Profiles()
    read = read_source(name, config, scratch, profiles, cache, workers)
    said = _said_of_rows(read.listed.rows)
    root, shown_images = config.roots()[name], islice(read.images(), _PICTURES)
    return SourceLook(
        name=name,
        settings=config.sources[name],
        read=read,
        columns=profiles.views(getattr(read.source, "readers", {}), _EXAMPLES),
        counts={title: _most_common(counts) for title, counts in said.items()} | getattr(read.source, "counts", {}),
        patients=len({record.patient for record in read.listed.rows} - {None}),
        without_patient=sum(record.patient is None for record in read.listed.rows),
        from_header=read.merger.from_header,
        without_text=read.listed.rows.count - read.listed.rows.with_report,
        sizes=_most_common(Counter(f"{image.width} x {image.height}" for image in read.images())),
        rejected=_rejected(read.unusable),
        pictures=[_picture(root, image, config.max_pixels) for image in shown_images],
    )


def write_page(path: Path, found: SourceLook) -> None:
    """Write the page; it opens without a network, and all texts of the data are escaped."""
    template = templates("pipelines.ingest.inspect").get_template("inspect.html.j2")
    write_text(path, template.render(look=found))


def print_look(found: SourceLook) -> None:
    """The page in short."""
    files, summary = found.read.listed.files, found.read.summary
    listed, opened = (len(images) for images in (found.read.listed.rows, found.read.selected))
    print(f"{found.name}: {found.rows:,} rows, {listed:,} images listed, {opened:,} opened")
    for sentence in found.read.warnings:
        print(f"! {sentence}")
    for listing, counts in found.read.listed.lines.items():
        print(f"{listing}: " + ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items()))
    print(f"files under the root: {files.listed:,} listed, {files.unlisted:,} unlisted")
    for column in found.columns:
        print(f"  {_column_line(column)}")
    print(
        f"patients: {found.patients:,}, {found.without_patient:,} rows without, of which the headers of opened files "
        f"name one for {found.from_header:,}"
    )
    print(f"rows without text: {found.without_text:,}")
    for title, values in found.counts.items():
        print(f"{title}: " + ", ".join(f"{value} {count:,}" for value, count in list(values.items())[:12]))
    print(
        "outcome: "
        + ", ".join(f"{name} {summary.counts[name]:,}" for name in ("ok", "rejected", "failed", "duplicates"))
    )
    for reason, count in summary.reasons["duplicates"].items():
        print(f"  duplicates {reason} {count:,}")
    if found.read.turned:
        pixels = f"boxes and masks are taken in {found.settings.annotated_pixels} pixels (annotated_pixels)"
        print(f"opened images turned by their EXIF orientation: {found.read.turned:,}; {pixels}")
    merger = found.read.merger
    print(
        f"annotated regions of the opened images: {merger.counts['annotations']:,}, look-alikes "
        f"{merger.counts['look_alikes']:,}, clipped boxes {merger.clipped_boxes:,}, "
        f"rows whose labels differ from the image's first {merger.labels_differ:,}"
    )
    if merger.burned_in:
        print("text in pixels: " + ", ".join(f"{word} {count:,}" for word, count in sorted(merger.burned_in.items())))
    for group in found.rejected:
        print(f"  rejected {group.reason} {group.count:,}: {group.rows[0].row}, {group.rows[0].detail}")


def _column_line(column: ColumnView) -> str:
    use = {True: "used", False: "NOT USED", None: "read by the adapter"}[column.is_used]
    near = f" (did you mean {column.near}?)" if column.near else ""
    distinct = f"{'more than ' if column.profile.more else ''}{len(column.profile.values):,} different values"
    refused = sum(value.count or 0 for value in column.values if value.is_refused)
    bad = f", {refused:,} rows with values that are refused" if refused else ""
    return f"{column.profile.name or '(no name)'}: {use}{near}, {column.null_fraction:.0%} null, {distinct}{bad}"


def _said_of_rows(records: Iterable[SourceRecord]) -> dict[str, Counter[str]]:
    """Title -> what rows say -> how many do."""
    said: dict[str, Counter[str]] = {
        title: Counter() for title in ("labels", "splits", "modalities", "views", "attributes", "left out of rows")
    }
    for record in records:
        said["labels"].update(_labels(record))
        said["splits"][record.split or "none"] += 1
        said["modalities"][record.modality] += 1
        said["views"][record.view or "none"] += 1
        said["attributes"].update(f"{name}: {value}" for name, value in record.attributes.items())
        said["left out of rows"].update(record.left_out)
    return said


def _labels(record: SourceRecord) -> tuple[str, ...]:
    of_masks = (record.mask_label, *(marked.label for marked in record.masks))
    if record.labels is None and any(of_masks):
        return tuple(f"{label} where the mask is not empty" for label in dict.fromkeys(of_masks) if label)
    return ("unknown",) if record.labels is None else record.labels or ("no finding",)


def _most_common(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_WORDS])


def _rejected(unusable: Iterable[UnusableRow]) -> list[RejectedExamples]:
    counts: Counter[str] = Counter()
    examples: dict[str, list[UnusableRow]] = defaultdict(list)
    for row in unusable:
        counts[row.reason] += 1
        if counts[row.reason] <= _EXAMPLES:
            examples[row.reason].append(row)
    found = [RejectedExamples(reason=reason, count=counts[reason], rows=rows) for reason, rows in examples.items()]
    return sorted(found, key=lambda group: (-group.count, group.reason))


def _picture(root: Root, image: ImageRow, max_pixels: int) -> PictureExample:
    stored: Any = picture(open_file(root, image.path, image.member, image.cut), image.cut, max_pixels)
    pixels = painted_over(stored, image.hidden)
    pixels.thumbnail((_LONGER_SIDE, _LONGER_SIDE))
    stream = io.BytesIO()
    pixels.save(stream, "JPEG", quality=85)
    uri = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
    return PictureExample(uri=uri, image=image)
