"""TIFF and BigTIFF: which pages are pictures, and the pixels of one page.

Pages are the directories (IFDs) of the file's chain. Reduced copies of a picture (overviews of a pyramid) and
transparency masks say so in NewSubfileType (bits 0 and 2; TIFF 6.0, section 8) and are no pictures; what hangs below a
page (SubIFDs) is not in the chain.

Pillow decodes all that it decodes right: colour, palettes, grey of up to 8 bits and of 16 bits, with every compression
of libtiff. Where it guesses (signed bytes as unsigned ones, 16 bits with MinIsWhite as they are stored, planes of 16
bits as bytes, compressed big-endian numbers with their bytes exchanged) or gives up (64 bits, halves, big-endian
BigTIFF), tifffile reads the numbers, uncompressed or deflated. Values of MinIsWhite are inverted, so that more is
brighter.
"""

import io
import logging
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from models.orientation import forget_xmp, known, turned
from pipelines.errors import Rejected
from pipelines.formats.limits import check_pixels

MAX_PAGES = 65_536

_NO_PICTURE = 0b101  # NewSubfileType: a reduced copy, a transparency mask
_DEFLATE = (8, 32946)
_LOSSY = (6, 7, 50001)  # JPEG of both kinds, WebP
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB = 0, 1, 2
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3

# It logs what it mends in damaged files; what cannot be read raises.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


class TiffPixels(NamedTuple):
    """A page as it is shown.

    Attributes:
        pixels: A picture as Pillow reads it, or grey values, (height, width), of any type.
        orientation: By which they were turned.
        deep_colour: Whether they are colour of more than 8 bits, of which the picture keeps the upper 8.
        lossy: Whether they were stored as JPEG or WebP.
    """

    pixels: Image.Image | np.ndarray
    orientation: int
    deep_colour: bool
    lossy: bool


def is_tiff(data: bytes) -> bool:
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def pictures(data: bytes) -> list[int]:
    """The places of the pages that are pictures, in the file's order; at least one.

    Raises:
        Rejected: The chain of directories leaves the file.
    """
    found = list(_directories(data))
    return [place for place, kind in found if not kind & _NO_PICTURE] or [found[0][0]]


def read_page(data: bytes, place: int, max_pixels: int) -> TiffPixels:
    """The pixels of a page.

    Args:
        data: The file.
        place: One of `pictures`.
        max_pixels: Largest width times height, of the page and of one tile.

    Raises:
        Rejected: It has too many pixels, is cut off, or is of a kind that is not read.
    """
    stream = _starting_at(data, place)
    page = tifffile.TiffFile(stream).pages.first
    assert isinstance(page, tifffile.TiffPage)
    check_pixels(page.imagewidth, page.imagelength, max_pixels)
    check_pixels(page.tilewidth, page.tilelength, max_pixels)
    tag = page.tags.get(274)
    orientation = known(None if tag is None else tag.value)
    bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
    deep_colour = page.samplesperpixel > 1 and bits > 8
    is_grey = page.samplesperpixel == 1 and page.photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK)
    is_number = is_grey and (page.sampleformat != _UNSIGNED or bits > 8)
    is_rgb = page.photometric == _RGB and page.samplesperpixel in (3, 4)
    is_plane_of_words = is_rgb and bits > 8 and page.planarconfig == 2
    is_unknown_to_pillow = page.parent.is_bigtiff and page.parent.byteorder == ">" and (is_grey or is_rgb)
    if (is_number or is_plane_of_words or is_unknown_to_pillow) and _tifffile_reads(page):
        _check_segments(page, data)
        values = page.asarray(maxworkers=1)
        pixels = _colour(values, page) if is_rgb else _bright_is_more(values, page)
        return TiffPixels(_as_pillow(turned(pixels, orientation)), orientation, deep_colour, lossy=False)
    if is_number and not _pillow_reads(page, bits):
        raise _unsupported(page)
    return TiffPixels(_by_pillow(stream, page), orientation, deep_colour, lossy=page.compression in _LOSSY)


def _directories(data: bytes) -> Iterator[tuple[int, int]]:
    """Place and NewSubfileType of each directory of the chain."""
    order, first, place_code, count_code, entry_size = _layout(data)
    seen: set[int] = set()
    place = _number(data, order, place_code, first)
    while place and place not in seen:
        if len(seen) == MAX_PAGES:
            raise Rejected("unsupported_type", f"TIFF of more than {MAX_PAGES} pages")
        seen.add(place)
        count = _number(data, order, count_code, place)
        entries = place + struct.calcsize("=" + count_code)
        if not count:
            raise Rejected("corrupt", "TIFF with a directory without entries")
        following = _number(data, order, place_code, entries + count * entry_size)
        yield place, _subfile_type(data, order, entries, count, entry_size)
        place = following
    if not seen:
        raise Rejected("corrupt", "TIFF without a page")


def _layout(data: bytes) -> tuple[str, int, str, str, int]:
    """Byte order; place of the first directory's place; codes of places and counts; bytes of an entry."""
    order = "<" if data[:1] == b"I" else ">"
    return (order, 8, "Q", "Q", 20) if b"+" in data[2:4] else (order, 4, "L", "H", 12)


