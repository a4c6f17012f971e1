"""Where the pictures of a DICOM file lie: PS3.3 C.7.6.2 (Image Plane) and, by frame, C.7.6.16.2.3 and .4."""

import numpy as np
import pydicom

from pipelines.errors import Rejected
from pipelines.formats.dicom_file import elements
from pipelines.formats.limits import MAX_SLICES
from pipelines.formats.space import Plane, check_affine, from_lps

_KEYWORDS = [
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "NumberOfFrames",
    "Columns",
    "PerFrameFunctionalGroupsSequence",
    "PixelSpacing",
    "Rows",
    "SharedFunctionalGroupsSequence",
    "SliceThickness",
    "SpacingBetweenSlices",
]


def dicom_planes(data: bytes) -> tuple[Plane | None, ...]:
    """The plane of each frame; None where the header does not say where it lies."""
    header = elements(data, _KEYWORDS)
    shared = list(header.get("SharedFunctionalGroupsSequence") or ())
    by_frame = list(header.get("PerFrameFunctionalGroupsSequence") or ())
    if not by_frame and not shared:
        # Without functional groups a file of several frames says at most where its first one lies.
        return (_plane(header, [header]), *[None] * (int(header.get("NumberOfFrames") or 1) - 1))
    if not by_frame:  # all lie at one place, and a header of a few bytes may claim millions
        frames = min(int(header.get("NumberOfFrames") or 1), MAX_SLICES)
        return (_plane(header, shared),) * frames
    return tuple(_plane(header, [of_frame, *shared]) for of_frame in by_frame)


def _plane(header: pydicom.Dataset, places: list[pydicom.Dataset]) -> Plane | None:
    """A plane of what the header itself, or the functional groups of a frame, say."""
    position = _numbers(places, "PlanePositionSequence", "ImagePositionPatient", 3)
    orientation = _numbers(places, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _numbers(places, "PixelMeasuresSequence", "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None:
        return None
    along_row, along_column = orientation[:3], orientation[3:]
    normal = np.cross(along_row, along_column)
    thickness = _numbers(places, "PixelMeasuresSequence", "SpacingBetweenSlices", 1)
    if thickness is None or not thickness[0] > 0:
        thickness = _numbers(places, "PixelMeasuresSequence", "SliceThickness", 1)
    step = 1.0 if thickness is None or not thickness[0] > 0 else float(thickness[0])
    affine = np.eye(4)
    # PixelSpacing is the distance of rows, then that of columns (10.7.1.3).
    affine[:3, :] = np.stack([along_row * spacing[1], along_column * spacing[0], normal * step, position], axis=1)
    try:
        check_affine(affine)
    except Rejected:
        return None
    return Plane(affine=from_lps(affine), width=int(header.Columns), height=int(header.Rows))


def _numbers(places: list[pydicom.Dataset], group: str, name: str, count: int) -> np.ndarray | None:
    for place in places:
        for holder in (place, *(place.get(group) or ())):
            value = holder.get(name)
            if value not in (None, ""):
                try:
                    numbers = np.atleast_1d(np.array(value, np.float64))
                except (TypeError, ValueError):  # what is no number places nothing
                    return None
                return numbers if numbers.shape == (count,) else None
    return None
