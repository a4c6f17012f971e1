"""Lookup tables of DICOM files: modality and VOI tables of grey values, palettes of colours."""

from typing import NamedTuple

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut

from pipelines.errors import Rejected

_COLOURS = ("Red", "Green", "Blue")


class LookupTable(NamedTuple):
    """A lookup table.

    Attributes:
        first: The value to which the first entry belongs; those below have it too.
        entries: Integers; values above the last have the last.
        bits: Of an entry, as the descriptor says.
    """

    first: int
    entries: np.ndarray
    bits: int

    def of(self, values: np.ndarray) -> np.ndarray:
        places = np.clip(values - np.float64(self.first), 0, len(self.entries) - 1)
        return self.entries[places.astype(np.intp)]


def grey_table(item: pydicom.Dataset, signed: bool) -> LookupTable:
    """A table of a modality or VOI LUT sequence (PS3.3 C.11.1.1, C.11.2.1.1).

    Args:
        item: The item with LUTDescriptor and LUTData.
        signed: Whether the values that go in can be negative.
    """
    return _table(item["LUTDescriptor"].value, item["LUTData"].value, signed, _is_little(item))


def palette(values: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """Colours of palette indices (PS3.3 C.7.6.3.1.5 and C.7.6.3.1.6).

    Entries of 8 bits may lie two in a word or one in a word, and entries of 16 bits may hold no more than 8. Of 16 bits
    the upper 8 are kept.

    Args:
        values: Integers, (height, width).
        header: With the palette, which may be one of segments (PS3.3 C.7.9.2).

    Returns:
        uint8, (height, width, 3).
    """
    signed = header.get("PixelRepresentation") == 1
    tables = []
    for colour in _COLOURS:
        descriptor = header[f"{colour}PaletteColorLookupTableDescriptor"].value
        if f"{colour}PaletteColorLookupTableData" in header:
            data = header[f"{colour}PaletteColorLookupTableData"].value
            tables.append(_table(descriptor, data, signed, _is_little(header)))
    if not tables:
        count, first, bits = _described(header["RedPaletteColorLookupTableDescriptor"].value, signed)
        ramp = np.arange(first, first + count).reshape(1, -1)
        segments = apply_color_lut(ramp, header)[0]
        tables = [LookupTable(first, segments[:, colour], bits) for colour in range(3)]
    deep = any(table.entries.max() > 255 for table in tables)
    return np.stack([table.of(values) >> (8 if deep else 0) for table in tables], axis=-1).astype(np.uint8)


def _is_little(item: pydicom.Dataset) -> bool:
    return item.original_encoding[1] is not False


def _described(descriptor: list[int], signed: bool) -> tuple[int, int, int]:
    """Number of entries, first value, bits of an entry; the second alone may be negative, whatever the file says."""
    count, first, bits = (int(value) & 0xFFFF for value in descriptor)
    return count or 65536, first - 65536 if signed and first >= 32768 else first, bits


def _table(descriptor: list[int], data: bytes | int | list[int], signed: bool, little: bool) -> LookupTable:
    count, first, bits = _described(descriptor, signed)
    if not isinstance(data, bytes):
        entries = np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF
        data, little = entries.astype("<u2").tobytes(), True
    words = np.frombuffer(data + bytes(len(data) % 2), dtype="<u2" if little else ">u2")
    if len(data) < 2 * count and (bits <= 8 or len(data) - count in (0, 1)):
        words = words.astype("<u2").view(np.uint8)  # two entries in a word, the first in its lower half
    if not len(words):
        raise Rejected("corrupt", "an empty lookup table")
    return LookupTable(first, words[:count].astype(np.int64), bits)
