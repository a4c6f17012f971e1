"""PNG, JPEG, TIFF, BMP, GIF, WebP and JPEG 2000 (JP2 files and bare codestreams), told by their first bytes.

TIFF is read by `pipelines.formats.tiff`, everything else by Pillow. Colour profiles (ICC) are ignored, in every format:
values stay as they are stored. Of what has several pictures (pages of a TIFF, frames of a GIF or WebP), the first is
the picture where nobody names another. An animated PNG, and a JPEG with another behind it (MPO), are their first alone.
"""

import io
import struct
from typing import NamedTuple

import numpy as np
from PIL import Image

from models.orientation import AS_STORED, orientation_of, turned, turned_image
from models.preparation import eight_bit, to_8_bit
from pipelines.errors import Rejected
from pipelines.formats import tiff
from pipelines.formats.limits import check_frame, check_pixels
from pipelines.sources import MAX_PIXELS

JPEG = b"\xff\xd8\xff"
_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000: SOC, SIZ (ITU-T T.800, A.4)
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    JPEG: "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    _CODESTREAM: "JPEG2000",
}
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes; two letters alone would be many a text
_SEVERAL_PICTURES = ("GIF", "WEBP")
_NEAR_GREY = 16  # grey levels between the channels of a grey mask that was stored with loss


class RasterPicture(NamedTuple):
    """A picture as it is shown.

    Attributes:
        image: Of mode 'L' or 'RGB'.
        orientation: EXIF orientation by which it was turned, 1 to 8.
        further_pages: Pages or frames beside it, where nobody named one.
    """

    image: Image.Image
    orientation: int = AS_STORED
    further_pages: int = 0


class RasterMask(NamedTuple):
    """The grey values of a mask, (height, width), and whether they were stored with loss."""

    values: np.ndarray
    lossy: bool


def frames(data: bytes) -> int:
    """Number of pages of a TIFF that are pictures, or of frames of a GIF or WebP; 1 for everything else."""
    if tiff.is_tiff(data):
        return len(tiff.pictures(data))
    return _frames_of(_pillow(data, MAX_PIXELS))


def has_pages(data: bytes) -> bool:
    """Whether the format may hold several pictures of which none is a slice of a volume."""
    return tiff.is_tiff(data) or _kind(data) in _SEVERAL_PICTURES


def picture(data: bytes, frame: int | None, max_pixels: int) -> RasterPicture:
    """A page or frame as it is shown; None: the first."""
    if tiff.is_tiff(data):
        places = tiff.pictures(data)
        page = tiff.read_page(data, places[_index(frame, len(places))], max_pixels)
        shown = page.pixels
        image = eight_bit(shown) if isinstance(shown, Image.Image) else Image.fromarray(to_8_bit(shown))
        return RasterPicture(image, page.orientation, _further(frame, len(places)))
    opened = _pillow(data, max_pixels)
    count = _frames_of(opened)
    opened.seek(_index(frame, count))
    check_pixels(*opened.size, max_pixels)
    orientation = orientation_of(opened)
    return RasterPicture(turned_image(eight_bit(opened), orientation), orientation, _further(frame, count))


def stored_values(data: bytes, frame: int | None, max_pixels: int, orientation: int = AS_STORED) -> RasterMask:
    """Grey values of a page or frame as stored, turned as they are shown.

    Args:
        data: The file.
        frame: Page or frame, used where there are several; None: the first.
        max_pixels: Largest width times height.
        orientation: By which a mask is turned that has no orientation of its own.
    """
    if tiff.is_tiff(data):
        places = tiff.pictures(data)
        page = tiff.read_page(data, places[_index_of_mask(frame, len(places))], max_pixels)
        own, lossy = page.orientation, page.lossy
        _refuse_deep_colour(page.deep_colour)
        values = page.pixels if isinstance(page.pixels, np.ndarray) else _grey(page.pixels, lossy=lossy)
    else:
        image = _pillow(data, max_pixels)
        image.seek(_index_of_mask(frame, _frames_of(image)))
        check_pixels(*image.size, max_pixels)
        own, lossy = orientation_of(image), _is_lossy(data)
        _refuse_deep_colour(_is_deep_colour(data))
        values = turned(_grey(image, lossy=lossy), own)
    return RasterMask(values if own != AS_STORED else turned(values, orientation), lossy)


