"""EXIF orientation: pixels by hand and by PIL.ImageOps, boxes by the masks that they enclose."""

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps, PngImagePlugin

from models.geometry import box_of_mask
from models.orientation import turned, turned_box, turned_size
from models.served import open_picture
from pipelines.images import decode, decode_mask
from tests.pipelines.formats.shown import decode_picture, decode_turned_mask
from tests.pipelines.test_images import encoded

# 1 2 3
# 4 5 6, as each orientation shows it: where its first stored row and column lie is the legend of tag 274.
SHOWN = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}
NOISE = np.random.default_rng(1).integers(0, 256, (24, 40), dtype=np.uint8)
KINDS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95},
    "TIFF": {},
    "WEBP": {"lossless": True},
}


def exif(orientation: Any) -> Image.Exif:
    block = Image.Exif()
    block[274] = orientation
    return block


@pytest.mark.parametrize("orientation", SHOWN)
def test_pixels_by_hand(orientation: int) -> None:
    stored = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    assert turned(stored, orientation).tolist() == SHOWN[orientation]
    assert turned(np.stack([stored] * 3, -1), orientation)[..., 2].tolist() == SHOWN[orientation]
    assert decode_mask(encoded(stored, "PNG", exif=exif(orientation))).values.tolist() == SHOWN[orientation]
    assert turned_size(3, 2, orientation) == np.array(SHOWN[orientation]).shape[::-1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", SHOWN)
def test_every_format_is_turned_as_pillow_turns_it(kind: str, orientation: int) -> None:
    picture = Image.fromarray(np.stack([NOISE, NOISE[::-1], 255 - NOISE], -1))
    data = encoded(picture, kind, exif=exif(orientation), **KINDS[kind])
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    found = decode_picture(data)
    assert (found.orientation, found.image.mode) == (orientation, "RGB")
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(expected))
    assert b"eXIf" not in encoded(found.image, "PNG")  # or a viewer would turn an exported picture once more
    if kind in ("PNG", "JPEG"):
        np.testing.assert_array_equal(np.asarray(open_picture(data)), np.asarray(expected))


@pytest.mark.parametrize("orientation", SHOWN)
def test_a_box_is_turned_as_its_pixels_are(orientation: int) -> None:
    stored = np.zeros((24, 40), np.uint8)
    stored[3:11, 7:32] = 255
    shown = turned(stored, orientation)
    height, width = shown.shape
    assert turned_box((7, 3, 32, 11), width, height, orientation) == box_of_mask(shown > 0)


def test_a_box_by_hand() -> None:
    # The case of a camera held upright: a quarter turn clockwise, of 100 x 60 stored pixels.
    assert turned_box((20, 10, 50, 40), 60, 100, 6) == (20, 20, 50, 50)
    assert turned_box((0.5, 10, 50, 40.25), 60, 100, 8) == (10, 50, 40.25, 99.5)


@pytest.mark.parametrize(
    "block", [exif(0), exif(9), b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0not TIFF", b""]
)
def test_a_block_that_says_nothing_turns_nothing(block: Any) -> None:
    found = decode_picture(encoded(NOISE, "JPEG", exif=block))
    assert (found.orientation, found.image.size) == (1, (40, 24))


def test_masks_are_turned_by_their_own_orientation_or_else_by_their_images() -> None:
    stored = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    plain, upright, own = (
        encoded(stored, "PNG"),
        encoded(stored, "PNG", exif=exif(1)),
        encoded(stored, "PNG", exif=exif(6)),
    )
    for data in (plain, upright):
        assert decode_mask(data).values.tolist() == SHOWN[1]
        assert decode_turned_mask(data, 8).values.tolist() == SHOWN[8]
    assert decode_mask(own).values.tolist() == decode_turned_mask(own, 8).values.tolist() == SHOWN[6]
    tiff = encoded(stored, "TIFF", tiffinfo={274: 5})
    assert decode_mask(tiff).values.tolist() == decode_turned_mask(tiff, 8).values.tolist() == SHOWN[5]
    assert decode_turned_mask(encoded(stored, "TIFF"), 7).values.tolist() == SHOWN[7]


def test_a_tiff_of_numbers_is_turned_too() -> None:
    values = np.array([[-3, 100, 2000], [40, 5, 6]], np.int16)
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, metadata=None, extratags=[(274, 3, 1, 6, True)])
    assert decode_mask(stream.getvalue()).values.tolist() == [[40, -3], [5, 100], [6, 2000]]
    assert decode(stream.getvalue()).size == (2, 3)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_xmp_turns_nothing(kind: str) -> None:
    beside = PngImagePlugin.PngInfo()
    beside.add_itxt("XML:com.adobe.xmp", XMP.decode())
    options: dict[str, dict[str, Any]] = {"PNG": {"pnginfo": beside}, "TIFF": {"tiffinfo": {700: XMP}}}
    data = encoded(NOISE, kind, **options.get(kind, {"xmp": XMP}))
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size == (24, 40)  # Pillow by itself turns it
    found = decode_picture(data)
    assert (found.orientation, found.image.size) == (1, (40, 24))


def test_the_first_of_several_values_counts_in_a_tiff() -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, NOISE, metadata=None, extratags=[(274, 3, 2, (6, 6), True)])
    found = decode_picture(stream.getvalue())
    assert (found.orientation, found.image.size) == (6, (24, 40))
