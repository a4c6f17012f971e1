"""From stored values of a grey DICOM frame to the grey levels that its file asks for (PS3.4 N.2, PS3.3 C.11)."""

import math
from typing import NamedTuple

import numpy as np
import pydicom

from models.preparation import scaled_linearly, to_8_bit
from pipelines.errors import Rejected, item_boundary
from pipelines.formats.dicom_tables import LookupTable, grey_table


class Window(NamedTuple):
    """A window of interest (PS3.3 C.11.2.1.2).

    Attributes:
        center: In values after the modality's table or rescale.
        width: Likewise; at least 1 for LINEAR, above 0 for the others.
        function: LINEAR, LINEAR_EXACT or SIGMOID.
    """

    center: float
    width: float
    function: str

    def of(self, values: np.ndarray) -> np.ndarray:
        """uint8 of the same shape."""
        if self.function == "SIGMOID":
            shown = 1 / (1 + np.exp(np.clip(-4 * (values - self.center) / self.width, -700, 700)))
        elif self.function == "LINEAR_EXACT":
            shown = (values - self.center) / self.width + 0.5
        elif self.width == 1:
            shown = np.where(values > self.center - 0.5, 1.0, 0.0)
        else:
            shown = (values - (self.center - 0.5)) / (self.width - 1) + 0.5
        return scaled_linearly(shown, 0, 1)


class VoiTable(NamedTuple):
    """A VOI lookup table (PS3.3 C.11.2.1.1)."""

    table: LookupTable

    def of(self, values: np.ndarray) -> np.ndarray:
        """uint8 of the same shape."""
        entries = self.table.entries
        # Where a descriptor says too few bits, the entries themselves say how many.
        bits = max(self.table.bits, int(entries.max()).bit_length())
        return scaled_linearly(self.table.of(values), 0, 2**bits - 1)


def grey_levels(stored: np.ndarray, header: pydicom.Dataset, index: int) -> np.ndarray:
    """A grey frame as its file asks to show it.

    Args:
        stored: Stored values, (height, width).
        header: With the functional groups where the file has them.
        index: Which frame it is, from 0.

    Returns:
        uint8, (height, width), dense bright. Padding is 0.

    Raises:
        Rejected: flat_picture where the file's window or table gives one level to values that differ.
    """
    padding = padded(stored, header)
    values = modality_values(stored, header, index)
    return displayed(values, padding, voi(header, index), int(header.get("BitsStored") or 0), inverted(header))


def displayed(
    values: np.ndarray, padding: np.ndarray, asked: Window | VoiTable | None, bits: int, is_inverted: bool
) -> np.ndarray:
    """Grey levels of values in the modality's unit.

    Args:
        values: (height, width).
        padding: Which of them only fill the frame: bool, (height, width).
        asked: What the file asks for.
        bits: Of a stored value; without a window values of one bit and of eight need no stretching.
        is_inverted: Low values are bright.

    Returns:
        As `grey_levels`.
    """
    levels = np.zeros(values.shape, np.uint8)
    levels[~padding] = _levels(values[~padding], asked, bits)
    if is_inverted:
        levels = 255 - levels
    levels[padding] = 0
    return levels


def _levels(values: np.ndarray, asked: Window | VoiTable | None, bits: int) -> np.ndarray:
    if not values.size:
        return values.astype(np.uint8)
    if asked is None:
        if bits == 1:
            return (values != 0).astype(np.uint8) * np.uint8(255)
        return values if values.dtype == np.uint8 and bits == 8 else to_8_bit(values)
    shown = asked.of(values)
    if shown.min() == shown.max() and values.min() != values.max():
        raise Rejected("flat_picture", f"all pixels get the level {shown.min()} from the window or table of the file")
    return shown


