"""The pixels of a request: the image and a region's cut-out, as data URLs.

A region is shown as the whole image, on which nothing is drawn, and a cut-out from the full resolution with a margin:
an outline in the picture would hide the border that the adjective is about, and models describe the outline. The whole
image comes first, so that all regions of an image share the prefix that the server has already worked through.
"""

import base64
import hashlib
import io
import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from PIL import Image

from models.geometry import Box
from pipelines.archives import read_bytes
from pipelines.captions.captioners.vllm.options import Options
from pipelines.captions.protocols import Item, RegionItem, Settings
from pipelines.errors import Rejected
from pipelines.images import decode

_QUALITY = 90
_KEPT = 4


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image that was read.

    Attributes:
        full: At full resolution.
        url: Resized, as a data URL.
    """

    full: Image.Image
    url: str


class Pictures:
    """Reads, resizes and encodes; threads may share it. The last few images are kept, for their regions follow them.

    Args:
        settings: Roots of the sources and the largest picture.
        options: Sizes of what is sent.
    """

    def __init__(self, settings: Settings, options: Options) -> None:
        self._settings = settings
        self._options = options
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, Future[Picture]] = OrderedDict()

    def sent_size(self, image: dict[str, Any]) -> tuple[int, int]:
        """Width and height of an image as it is sent, from its row alone."""
        return fitted(image["width"], image["height"], self._options.image_size)

    def urls(self, item: Item) -> list[str]:
        """The image, and for a region its cut-out.

        Raises:
            Rejected: The file cannot be read any more, or is not the one that was ingested (file_changed).
            OSError: The disk failed.
        """
        picture = self._picture(item.image)
        return [picture.url, self._cut_out(picture.full, item.box)] if isinstance(item, RegionItem) else [picture.url]

    def _picture(self, image: dict[str, Any]) -> Picture:
        with self._lock:
            future = self._recent.get(image["image_id"])
            mine = future is None
            if future is None:
                future = self._recent[image["image_id"]] = Future()
                if len(self._recent) > _KEPT:
                    self._recent.popitem(last=False)
        if mine:
            try:
                future.set_result(self._read(image))
            except BaseException as error:
                future.set_exception(error)  # or those who wait for this thread would wait for ever
                raise
        return future.result()

    def _read(self, image: dict[str, Any]) -> Picture:
        data = read_bytes(self._settings.roots[image["source"]], image["path"], image["member"])
        if hashlib.sha256(data).hexdigest() != image["sha256"]:
            raise Rejected("file_changed", image["path"])
        full = decode(data, image["frame"], self._settings.max_pixels)
        return Picture(
            full=full, url=_data_url(full.resize(self.sent_size(image), Image.Resampling.BICUBIC, reducing_gap=3))
        )

    def _cut_out(self, full: Image.Image, box: Box) -> str:
        x0, y0, x1, y1 = box
        margin = self._options.crop_margin * max(x1 - x0, y1 - y0)
        edges = (
            max(0, int(x0 - margin)),
            max(0, int(y0 - margin)),
            min(full.width, int(-(-(x1 + margin) // 1))),
            min(full.height, int(-(-(y1 + margin) // 1))),
        )
        cut = full.crop(edges)
        scale = self._options.crop_size / max(cut.size)
        size = (max(1, round(cut.width * scale)), max(1, round(cut.height * scale)))
        return _data_url(cut.resize(size, Image.Resampling.BICUBIC, reducing_gap=3))


def fitted(width: int, height: int, longest: int) -> tuple[int, int]:
    """A size with the same proportions whose longer side is at most `longest`."""
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _data_url(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
