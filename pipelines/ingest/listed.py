"""What a source lists, before any image is opened: its rows by image, the lines of its listings and its files."""

from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import Rejected, TemporaryError, UserError
from pipelines.ingest.accounting import NamedFiles, SourceFiles, source_files
from pipelines.ingest.config import SourceConfig
from pipelines.ingest.door import as_rejected, checked
from pipelines.ingest.listed_rows import ListedRows
from pipelines.ingest.record import Source, UnusableRow
from pipelines.ingest.tables import Listings
from pipelines.registry import plugin
from pipelines.spill import Spill
from pipelines.storage import Remote, Root, check_there


@dataclass(kw_only=True)
class Listed:
    """What a source lists.

    Attributes:
        rows: Its rows by image.
        unusable: Rows that the adapter cannot use, in words that may be passed on.
        lines: Counts of each listing (`pipelines.ingest.tables.Listings.lines`).
        files: All files under the root.
        warnings: What the adapter warns of.
    """

    rows: ListedRows
    unusable: Spill[UnusableRow]
    lines: dict[str, dict[str, int]]
    files: SourceFiles
    warnings: list[str]


def open_source(name: str, settings: SourceConfig, root: Root) -> Source:
    """The adapter of a source with its options.

    Raises:
        UserError: The root is missing, or the options are wrong.
        TemporaryError: The storage does not answer.
    """
    if isinstance(root, Path) and not root.exists():
        raise UserError(f"ingest.sources.{name}.root: {root} not found: put the data there or name another place")
    try:
        if isinstance(root, Remote):
            check_there(root)
        source: Source = plugin("sources", settings.adapter)(root, settings.options)
    except TemporaryError:
        raise
    except UserError as error:
        raise UserError(f"ingest.sources.{name}: {error}") from None
    return source


def list_source(name: str, root: Root, source: Source, scratch: Path) -> Listed:
    """All rows of a source by image, and those that the adapter cannot use.

    Args:
        name: The source.
        root: Its folder or archive.
        source: Its adapter.
        scratch: Folder where the rows wait, in files without a name.

    Raises:
        UserError: A listing is missing or broken.
        TemporaryError: The storage does not answer.
    """
    rows, named = ListedRows(scratch), NamedFiles()
    unusable: Spill[UnusableRow] = Spill(scratch)
    try:
        for yielded in source.records():
            item = yielded if isinstance(yielded, UnusableRow) else checked(yielded)
            if isinstance(item, UnusableRow):
                item = as_rejected(item)
                unusable.add(item)
                named.add_unusable(item)
            else:
                rows.add(item)
                named.add_record(item)
    except TemporaryError:
        raise
    except (UserError, Rejected) as error:
        raise UserError(f"ingest.sources.{name}: {error}") from None
    listings: Listings = getattr(source, "listings", Listings(root))
    named.add(listings.files)
    return Listed(
        rows=rows,
        unusable=unusable,
        lines=listings.lines,
        files=source_files(root, named),
        warnings=list(getattr(source, "warnings", ())),
    )
