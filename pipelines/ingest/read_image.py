"""One image of a source, from its file to the facts that the tables hold.

Reason codes of `Rejected`: those of `pipelines.images` and `pipelines.ingest.burned_in`, and blank_image.
"""

from typing import NamedTuple

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
from pipelines.opened import OpenedFile, open_file
from pipelines.storage import Root


class ReadImage(NamedTuple):
    """An image's facts, its header and file, the EXIF orientation that it was turned by, and pages beside it."""

    file: ImageFile
    header: HeaderIds
    source: OpenedFile
    orientation: int
    further_pages: int


def read_image(root: Root, name: str, cut: Cut, max_pixels: int, burned_in: BurnedInText) -> ReadImage:
    """Open, decode and look at an image.

    Args:
        root: Of the source.
        name: The file.
        cut: Which part of it.
        max_pixels: Largest width times height.
        burned_in: What becomes of text in its pixels.

    Raises:
        Rejected: It cannot be used.
        OSError: The disk failed.
    """
    path, member = locate(root, name)
    source = open_file(root, path, member, cut)
    image, orientation, further_pages = shown_picture(source, cut, max_pixels)
    if is_blank(image):
        raise Rejected("blank_image", "all pixels have one value, or next to it")
    examined = burned_in.examine(image, states_text(source.data))
    image = examined.pixels
    if is_blank(image):
        raise Rejected("blank_image", "all pixels have one value, or next to it, but for text that is masked")
    file = ImageFile(
        image_id=image_identity(source, member, cut),
        path=path,
        member=member,
        frame=cut.frame,
        axis=cut.axis,
        volume=cut.volume,
        sha256=source.sha256,
        burned_in=examined.burned_in,
        hidden=examined.hidden,
        pixel_sha256=pixel_sha256(image),
        perceptual_hash=perceptual_hash(image),
        thumbnail=thumbnail(image),
        width=image.width,
        height=image.height,
    )
    return ReadImage(file, header_ids(source.data), source, orientation, further_pages)
