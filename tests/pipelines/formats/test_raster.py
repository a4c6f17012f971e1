"""BMP, GIF, WebP, JPEG 2000 and PNG: as pictures and as masks, told by their bytes, whole and damaged."""

import contextlib
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from pipelines.errors import Rejected
from pipelines.images import decode, decode_mask, frame_count_of
from tests.pipelines.formats.shown import decode_picture
from tests.pipelines.test_images import encoded, mode_or_reason, refusal

NOISE = np.random.default_rng(3).integers(0, 256, (40, 60), dtype=np.uint8)
COLOUR = np.stack([NOISE, NOISE[::-1], 255 - NOISE], axis=-1)
LABELS = np.zeros((64, 64), np.uint8)
LABELS[13:50, 13:50] = 255
LABELS[20:30, 20:30] = 7

LOSSLESS: dict[str, tuple[str, dict[str, Any]]] = {
    "bmp": ("BMP", {}),
    "webp": ("WEBP", {"lossless": True}),
    "jp2": ("JPEG2000", {}),
    "j2k": ("JPEG2000", {"no_jp2": True}),
    "png": ("PNG", {}),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_values_stay_as_stored(name: str) -> None:
    kind, options = LOSSLESS[name]
    data = encoded(COLOUR, kind, **options)
    np.testing.assert_array_equal(np.asarray(decode(data)), COLOUR)
    assert (frame_count_of(data), decode_picture(data).further_pages) == (1, 0)
    grey = decode(encoded(NOISE, kind, **options))
    np.testing.assert_array_equal(np.asarray(grey.convert("L")), NOISE)
    stored = decode_mask(encoded(LABELS, kind, **options))
    assert not stored.lossy
    np.testing.assert_array_equal(stored.values, LABELS)
    with pytest.raises(Rejected, match="unsupported_type: a mask in colour"):
        decode_mask(data)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 60}),
        ("WEBP", {"quality": 50}),
        ("WEBP", {"quality": 50, "exif": b"Exif\0\0II*\0"}),  # a file with further chunks
        ("JPEG2000", {"irreversible": True, "quality_mode": "rates", "quality_layers": [4]}),
    ],
)
def test_formats_that_lose_values_say_so(kind: str, options: dict[str, Any]) -> None:
    for image in (Image.fromarray(LABELS), Image.fromarray(LABELS).convert("RGB")):
        stored = decode_mask(encoded(image, kind, **options))
        assert stored.lossy
        assert np.abs(stored.values.astype(int) - LABELS).mean() < 8


def test_deep_grey_of_jpeg_2000() -> None:
    values = np.arange(1001, dtype=np.uint16).reshape(7, 143) + 3000
    data = encoded(values, "JPEG2000")
    np.testing.assert_array_equal(decode_mask(data).values, values)
    assert np.asarray(decode(data)).ravel()[500] == round((3500 - 3005) / 990 * 255)


def animation(kind: str, **options: Any) -> bytes:
    frames = [Image.fromarray(page) for page in (NOISE, 255 - NOISE, NOISE[::-1])]
    if kind == "WEBP":
        frames = [frame.convert("RGB") for frame in frames]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True})])
def test_the_first_frame_of_an_animation_unless_another_is_named(kind: str, options: dict[str, Any]) -> None:
    data = animation(kind, **options)
    assert (frame_count_of(data), decode_picture(data).further_pages) == (3, 2)
    for frame, page in ((None, NOISE), (0, NOISE), (1, 255 - NOISE), (2, NOISE[::-1])):
        np.testing.assert_array_equal(np.asarray(decode(data, frame).convert("L")), page)
        np.testing.assert_array_equal(decode_mask(data, frame).values, page)
    assert refusal(data, 3) == "missing_frame"


def test_an_animated_png_is_its_first_picture() -> None:
    data = animation("PNG")
    assert (frame_count_of(data), refusal(data, 1)) == (1, "missing_frame")
    np.testing.assert_array_equal(np.asarray(decode(data)), NOISE)


@pytest.mark.parametrize("kind", ["GIF", "BMP"])
def test_a_palette_of_greys_is_grey_and_of_colours_is_labels(kind: str) -> None:
    indices = Image.fromarray(np.tile(np.arange(2, dtype=np.uint8), (4, 2)))
    for palette, expected in (([255] * 3 + [0] * 3, [255, 0, 255, 0]), ([255, 0, 0, 0, 255, 0], [0, 1, 0, 1])):
        image = Image.frombytes("P", indices.size, indices.tobytes())
        image.putpalette(palette)
        assert decode_mask(encoded(image, kind)).values.tolist() == [expected] * 4


def test_bmp_of_one_bit() -> None:
    square = LABELS > 0
    assert (decode_mask(encoded(square, "BMP")).values == np.where(square, 255, 0)).all()


def test_colour_of_16_bits_keeps_its_upper_8() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    deep = (COLOUR.astype(np.uint16) * 256 + 201).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60, 40, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(np.asarray(decode(data)), COLOUR)
    with pytest.raises(Rejected, match="unsupported_type"):  # labels 0 and 1 would both become 0
        decode_mask(data)


def test_colour_profiles_are_ignored() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        data = encoded(COLOUR, kind, icc_profile=profile, **options)
        np.testing.assert_array_equal(np.asarray(decode(data)), COLOUR)


WHOLE = {
    "gif": encoded(NOISE, "GIF"),
    "animated gif": animation("GIF"),
    "bmp": encoded(COLOUR, "BMP"),
    "webp": encoded(COLOUR, "WEBP"),
    "lossless webp": encoded(COLOUR, "WEBP", lossless=True),
    "jp2": encoded(NOISE, "JPEG2000"),
    "j2k": encoded(NOISE, "JPEG2000", no_jp2=True),
}


@pytest.mark.parametrize("name", WHOLE)
def test_files_that_are_cut_off_or_too_large(name: str) -> None:
    data = WHOLE[name]
    parts = (0.1, 0.2, 0.3) if name == "animated gif" else (0.2, 0.5, 0.9)
    assert {refusal(data[: int(len(data) * part)]) for part in parts} <= {"truncated", "corrupt"}
    assert refusal(data, max_pixels=40 * 60 - 1) == "too_many_pixels"
    assert decode(data, max_pixels=40 * 60).size == (60, 40)


@pytest.mark.parametrize(("name", "place", "code"), [("gif", 6, "<HH"), ("bmp", 18, "<ii"), ("j2k", 8, ">II")])
def test_sizes_are_checked_before_pixels_are_decoded(name: str, place: int, code: str) -> None:
    data = bytearray(WHOLE[name])
    struct.pack_into(code, data, place, 60_000, 60_000)
    assert refusal(bytes(data)) == "too_many_pixels"


def test_two_letters_make_no_bmp() -> None:
    assert refusal(b"BMI,age\n" + b"31,40\n" * 9) == "unsupported_type"
    assert refusal(b"RIFF\x24\0\0\0WAVEfmt ") == "unsupported_type"


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_bytes_give_a_picture_or_a_reason(name: str, damages: list[tuple[float, int]]) -> None:
    data = bytearray(WHOLE[name])
    for place, value in damages:
        data[int(place**3 * len(data))] = value
    reasons = {"corrupt", "truncated", "unsupported_type", "too_many_pixels", "missing_frame"}
    assert mode_or_reason(bytes(data)) in {"L", "RGB"} | reasons
    with contextlib.suppress(Rejected):  # nothing else
        decode_mask(bytes(data))
