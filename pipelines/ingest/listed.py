"""What a source lists, before any image is opened: its rows by image, the lines of its listings and its files."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from pipelines.cuts import Cut
from pipelines.errors import Rejected, UserError
from pipelines.ingest.accounting import SourceFiles, source_files
from pipelines.ingest.config import SourceConfig
from pipelines.ingest.door import checked, writable
from pipelines.ingest.record import Source, SourceRecord, UnusableRow
from pipelines.ingest.tables import Listings
from pipelines.registry import plugin

ImageName = tuple[str, Cut]  # an image as rows name it: the file, and what of it
RowsOfImage = dict[ImageName, list[SourceRecord]]


@dataclass(kw_only=True)
class Listed:
    """What a source lists.

    Attributes:
        rows: Its rows by image.
        unusable: Rows that the adapter cannot use.
        lines: Counts of each listing (`pipelines.ingest.tables.Listings.lines`).
        files: All files under the root.
        warnings: What the adapter warns of.
    """

    rows: RowsOfImage
    unusable: list[UnusableRow]
    lines: dict[str, dict[str, int]]
    files: SourceFiles
    warnings: list[str]


def open_source(name: str, settings: SourceConfig) -> Source:
    """The adapter of a source with its options.

    Raises:
        UserError: The root is missing, or the options are wrong.
    """
    root = Path(settings.root)
    if not root.exists():
        raise UserError(f"ingest.sources.{name}.root: {root} not found: put the data there or name another place")
    try:
        source: Source = plugin("sources", settings.adapter)(root, settings.options)
    except UserError as error:
        raise UserError(f"ingest.sources.{name}: {error}") from None
    return source


def list_source(name: str, settings: SourceConfig, source: Source) -> Listed:
    """All rows of a source by image, and those that the adapter cannot use.

    Raises:
        UserError: A listing is missing or broken.
    """
    root = Path(settings.root)
    rows: RowsOfImage = defaultdict(list)
    unusable = []
    try:
        for yielded in source.records():
            item = yielded if isinstance(yielded, UnusableRow) else checked(yielded)
            if isinstance(item, UnusableRow):
                unusable.append(writable(item))
            else:
                rows[item.name, item.cut].append(item)
    except (UserError, Rejected) as error:
        raise UserError(f"ingest.sources.{name}: {error}") from None
    listings: Listings = getattr(source, "listings", Listings(root))
    records = (record for same_image in rows.values() for record in same_image)
    return Listed(
        rows=rows,
        unusable=unusable,
        lines=listings.lines,
        files=source_files(root, listings.files, records, unusable),
        warnings=list(getattr(source, "warnings", ())),
    )
