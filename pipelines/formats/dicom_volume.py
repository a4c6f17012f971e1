"""Slices of a DICOM series, or frames of a file, that lie behind one another, as one `Volume`.

Reason codes of `Rejected`: unplaced (a slice does not say where it lies), uneven_slices (they are no even stack: one is
missing or lies twice, they differ in size or direction, or are shifted against each other, as by a tilted gantry),
unsupported_type (colour), and those of the slices' own pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import Rejected, item_boundary
from pipelines.formats.dicom_display import VoiTable, Window, displayed, inverted, modality_values, padded, voi
from pipelines.formats.dicom_file import DicomFile, read
from pipelines.formats.dicom_plane import dicom_planes
from pipelines.formats.dicom_values import stored_values
from pipelines.formats.limits import MAX_SLICES
from pipelines.formats.space import Affine, Plane, spacing
from pipelines.formats.volumes import Volume

# Share of the distance of two slices by which one may lie beside its place. Scanners round places to hundredths of a
# millimetre; a missing slice is off by a whole distance, a gantry tilted by 3 degrees by a twentieth.
_OFF_PLACE = 0.05
# Share of the distance of pixels by which directions and distances differ that are the same but for rounding.
_SAME = 1e-3
# Share of the largest distance of two slices below which two lie at one place.
_AT_ONE_PLACE = 0.1


class _Slice(NamedTuple):
    file: DicomFile
    frame: int
    plane: Plane


@dataclass(frozen=True, kw_only=True)
class _Display:
    """What a stack asks for, as its slice in the middle says it (`pipelines.formats.dicom_display.displayed`)."""

    asked: Window | VoiTable | None
    bits: int
    is_inverted: bool
    is_bytes: bool


def stacked(files: Sequence[bytes]) -> Volume:
    """The volume of a stack.

    Its values are those in the modality's unit, such as HU; padding is NaN. Slices that lie at one place, each as often
    as the others, are several volumes, as in a time series.

    Args:
        files: One file a slice, or one file of all; those of a time series in the order of time.

    Raises:
        Rejected: The module's docstring lists the reason codes.
    """
    opened = [read(data) for data in files]
    slices = [
        _placed(file, frame, plane)
        for file, data in zip(opened, files, strict=True)
        for frame, plane in enumerate(_planes(data, file.frames))
    ]
    if len(slices) > MAX_SLICES:
        raise Rejected("file_too_large", f"{len(slices)} slices, at most {MAX_SLICES}")
    places = _by_place(slices)
    first, middle = places[0][0], places[len(places) // 2][0]
    shape = (first.plane.width, first.plane.height, len(places))
    return Volume(
        shape=shape,
        volumes=len(places[0]),
        dtype=np.dtype(np.float32),
        affine=_affine(places),
        unpack=lambda size: memoryview(_unpacked(places).ravel(order="K")).cast("B")[:size],
        grey=partial(_grey, display=_display(middle.file, middle.frame)),
    )


def _planes(data: bytes, frames: int) -> tuple[Plane | None, ...]:
    planes = dicom_planes(data)
    if len(planes) != min(frames, MAX_SLICES):
        raise Rejected("corrupt", f"the header says where {len(planes)} frames lie, and that there are {frames}")
    return planes


def _placed(file: DicomFile, frame: int, plane: Plane | None) -> _Slice:
    if plane is None:
        raise Rejected("unplaced", "a slice of the series does not say where in the patient it lies")
    return _Slice(file, frame, plane)


def _by_place(slices: Sequence[_Slice]) -> list[list[_Slice]]:
    """The slices along their normal, those at one place together."""
    first = slices[0].plane
    rounding = _SAME * spacing(first.affine)[:2].min()
    for plane in {id(one.plane): one.plane for one in slices}.values():
        size = (plane.width, plane.height) == (first.width, first.height)
        if not size or not np.allclose(plane.affine[:3, :2], first.affine[:3, :2], rtol=0, atol=rounding):
            raise Rejected("uneven_slices", "slices of one series differ in size, direction or distance of pixels")
    normal = np.cross(first.affine[:3, 0], first.affine[:3, 1])
    heights = np.array([one.plane.affine[:3, 3] for one in slices]) @ (normal / np.linalg.norm(normal))
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    # Slices at one place may differ by what was rounded away; those side by side do not.
    ends = np.flatnonzero(steps > _AT_ONE_PLACE * max(steps, default=0.0)) + 1
    places = [[slices[index] for index in sorted(part)] for part in np.split(order, ends)]
    if len(places) < 2:
        raise Rejected("uneven_slices", "the slices of the series lie at one place, or there is one alone")
    if len({len(place) for place in places}) > 1:
        raise Rejected("uneven_slices", "some slices of the series lie twice at one place, others do not")
    return places


def _affine(places: Sequence[Sequence[_Slice]]) -> Affine:
    """(column, row, slice, 1) -> world."""
    origins = np.array([place[0].plane.affine[:3, 3] for place in places])
    affine = places[0][0].plane.affine.copy()
    step = (origins[-1] - origins[0]) / (len(places) - 1)
    distance = float(np.linalg.norm(step))
    off = origins - (origins[0] + np.arange(len(places))[:, None] * step)
    sides = spacing(affine)[:2]
    along = np.abs(affine[:3, :2].T @ step) / sides
    if np.abs(off).max() > _OFF_PLACE * distance or along.max() > _OFF_PLACE * distance:
        raise Rejected("uneven_slices", "slices of the series are missing, or shifted against each other")
    affine[:3, 2] = step
    return affine


def _display(file: DicomFile, frame: int) -> _Display:
    header = file.header
    bits = int(header.get("BitsStored") or 0)
    # A rescale gives bytes another type.
    values = modality_values(np.zeros((1, 1), np.uint8), header, frame)
    return _Display(
        asked=voi(header, frame),
        bits=bits,
        is_inverted=inverted(header),
        is_bytes=bits == 8 and header.get("PixelRepresentation") == 0 and values.dtype == np.uint8,
    )


def _unpacked(places: list[list[_Slice]]) -> NDArray[np.float32]:
    """(columns, rows, slices, volumes), columns next to one another in memory; the files are let go."""
    plane = places[0][0].plane
    values = np.empty((plane.width, plane.height, len(places), len(places[0])), np.float32, order="F")
    with item_boundary():
        for k, place in enumerate(places):
            for volume, one in enumerate(place):
                values[:, :, k, volume] = _values(one.file, one.frame).T
    places.clear()
    return values


def _values(file: DicomFile, frame: int) -> NDArray[Any]:
    stored = stored_values(file, frame)
    if stored.ndim == 3 or file.header.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise Rejected("unsupported_type", "a series in colour has no slices along another axis")
    values = modality_values(stored, file.header, frame).astype(np.float32)
    values[padded(stored, file.header)] = np.nan
    return values


def _grey(values: NDArray[Any], display: _Display) -> NDArray[np.uint8]:
    padding = np.isnan(values)
    values = np.where(padding, 0, values)
    if display.is_bytes and values.min() >= 0 and values.max() <= 255:
        values = np.rint(values).astype(np.uint8)
    return displayed(values, padding, display.asked, display.bits, display.is_inverted)