def _number(data: bytes, order: str, code: str, place: int) -> int:
    if place + struct.calcsize("=" + code) > len(data):
        raise Rejected("truncated", "TIFF whose directory lies beyond its end")
    return int(struct.unpack_from(order + code, data, place)[0])


def _subfile_type(data: bytes, order: str, entries: int, count: int, entry_size: int) -> int:
    """NewSubfileType (254), or what SubfileType (255), its forerunner, says; entries are sorted by tag."""
    for place in range(entries, entries + min(count, 2) * entry_size, entry_size):
        tag, kind = struct.unpack_from(order + "HH", data, place)
        code = {3: "H", 16: "Q"}.get(kind, "L")  # SHORT, LONG8, LONG
        value = _number(data, order, code, place + entry_size - (8 if entry_size == 20 else 4))
        if tag == 254 and value:
            return value
        if tag == 255:
            return int(value == 2)  # a reduced copy
    return 0


def _starting_at(data: bytes, place: int) -> io.BytesIO:
    """The file with the directory at `place` as its first, so that no reader walks over the pages before it."""
    order, first, code, *_ = _layout(data)
    stream = io.BytesIO(data)
    if _number(data, order, code, first) != place:
        with stream.getbuffer() as view:
            struct.pack_into(order + code, view, first, place)
    return stream


def _tifffile_reads(page: tifffile.TiffPage) -> bool:
    """Whether tifffile decodes a page by itself: other compressions and types need plug-ins."""
    whole = page.bitspersample in (8, 16, 32, 64) and page.dtype is not None and page.imagedepth == 1
    return whole and page.compression in (1, *_DEFLATE) and page.predictor in (1, 2)


def _pillow_reads(page: tifffile.TiffPage, bits: int) -> bool:
    """Whether Pillow gives the numbers of a grey page as they are."""
    if page.photometric != _MIN_IS_BLACK:
        return False
    little = page.parent.byteorder == "<"
    wide = little and (page.sampleformat, bits) in ((_SIGNED, 16), (_SIGNED, 32), (_FLOAT, 32))
    return wide or (page.sampleformat == _UNSIGNED and bits in (12, 16))


def _by_pillow(stream: io.BytesIO, page: tifffile.TiffPage) -> Image.Image:
    if page.compression not in TiffImagePlugin.COMPRESSION_INFO:
        raise _unsupported(page)
    stream.seek(0)
    try:
        image = Image.open(stream, formats=["TIFF"])
    except Image.UnidentifiedImageError:
        raise _unsupported(page) from None
    forget_xmp(image)
    image.load()  # turns it too
    return image.convert("LA") if image.mode == "La" else image


def _unsupported(page: tifffile.TiffPage) -> Rejected:
    kind = f"{page.samplesperpixel} samples of {page.bitspersample} bits, sample format {int(page.sampleformat)}"
    coding = f"compression {int(page.compression)}, photometric interpretation {int(page.photometric)}"
    return Rejected("unsupported_type", f"TIFF of {kind}, {coding}: save it as PNG, or without compression")


def _check_segments(page: tifffile.TiffPage, data: bytes) -> None:
    """Refuse strips and tiles that are cut off, or that unpack to more than they stand for: tifffile does neither."""
    height, width = page.imagelength, page.imagewidth
    rows = page.tilelength if page.is_tiled else max(1, min(page.rowsperstrip or height, height))
    across = -(-width // page.tilewidth) if page.is_tiled else 1
    down = -(-height // rows)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    row_bytes = (page.tilewidth if page.is_tiled else width) * page.bitspersample // 8
    row_bytes *= page.samplesperpixel if page.planarconfig == 1 else 1
    if len(page.dataoffsets) < planes * across * down:
        raise Rejected("truncated", f"TIFF with {len(page.dataoffsets)} of {planes * across * down} strips or tiles")
    for number, (place, size) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=False)):
        needed = row_bytes * (rows if page.is_tiled else min(rows, height - number % down * rows))
        stored = data[place : place + size]
        if page.compression in _DEFLATE:
            stored = zlib.decompressobj().decompress(stored, rows * row_bytes + 1)
            if len(stored) > rows * row_bytes:
                raise Rejected("corrupt", "TIFF with a strip or tile that unpacks to more than its pixels")
        if len(stored) < needed:
            raise Rejected("truncated", f"TIFF with {len(stored)} of {needed} bytes of a strip or tile")


def _bright_is_more(values: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    if page.photometric != _MIN_IS_WHITE:
        return values
    if values.dtype.kind == "u":
        return np.iinfo(values.dtype).max - values
    return -values.astype(np.float64)


def _colour(values: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    """Channels last, alpha behind them; the upper 8 bits."""
    if values.dtype not in (np.uint8, np.uint16):
        raise _unsupported(page)
    values = values if page.planarconfig == 1 else np.moveaxis(values, 0, -1)
    return values if values.dtype == np.uint8 else (values >> 8).astype(np.uint8)


def _as_pillow(values: np.ndarray) -> Image.Image | np.ndarray:
    return Image.fromarray(np.ascontiguousarray(values)) if values.dtype == np.uint8 else values