def padded(stored: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """Which pixels only fill the frame (PS3.3 C.7.5.1.1.2) or hold no number: bool, (height, width)."""
    if stored.dtype.kind == "f":
        name = "FloatPixelPadding" if stored.dtype.itemsize == 4 else "DoubleFloatPixelPadding"
        padding = ~np.isfinite(stored)
    else:
        name, padding = "PixelPadding", np.zeros(stored.shape, bool)
    value, limit = _first(header, f"{name}Value"), _first(header, f"{name}RangeLimit")
    if value is None:
        return padding
    low, high = sorted(_as_stored(end, stored) for end in (value, value if limit is None else limit))
    return padding | ((stored >= low) & (stored <= high))


def _as_stored(value: float, stored: np.ndarray) -> float:
    """A padding value with the sign of the stored ones: files write -2000 as 63536, and the other way round."""
    if stored.dtype.kind == "i" and value > np.iinfo(stored.dtype).max:
        return value - 2.0 ** (8 * stored.dtype.itemsize)
    if stored.dtype.kind == "u" and value < 0:
        return value + 2.0 ** (8 * stored.dtype.itemsize)
    return value


def modality_values(stored: np.ndarray, header: pydicom.Dataset, index: int) -> np.ndarray:
    """Values in the modality's unit, such as HU (PS3.3 C.11.1, C.7.6.16.2.9): (height, width).

    A rescale that changes nothing leaves the type of the values.
    """
    item = frame_group(header, index, "PixelValueTransformationSequence")
    if tables := item.get("ModalityLUTSequence"):
        return grey_table(tables[0], header.get("PixelRepresentation") == 1).of(stored)
    slope, intercept = _first(item, "RescaleSlope") or 1.0, _first(item, "RescaleIntercept") or 0.0
    return stored if (slope, intercept) == (1, 0) else stored.astype(np.float64) * slope + intercept


def voi(header: pydicom.Dataset, index: int) -> Window | VoiTable | None:
    """The first valid table or else window of a frame (PS3.3 C.11.2, C.7.6.16.2.10); None where there is none."""
    item = frame_group(header, index, "FrameVOILUTSequence")
    for entry in item.get("VOILUTSequence") or ():
        try:
            with item_boundary():
                return VoiTable(grey_table(entry, _can_be_negative(header, index)))
        except Rejected:
            continue
    function = str(item.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in ("LINEAR_EXACT", "SIGMOID"):
        function = "LINEAR"
    for center, width in zip(_numbers(item, "WindowCenter"), _numbers(item, "WindowWidth"), strict=False):
        valid = width >= 1 or (width > 0 and function != "LINEAR")
        if valid and math.isfinite(center) and math.isfinite(width):
            return Window(center, width, function)
    return None


def _can_be_negative(header: pydicom.Dataset, index: int) -> bool:
    intercept = _first(frame_group(header, index, "PixelValueTransformationSequence"), "RescaleIntercept") or 0
    return header.get("PixelRepresentation") == 1 or intercept < 0


def inverted(header: pydicom.Dataset) -> bool:
    """Whether low values are bright (PS3.3 C.7.6.3.1.2, C.11.6)."""
    return header.get("PhotometricInterpretation") == "MONOCHROME1" or header.get("PresentationLUTShape") == "INVERSE"


def frame_group(header: pydicom.Dataset, index: int, sequence: str) -> pydicom.Dataset:
    """Where a frame's own values stand: its functional group, the shared one (PS3.3 C.7.6.16), or the header."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    for group in (*per_frame[index : index + 1], *shared[:1]):
        if found := group.get(sequence):
            return found[0]
    return header


def _numbers(item: pydicom.Dataset, keyword: str) -> list[float]:
    """The numbers of an element; none where it is absent, empty or holds something else."""
    try:
        with item_boundary():
            value = item.get(keyword)
            values = [] if value in (None, "") else [value] if isinstance(value, int | float | str) else list(value)
            return [float(number) for number in values]
    except Rejected:
        return []


def _first(item: pydicom.Dataset, keyword: str) -> float | None:
    """The first number of an element, where it has a finite one."""
    numbers = _numbers(item, keyword)
    return numbers[0] if numbers and math.isfinite(numbers[0]) else None
