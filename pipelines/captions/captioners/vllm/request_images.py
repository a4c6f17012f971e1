"""The pixels of a request: the image and a region's crop, as data URLs.

A region is shown as the whole image, on which nothing is drawn, and a crop from the full resolution with a margin: an
outline in the image would hide the border that the adjective is about, and models describe the outline. The whole image
comes first, so that all regions of an image share the prefix that the server has already computed.
"""

import io
import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass

from PIL import Image

from models.geometry import Box, box_with_margin, fitted_size
from pipelines.captions.captioners.vllm.options import Options
from pipelines.captions.protocols import Item, RegionItem, Settings
from pipelines.chat.message import jpeg_url
from pipelines.raw_images import open_raw
from pipelines.records import SplitImageRow
from pipelines.sources import Sources

_JPEG_QUALITY = 90
_RECENT_IMAGES = 4


@dataclass(frozen=True, kw_only=True)
class LoadedImage:
    """An image that was read.

    Attributes:
        full: At full resolution.
        url: Resized, as a data URL.
    """

    full: Image.Image
    url: str


class RequestImages:
    """Reads, resizes and encodes; threads may share it. The last few images stay in memory, for their regions follow.

    Args:
        settings: Roots of the sources and the pixel limit.
        options: Sizes of what is sent.
    """

    def __init__(self, settings: Settings, options: Options) -> None:
        self._settings = settings
        self._options = options
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, Future[LoadedImage]] = OrderedDict()

    def sent_size(self, image: SplitImageRow) -> tuple[int, int]:
        """Width and height of an image as it is sent, from its row alone; an image is never enlarged."""
        longer_side = min(self._options.image_size, max(image.width, image.height))
        return fitted_size(image.width, image.height, longer_side)

    def sent_sizes(self, item: Item) -> list[tuple[int, int]]:
        """Width and height of every image of `urls`, from the item alone."""
        image, sizes = item.image, [self.sent_size(item.image)]
        if isinstance(item, RegionItem):
            x0, y0, x1, y1 = box_with_margin(item.box, self._options.crop_margin, image.width, image.height)
            sizes.append(fitted_size(x1 - x0, y1 - y0, self._options.crop_size))
        return sizes

    def urls(self, item: Item) -> list[str]:
        """The image, and for a region its crop.

        Raises:
            Rejected: The file can no longer be read, or is not the one that was ingested (changed_since_ingest).
            OSError: The disk failed.
        """
        image = self._load(item.image)
        return [image.url, self._crop(image.full, item.box)] if isinstance(item, RegionItem) else [image.url]

    def _load(self, image: SplitImageRow) -> LoadedImage:
        """The image; threads that need the same one wait until the first of them has read it."""
        with self._lock:
            future = self._recent.get(image.image_id)
            is_first = future is None
            if future is None:
                future = self._recent[image.image_id] = Future()
                if len(self._recent) > _RECENT_IMAGES:
                    self._recent.popitem(last=False)
        if is_first:
            try:
                future.set_result(self._read(image))
            except BaseException as error:
                future.set_exception(error)  # or the threads that wait for this one would wait for ever
                raise
        return future.result()

    def _read(self, image: SplitImageRow) -> LoadedImage:
        full = open_raw(Sources(roots=self._settings.roots, max_pixels=self._settings.max_pixels), image)
        return LoadedImage(full=full, url=_resized_url(full, self.sent_size(image)))

    def _crop(self, full: Image.Image, box: Box) -> str:
        crop = full.crop(box_with_margin(box, self._options.crop_margin, full.width, full.height))
        return _resized_url(crop, fitted_size(crop.width, crop.height, self._options.crop_size))


def _resized_url(image: Image.Image, size: tuple[int, int]) -> str:
    """The image at another size (width, height), as a data URL."""
    stream = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return jpeg_url(stream.getvalue())
