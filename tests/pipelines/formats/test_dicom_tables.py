"""Palettes in every way in which files hold them: PS3.3 C.7.6.3.1.5, C.7.6.3.1.6 and C.7.9, PS3.5 7.3."""

import io
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from pipelines.images import decode
from tests.pipelines.test_images import dicom, refusal

COLOURS = ("Red", "Green", "Blue")
INDEX = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (4, 1))
GREY = np.arange(256, dtype=np.uint16)


def palette_file(
    index: np.ndarray, tables: list[bytes], descriptor: list[int], big: bool = False, **elements: Any
) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(dicom(index, PhotometricInterpretation="PALETTE COLOR", **elements)))
    for colour, content in zip(COLOURS, tables, strict=True):
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", descriptor)
        dataset.add_new(f"{colour}PaletteColorLookupTableData", "OW", content)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian if big else ExplicitVRLittleEndian
    stream = io.BytesIO()
    plain = pydicom.Dataset(dataset)
    plain.file_meta = dataset.file_meta
    plain.save_as(stream, enforce_file_format=True, implicit_vr=False, little_endian=not big)
    return stream.getvalue()


def in_words(entries: np.ndarray, big: bool) -> bytes:
    return entries.astype(">u2" if big else "<u2").tobytes()


def bytes_in_words(entries: np.ndarray, big: bool) -> bytes:
    """Two entries of 8 bits in a word, the first in its lower half."""
    return in_words(entries[::2] | entries[1::2] << 8, big)


@pytest.mark.parametrize("big", [False, True], ids=["little", "big"])
@pytest.mark.parametrize(
    ("entries", "bits", "write"),
    [
        (GREY << 8, 16, in_words),
        (GREY << 8 | GREY, 16, in_words),
        (GREY, 8, bytes_in_words),
        (GREY, 8, in_words),
        (GREY, 16, in_words),  # 16 bits are said, 8 are used
        (GREY << 8, 8, in_words),  # the other way round
    ],
    ids=["16", "16 repeated", "8 packed", "8 in words", "8 called 16", "16 called 8"],
)
def test_one_palette_in_every_writing(entries: np.ndarray, bits: int, write: Any, big: bool) -> None:
    tables = [write(entries, big), write(entries[::-1], big), write(entries, big)]
    shown = np.asarray(decode(palette_file(INDEX, tables, [256, 0, bits], big)))
    np.testing.assert_array_equal(shown, np.stack([INDEX, 255 - INDEX, INDEX], axis=-1))


def test_values_before_and_after_the_table_take_its_ends() -> None:
    index = np.array([[0, 9, 10, 11, 12, 200]], np.uint8)
    tables = [np.array([low, low + 10, low + 20], "<u2").tobytes() for low in (0, 100, 200)]
    shown = np.asarray(decode(palette_file(index, tables, [3, 10, 8])))
    assert shown[0, :, 0].tolist() == [0, 0, 0, 10, 20, 20]
    assert shown[0, :, 2].tolist() == [200, 200, 200, 210, 220, 220]


def test_a_first_value_below_zero() -> None:
    index = np.array([[-300, -2, -1, 0, 1, 300]], np.int16)
    tables = [np.array([1, 2, 3, 4], "<u2").tobytes()] * 3
    shown = np.asarray(decode(palette_file(index, tables, [4, 0xFFFE, 8])))  # -2
    assert shown[0, :, 0].tolist() == [1, 1, 2, 3, 4, 4]


def test_no_entries_means_65536() -> None:
    index = np.array([[0, 256, 32768, 65535]], np.uint16)
    tables = [np.arange(65536, dtype="<u2").tobytes()] * 3
    shown = np.asarray(decode(palette_file(index, tables, [0, 0, 16])))
    assert shown[0, :, 1].tolist() == [0, 1, 128, 255]


def test_a_table_that_is_shorter_than_it_says_ends_with_its_last_entry() -> None:
    tables = [np.array([10 << 8, 20 << 8, 30 << 8], "<u2").tobytes()] * 3
    shown = np.asarray(decode(palette_file(np.array([[0, 2, 9]], np.uint8), tables, [16, 0, 16])))
    assert shown[0, :, 0].tolist() == [10, 30, 30]
    assert refusal(palette_file(INDEX, [b""] * 3, [256, 0, 16])) == "corrupt"


def test_a_palette_of_segments() -> None:
    # PS3.3 C.7.9.2: 4 discrete entries, then a line from the last of them to 255 in 4 steps.
    segments = [0, 4, 0, 10, 20, 55, 1, 4, 255]
    index = np.arange(8, dtype=np.uint8).reshape(1, 8)
    data = dicom(index, PhotometricInterpretation="PALETTE COLOR")
    dataset = pydicom.dcmread(io.BytesIO(data))
    for colour in COLOURS:
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [8, 0, 8])
        dataset.add_new(f"Segmented{colour}PaletteColorLookupTableData", "OW", bytes(segments) + b"\0")
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    shown = np.asarray(decode(stream.getvalue()))
    assert shown[0, :, 0].tolist() == [0, 10, 20, 55, 105, 155, 205, 255]


def test_a_palette_that_is_not_there() -> None:
    assert refusal(dicom(INDEX, PhotometricInterpretation="PALETTE COLOR")) == "corrupt"
