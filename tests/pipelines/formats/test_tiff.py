"""TIFF: which pages are pictures, numbers of every type against what was written, and damaged files."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from models.preparation import to_8_bit
from pipelines.errors import Rejected
from pipelines.formats import tiff
from pipelines.images import decode, decode_mask, frame_count_of
from tests.pipelines.formats.shown import decode_picture
from tests.pipelines.test_images import encoded, refusal

RANDOM = np.random.default_rng(2)
NOISE = RANDOM.integers(0, 256, (50, 70), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (50, 70, 3), dtype=np.uint8)


def written(values: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, metadata=None, **options)
    return stream.getvalue()


def pages(*values: tuple[np.ndarray, dict[str, Any]], **options: Any) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, **options) as file:
        for page, settings in values:
            file.write(page, metadata=None, **settings)
    return stream.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(tiff.read_page(data, tiff.pictures(data)[0], 10_000).pixels)


def numbers(dtype: str) -> np.ndarray:
    if np.dtype(dtype).kind == "f":
        return RANDOM.normal(0, 100, (50, 70)).astype(dtype)
    limits = np.iinfo(dtype)
    return RANDOM.integers(limits.min, limits.max, (50, 70), dtype=dtype, endpoint=True)


LAYOUTS: list[dict[str, Any]] = [
    {},
    {"byteorder": ">", "rowsperstrip": 7},
    {"byteorder": ">", "compression": "deflate", "rowsperstrip": 7},
    {"byteorder": "<", "compression": "deflate", "tile": (32, 16), "bigtiff": True},
    {"byteorder": ">", "tile": (32, 16), "bigtiff": True},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "f2", "f4", "f8"])
def test_numbers_are_those_that_were_written(dtype: str, layout: dict[str, Any]) -> None:
    values = numbers(dtype)
    data = written(values, photometric="minisblack", **layout)
    np.testing.assert_array_equal(pixels(data), values)
    expected = values if dtype == "u1" else to_8_bit(values)
    np.testing.assert_array_equal(np.asarray(decode(data)), expected)
    # The least value becomes the brightest.
    white = written(values, photometric="miniswhite", **layout)
    inverted = np.iinfo(values.dtype).max - values if values.dtype.kind == "u" else -values.astype(np.float64)
    np.testing.assert_array_equal(pixels(white), inverted)


def test_min_is_white_of_one_bit() -> None:
    square = np.zeros((20, 20), bool)
    square[3:9, 4:12] = True
    data = written(square, photometric="miniswhite")
    assert (decode_mask(data).values == np.where(square, 0, 255)).all()
    assert (np.asarray(decode(data)) == np.where(square, 0, 255)).all()
    fax = encoded(Image.fromarray(square), "TIFF", compression="group4")
    assert (decode_mask(fax).values == np.where(square, 255, 0)).all()


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("deep", [False, True])
def test_colour_in_planes_and_tiles(layout: dict[str, Any], planar: str, deep: bool) -> None:
    values = COLOUR.astype(np.uint16) * 256 + 77 if deep else COLOUR
    stored = np.moveaxis(values, -1, 0) if planar == "separate" else values
    data = written(stored, photometric="rgb", planarconfig=planar, **layout)
    np.testing.assert_array_equal(np.asarray(decode(data)), COLOUR)  # of 16 bits the upper 8
    if deep:
        with pytest.raises(Rejected, match="unsupported_type"):
            decode_mask(data)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4"])
def test_compressions_of_libtiff(compression: str, dtype: str) -> None:
    values = numbers(dtype)
    np.testing.assert_array_equal(pixels(encoded(values, "TIFF", compression=compression)), values)


def test_colour_spaces() -> None:
    red = Image.new("RGB", (8, 6), (254, 0, 0))
    assert decode(encoded(red.convert("CMYK"), "TIFF")).getpixel((0, 0)) == (254, 0, 0)
    for compression in ("raw", "jpeg"):
        data = encoded(red.convert("YCbCr"), "TIFF", compression=compression)
        assert np.ptp([decode(data).getpixel((0, 0)), (254, 0, 0)], axis=0).max() <= 2, compression
    # L* a* b* = 53.2, 80.1, 67.2 is the red of sRGB (CIE 1976, white D65).
    lab = encoded(Image.frombytes("LAB", (2, 2), bytes([136, 80, 67]) * 4), "TIFF")
    assert np.ptp([decode(lab).getpixel((0, 0)), (255, 0, 0)], axis=0).max() <= 25
    profile = encoded(red, "TIFF", icc_profile=b"any bytes")
    assert decode(profile).getpixel((0, 0)) == (254, 0, 0)


REDUCED = {"subfiletype": 1}


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"bigtiff": True, "byteorder": ">"}])
def test_a_pyramid_is_one_picture(options: dict[str, Any]) -> None:
    levels = [(COLOUR, {"photometric": "rgb", "subifds": 1}), (COLOUR[::2, ::2], {"photometric": "rgb", **REDUCED})]
    data = pages(
        *levels,
        (COLOUR[::4, ::4], {"photometric": "rgb", **REDUCED}),
        (NOISE > 99, {"photometric": "mask", "subfiletype": 4}),
        **options,
    )
    assert frame_count_of(data) == 1
    found = decode_picture(data)
    assert (found.image.size, found.further_pages) == ((70, 50), 0)
    assert refusal(data, 1) == "missing_frame"
    # An overview may come first.
    swapped = pages((COLOUR[::2, ::2], {"photometric": "rgb", **REDUCED}), (COLOUR, {"photometric": "rgb"}), **options)
    np.testing.assert_array_equal(np.asarray(decode(swapped)), COLOUR)


def test_the_forerunner_of_the_tag_and_a_lonely_overview() -> None:
    old = {"extratags": [(255, 3, 1, 2, True)]}
    data = pages((NOISE[:10], old), (NOISE, {"extratags": [(255, 3, 1, 3, True)]}), (255 - NOISE, {}))
    # tifffile writes NewSubfileType 0 as well, which says nothing beside it.
    assert frame_count_of(data) == 2
    assert decode(data).size == decode(data, 1).size == (70, 50)
    assert frame_count_of(pages((NOISE, REDUCED))) == 1


def test_pages_that_nobody_named_are_counted() -> None:
    values = [NOISE, 255 - NOISE, NOISE[::-1]]
    data = pages(*((page, {}) for page in values))
    first = decode_picture(data)
    assert first.further_pages == 2
    np.testing.assert_array_equal(np.asarray(first.image), NOISE)
    for number, page in enumerate(values):
        named = decode_picture(data, number)
        assert named.further_pages == 0
        np.testing.assert_array_equal(np.asarray(named.image), page)
        np.testing.assert_array_equal(decode_mask(data, number).values, page)
    assert refusal(data, 3) == "missing_frame"


def test_what_no_library_here_reads_is_a_kind_that_is_not_read() -> None:
    for values in (COLOUR.astype(np.float32), COLOUR.astype(np.uint32)):
        assert refusal(written(values, photometric="rgb")) == "unsupported_type"
    lzw = bytearray(encoded(NOISE, "TIFF", compression="tiff_lzw"))
    place = lzw.index(struct.pack("<HHI", 259, 3, 1)) + 8
    lzw[place : place + 2] = struct.pack("<H", 33005)  # JPEG 2000 of Aperio's slides
    assert refusal(bytes(lzw)) == "unsupported_type"


def field(data: bytes, tag: int, value: int) -> bytes:
    """The file with another value of a tag of its first directory."""
    changed = bytearray(data)
    place = next(at for at in range(10, len(data)) if struct.unpack_from("<HH", data, at) in ((tag, 3), (tag, 4)))
    struct.pack_into("<HHII", changed, place, tag, 4, 1, value)
    return bytes(changed)


def test_damaged_files() -> None:
    for values in (NOISE, NOISE.astype(np.int16), NOISE.astype(np.float64)):
        for options in ({}, {"compression": "deflate"}, {"rowsperstrip": 7}):
            whole = written(values, **options)
            for part in (0.3, 0.6, 0.95):
                assert refusal(whole[: int(len(whole) * part)]) in ("truncated", "corrupt"), (values.dtype, options)
    whole = written(NOISE)
    assert refusal(whole[:4] + struct.pack("<I", 10**6) + whole[8:]) == "truncated"
    assert refusal(whole[:4] + bytes(4) + whole[8:]) == "corrupt"
    assert refusal(field(whole, 256, 60_000)) in ("truncated", "corrupt")
    assert refusal(field(field(whole, 256, 60_000), 257, 60_000)) == "too_many_pixels"
    tiled = written(NOISE.astype(np.int16), tile=(32, 16))
    assert refusal(field(field(tiled, 322, 60_000), 323, 60_000)) == "too_many_pixels"
    # Whatever is said to be the next directory, a page that leads back to itself is one.
    (count,) = struct.unpack_from("<H", whole, 8)
    circle = whole[: 10 + 12 * count] + struct.pack("<I", 8) + whole[14 + 12 * count :]
    assert frame_count_of(circle) == 1


def test_a_strip_that_unpacks_to_more_than_its_pixels() -> None:
    values = np.zeros((50, 70), np.int16)
    data = bytearray(written(values, compression="deflate"))
    bomb = zlib.compress(bytes(20_000_000))
    (count,) = struct.unpack_from("<H", data, 8)
    data = bytearray(field(bytes(data), 273, len(data)))
    data = bytearray(field(bytes(data), 279, len(bomb)))
    assert count
    assert refusal(bytes(data) + bomb) == "corrupt"