def _kind(data: bytes) -> str | None:
    """Pillow's name of the format; None: it is none that is read here."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)


def _pillow(data: bytes, max_pixels: int) -> Image.Image:
    kind = _kind(data)
    if kind is None:
        raise Rejected(
            "unsupported_type", "not PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000, DICOM, NIfTI, NRRD or MetaImage"
        )
    image = Image.open(io.BytesIO(data), formats=[kind])
    check_pixels(*image.size, max_pixels)
    return image


def _frames_of(image: Image.Image) -> int:
    return getattr(image, "n_frames", 1) if image.format in _SEVERAL_PICTURES else 1


def _index(frame: int | None, count: int) -> int:
    return 0 if frame is None else check_frame(frame, count)


def _index_of_mask(frame: int | None, count: int) -> int:
    """As `_index`; the mask of a slice may be a picture of its own."""
    return 0 if count == 1 else _index(frame, count)


def _further(frame: int | None, count: int) -> int:
    return count - 1 if frame is None else 0


def _grey(image: Image.Image, *, lossy: bool) -> np.ndarray:
    """Values of a mask that Pillow read, (height, width); indices of a palette stay what they are."""
    if image.mode == "1" or _is_grey_palette(image):
        image = image.convert("L")
    values = np.asarray(image)
    if values.ndim == 3:
        colours = values[..., : 1 if image.mode == "LA" else 3]
        values = values[..., 0]
        if np.ptp(colours, axis=-1).max() > (_NEAR_GREY if lossy else 0):
            raise Rejected("unsupported_type", "a mask in colour: give grey values or a palette")
    return values


def _is_grey_palette(image: Image.Image) -> bool:
    """Whether a GIF or BMP, which have no other way to store grey, shows greys alone."""
    if image.format not in ("GIF", "BMP") or image.mode != "P":
        return False
    palette = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    used = palette[[index for index in np.unique(np.asarray(image)) if index < len(palette)]]
    return bool((used == used[:, :1]).all())


def _is_lossy(data: bytes) -> bool:
    """Whether the format does not keep values apart: JPEG, and WebP and JPEG 2000 with their coding for photographs."""
    kind = _kind(data)
    if kind == "WEBP":
        return _webp_bitstream(data) == b"VP8 "
    if kind == "JPEG2000":
        return not _is_reversible(data[data.index(_CODESTREAM) :])
    return kind == "JPEG"


def _webp_bitstream(data: bytes) -> bytes:
    """The first chunk of pixels, `VP8 ` or `VP8L`; one of a frame lies behind the frame's header of 16 bytes."""
    place = 12
    while place + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        if name in (b"VP8 ", b"VP8L"):
            return bytes(name)
        place += 24 if name == b"ANMF" else 8 + size + size % 2
    return b"VP8 "


def _is_reversible(codestream: bytes) -> bool:
    """Whether a JPEG 2000 codestream has the 5-3 wavelet (1 in COD; ITU-T T.800, A.6.1), which can keep all values."""
    place = 2
    while place + 14 <= len(codestream):
        marker, length = struct.unpack_from(">HH", codestream, place)
        if marker == 0xFF52:
            return codestream[place + 13] == 1
        place += 2 + length
    return False


def _is_deep_colour(data: bytes) -> bool:
    """Whether Pillow keeps the upper 8 bits of more, or scales a JPEG 2000 of other than 8 or 16 bits."""
    kind = _kind(data)
    if kind == "PNG":
        return data[24] == 16 and data[25] in (2, 4, 6)  # IHDR: bits, and colour or alpha
    if kind == "JPEG2000":
        components, precision = struct.unpack_from(">HB", data, data.index(_CODESTREAM) + 40)
        return precision + 1 != 8 and (components > 1 or precision + 1 != 16)
    return False


def _refuse_deep_colour(is_deep: bool) -> None:
    if is_deep:
        raise Rejected("unsupported_type", "a mask whose values cannot be kept: give grey values of 8 or 16 bits")
