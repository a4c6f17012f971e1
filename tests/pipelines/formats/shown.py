"""A file of which the bytes are at hand, with what is known of its picture."""

from pipelines.cuts import Cut
from pipelines.formats.raster import RasterPicture
from pipelines.images import StoredMask, mask_of, shown_picture
from pipelines.opened import opened


def decode_picture(data: bytes, frame: int | None = None) -> RasterPicture:
    return shown_picture(opened(data), Cut(frame=frame))


def decode_turned_mask(data: bytes, orientation: int) -> StoredMask:
    """A mask of an image with this EXIF orientation, in stored pixels."""
    return mask_of(opened(data), Cut(), None, orientation=orientation)
