"""DICOM files as pictures: frames in 8 bits, as their files ask to show them.

`dicom_file` reads headers, `dicom_values` the stored values of a frame (`dicom_codecs`: compressed ones),
`dicom_tables` lookup tables; `dicom_display` makes grey levels.
"""

import numpy as np

from pipelines.errors import Rejected
from pipelines.formats.dicom_display import grey_levels
from pipelines.formats.dicom_file import elements, read
from pipelines.formats.dicom_tables import palette
from pipelines.formats.dicom_values import stored_values
from pipelines.formats.limits import check_frame, check_pixels


def states_burned_in(data: bytes) -> bool:
    """Whether BurnedInAnnotation (0028,0301) is YES: pixels hold text that identifies the patient (PS3.3 C.7.6.1)."""
    return str(elements(data, ["BurnedInAnnotation"]).get("BurnedInAnnotation") or "").strip(" \0").upper() == "YES"


def dicom_frames(data: bytes) -> int:
    return read(data).frames


def dicom_pixels(data: bytes, frame: int | None, max_pixels: int) -> np.ndarray:
    """One frame, ready to be shown: uint8, (height, width) or, in colour, (height, width, 3).

    Raises:
        Rejected: As `pipelines.images` says.
    """
    file = read(data)
    header = file.header
    if not header.get("Rows") or not header.get("Columns"):
        raise Rejected("unsupported_type", "DICOM without the size of its pixels")
    check_pixels(int(header.Columns), int(header.Rows), max_pixels)
    index = check_frame(frame, file.frames)
    values = stored_values(file, index)
    if values.ndim == 3:
        return _upper_bits(values, int(header.get("BitsStored") or values.dtype.itemsize * 8))
    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        return palette(values, header)
    return grey_levels(values, header, index)


def _upper_bits(colours: np.ndarray, stored: int) -> np.ndarray:
    """Colours of up to 32 bits in 8: the upper ones, as Pillow keeps those of PNG and TIFF."""
    return (colours >> max(stored - 8, 0)).astype(np.uint8)
