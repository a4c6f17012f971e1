"""Which files of a DICOM series are slices of one stack, and in which order they lie."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable

from pipelines.formats.dicom_header import DicomHeader

Pictures = dict[str, DicomHeader]  # name of a file -> its header


def stacks(pictures: Pictures) -> list[list[str]]:
    """The files that are slices, by stack, each in order.

    Slices are files of one frame that say where in space it lies; those of one series and frame of reference with the
    same orientation are a stack. Radiographs, ultrasound and photographs say nothing of the kind: each is a picture of
    its own.
    """
    found: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for name, header in pictures.items():
        if header.series and header.position and header.orientation and header.frames == 1:
            place = header.series, header.frame_of_reference
            found[*place, *(round(part, 3) for part in header.orientation)].append(name)
    return [sorted(names, key=lambda name: _place(name, pictures[name])) for names in found.values()]


def without_neighbours(pictures: Pictures, named: Collection[str]) -> Pictures:
    """Of each stack the slices that are named, or, where none is, the one in the middle; and all other pictures."""
    left_out: set[str] = set()
    for stack in stacks(pictures):
        left_out.update(stack)
        left_out.difference_update([name for name in stack if name in named] or [stack[len(stack) // 2]])
    return {name: header for name, header in pictures.items() if name not in left_out}


def _place(name: str, header: DicomHeader) -> tuple[float, int, str]:
    """Along the normal of the slices in mm (PS3.3 C.7.6.2.1.1), then by number, as in time series, then by name."""
    along = _dot(_normal(header.orientation or ()), header.position or ())
    return round(along, 3), header.instance_number or 0, name


def _normal(orientation: tuple[float, ...]) -> tuple[float, ...]:
    a, b, c, d, e, f = orientation
    return b * f - c * e, c * d - a * f, a * e - b * d


def _dot(one: Iterable[float], other: Iterable[float]) -> float:
    return math.fsum(x * y for x, y in zip(one, other, strict=True))
