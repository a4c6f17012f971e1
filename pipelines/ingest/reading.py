"""The rows of an image, read with its file: the part of `ingest` that knows no other image, so that workers do it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from models.orientation import AS_STORED
from pipelines.cuts import Cut
from pipelines.errors import Rejected, disk_fault, item_boundary
from pipelines.images import HeaderIds
from pipelines.ingest.annotations import RowAnnotations, read_annotations
from pipelines.ingest.burned_in import BurnedInText
from pipelines.ingest.config import SourceConfig
from pipelines.ingest.merged import ImageFile
from pipelines.ingest.read_image import ReadImage, read_image
from pipelines.ingest.reading_cache import ReadingCache, ReadingFile
from pipelines.ingest.record import SourceRecord
from pipelines.ingest.text_finder import TextFinder
from pipelines.storage import Root

NO_IDS = HeaderIds()


@dataclass(frozen=True, kw_only=True)
class ListedImage:
    """An image as rows name it: the file, what of it, and these rows."""

    name: str
    cut: Cut
    records: tuple[SourceRecord, ...]


@dataclass(frozen=True, kw_only=True)
class RowFault:
    """Why a row cannot be used.

    Attributes:
        reason: Reason code; of a disk that failed, in words.
        detail: For a person.
        is_of_disk: The row is failed, not rejected: another run may succeed.
    """

    reason: str
    detail: str = ""
    is_of_disk: bool = False


@dataclass(frozen=True, kw_only=True)
class ImageReading:
    """What became of an image and its rows.

    Attributes:
        file: What file and pixels say; None where the image cannot be used.
        header: What its header says of patient and study.
        is_turned: It was turned by its EXIF orientation.
        further_pages: Pages and frames beside it, which no row names.
        rows: For each row, in their order, its annotations or why there are none.
        from_cache: Nothing was decoded: picture and masks are known from an earlier run.
        cache_damage: What of the cache was found damaged since the batch before (`ReadingCache.damage`).
    """

    file: ImageFile | None = None
    header: HeaderIds = NO_IDS
    is_turned: bool = False
    further_pages: int = 0
    rows: tuple[RowAnnotations | RowFault, ...]
    from_cache: bool = False
    cache_damage: Mapping[str, int] = field(default_factory=dict)


class ImageReader:
    """Reads images of one source.

    Args:
        settings: Of the source.
        root: Its folder or archive.
        max_pixels: Largest width times height of an image and of a mask.
        cache: The result cache, where text in pixels is looked for; None: what was found is not kept.
        readings: Where readings are kept; None: nowhere.

    Raises:
        UserError: Text in pixels is looked for, and the extra `ocr` is not installed.
    """

    def __init__(
        self,
        settings: SourceConfig,
        root: Root,
        max_pixels: int,
        cache: Path | None,
        readings: ReadingFile | None = None,
    ) -> None:
        self._root = root
        self._max_pixels = max_pixels
        self._burned_in = BurnedInText(settings.burned_in, TextFinder(cache) if settings.burned_in else None)
        self._in_stored_pixels = settings.annotated_pixels == "stored"
        self._readings = ReadingCache(readings, [max_pixels])

    def __call__(self, images: Sequence[ListedImage]) -> list[ImageReading]:
        """One reading for each image, in their order; there is one at least."""
        found = [self._read(image) for image in images]
        self._readings.keep()
        return [*found[:-1], replace(found[-1], cache_damage=self.cache_damage())]

    def cache_damage(self) -> dict[str, int]:
        """What of the cache of readings was found damaged since the last call or batch."""
        return self._readings.damage()

    def _read(self, image: ListedImage) -> ImageReading:
        try:
            with item_boundary():
                opened = read_image(
                    self._root, image.name, image.cut, self._max_pixels, self._burned_in, self._readings
                )
        except (Rejected, OSError) as error:
            return ImageReading(rows=(_fault(error),) * len(image.records))
        rows = tuple(self._row(record, opened) for record in image.records)
        return ImageReading(
            file=opened.file,
            header=opened.header,
            is_turned=opened.orientation != AS_STORED,
            further_pages=opened.further_pages,
            rows=rows,
            from_cache=not opened.known.made,
        )

    def _row(self, record: SourceRecord, opened: ReadImage) -> RowAnnotations | RowFault:
        size = opened.file.width, opened.file.height
        turn = opened.orientation if self._in_stored_pixels else AS_STORED
        try:
            with item_boundary():
                return read_annotations(self._root, record, opened.source, *size, self._max_pixels, turn, opened.known)
        except (Rejected, OSError) as error:
            return _fault(error)


def _fault(error: Rejected | OSError) -> RowFault:
    if isinstance(error, Rejected):
        return RowFault(reason=error.reason, detail=error.detail)
    return RowFault(reason=disk_fault(error), is_of_disk=True)
