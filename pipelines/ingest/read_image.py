"""One image of a source, from its file to the facts that the tables hold. What decoding gave may come from the cache.

Reason codes of `Rejected`: those of `pipelines.images` and `pipelines.ingest.burned_in`, and blank_image.
"""

import base64
from typing import Any, NamedTuple

from pipelines.archives import locate
from pipelines.cuts import Cut
from pipelines.errors import Rejected
from pipelines.images import (
    HeaderIds,
    header_ids,
    image_identity,
    is_blank,
    perceptual_hash,
    pixel_sha256,
    shown_picture,
    states_text,
    thumbnail,
)
from pipelines.ingest.burned_in import BurnedInText
from pipelines.ingest.merged import ImageFile
from pipelines.ingest.reading_cache import KnownReadings, ReadingCache
from pipelines.opened import OpenedFile, open_file
from pipelines.storage import Root


class ReadImage(NamedTuple):
    """An image.

    Attributes:
        file: Its facts.
        header: What its header says of patient and study.
        source: Its file.
        known: What is known of it, for its masks too.
        orientation: The EXIF orientation that it was turned by.
        further_pages: Pages beside it.
    """

    file: ImageFile
    header: HeaderIds
    source: OpenedFile
    known: KnownReadings
    orientation: int
    further_pages: int


def read_image(
    root: Root, name: str, cut: Cut, max_pixels: int, burned_in: BurnedInText, cache: ReadingCache
) -> ReadImage:
    """Open an image, and decode and look at it unless the cache knows it.

    Args:
        root: Of the source.
        name: The file.
        cut: Which part of it.
        max_pixels: Largest width times height.
        burned_in: What becomes of text in its pixels.
        cache: Of readings with these `max_pixels`, which decide them.

    Raises:
        Rejected: It cannot be used.
        OSError: The disk failed.
    """
    path, member = locate(root, name)
    source = open_file(root, path, member, cut)
    known = cache.of_picture(source.sha256, cut)
    seen = known.value(["picture", burned_in.identity], lambda: _look_at(source, cut, max_pixels, burned_in))
    file = ImageFile(
        image_id=image_identity(source, member, cut),
        path=path,
        member=member,
        frame=cut.frame,
        axis=cut.axis,
        volume=cut.volume,
        sha256=source.sha256,
        burned_in=seen["burned_in"],
        hidden=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in seen["hidden"]),
        pixel_sha256=seen["pixel_sha256"],
        perceptual_hash=seen["perceptual_hash"],
        thumbnail=base64.b64decode(seen["thumbnail"]),
        width=seen["width"],
        height=seen["height"],
    )
    # The header's ids are read each time, for they must not lie in a cache in clear.
    header = header_ids(source.data)
    return ReadImage(file, header, source, known, seen["orientation"], seen["further_pages"])


def _look_at(source: OpenedFile, cut: Cut, max_pixels: int, burned_in: BurnedInText) -> dict[str, Any]:
    """What decoding gives, as JSON."""
    image, orientation, further_pages = shown_picture(source, cut, max_pixels)
    if is_blank(image):
        raise Rejected("blank_image", "all pixels have one value, or next to it")
    examined = burned_in.examine(image, states_text(source.data))
    image = examined.pixels
    if is_blank(image):
        raise Rejected("blank_image", "all pixels have one value, or next to it, but for text that is masked")
    return {
        "burned_in": examined.burned_in,
        "hidden": examined.hidden,
        "pixel_sha256": pixel_sha256(image),
        "perceptual_hash": perceptual_hash(image),
        "thumbnail": base64.b64encode(thumbnail(image)).decode("ascii"),
        "width": image.width,
        "height": image.height,
        "orientation": orientation,
        "further_pages": further_pages,
    }
