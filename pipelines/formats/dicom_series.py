"""Which files of a DICOM series are slices of one stack, and in which order they lie."""

import math
import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable

from pipelines.formats.dicom_header import DicomHeader

Pictures = dict[str, DicomHeader]  # name of a file -> its header

# Of the directions of rows and columns, up to which slices are parallel.
_PARALLEL = 0.01


def stacks(pictures: Pictures, *, of_one_folder: bool = False) -> list[list[str]]:
    """The files that are slices, by stack, each in order.

    Slices are files of one frame that say where in space it lies; those of one patient, study, series, kind of object
    and frame of reference with the same orientation are a stack. Radiographs, ultrasound and photographs say nothing of
    the kind: each is a picture of its own.

    Args:
        pictures: The files, in an order that does not change.
        of_one_folder: Slices in different folders are of different stacks, as `pipelines.opened` opens them.
    """
    found: dict[tuple[str | None, ...], list[tuple[tuple[float, ...], list[str]]]] = defaultdict(list)
    for name, header in pictures.items():
        if not (header.series and header.position and header.orientation and header.frames == 1 and header.has_pixels):
            continue
        folder = posixpath.dirname(name) if of_one_folder else None
        series = header.patient, header.study, header.series, header.sop_class, header.frame_of_reference
        parallel = found[folder, *series]
        names = next((names for direction, names in parallel if _is_parallel(direction, header.orientation)), None)
        if names is None:
            parallel.append((header.orientation, names := []))
        names.append(name)
    every = [names for parallel in found.values() for _, names in parallel]
    return [sorted(names, key=lambda name: _place(name, pictures[name])) for names in every]


def without_neighbours(pictures: Pictures, named: Collection[str]) -> Pictures:
    """Of each stack the slices that are named, or, where none is, the one in the middle; and all other pictures."""
    left_out: set[str] = set()
    for stack in stacks(pictures):
        left_out.update(stack)
        left_out.difference_update([name for name in stack if name in named] or [stack[len(stack) // 2]])
    return {name: header for name, header in pictures.items() if name not in left_out}


def _is_parallel(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(abs(x - y) < _PARALLEL for x, y in zip(one, other, strict=True))


def _place(name: str, header: DicomHeader) -> tuple[float, int, str]:
    """Along the normal of the slices in mm (PS3.3 C.7.6.2.1.1), then by number, as in time series, then by name."""
    along = _dot(_normal(header.orientation or ()), header.position or ())
    return round(along, 3), header.instance_number or 0, name


def _normal(orientation: tuple[float, ...]) -> tuple[float, ...]:
    a, b, c, d, e, f = orientation
    return b * f - c * e, c * d - a * f, a * e - b * d


def _dot(one: Iterable[float], other: Iterable[float]) -> float:
    return math.fsum(x * y for x, y in zip(one, other, strict=True))
