"""Where pictures and volumes lie in the world: millimetres, RAS+ (x grows to the patient's right, y front, z head).

A position in a picture or volume is that of a pixel's or voxel's centre, counted from 0, as in NIfTI and DICOM.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from pipelines.cuts import Axis
from pipelines.errors import Rejected

Affine = NDArray[np.float64]

# What columns, rows and slices grow towards where slices along an axis are shown as radiologists do: the patient's left
# (or, from the side, the back) on the right, the head or the front up. Slices count from the feet, the back, the left.
_SHOWN: dict[Axis, str] = {"axial": "LPS", "coronal": "LIA", "sagittal": "PIR"}
# Relative difference of the spacings up to which pixels count as square.
_SQUARE = 0.01
# Above, a slice would become a picture that is mostly made up.
_LARGEST_RATIO = 250
# Rounding of affines must decide no tie between two voxels: the upper one gets it.
_TIE = 1e-6
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """Where the pixels of one picture lie.

    Attributes:
        affine: (column, row, slice, 1) -> world, 4 x 4; the picture itself is slice 0, its neighbours are -1 and 1.
        width: Pixels.
        height: Pixels.
        before: Slices of the same volume below 0.
        after: Slices of the same volume above 0.
        placed: The file says where it lies; otherwise the affine only tells it from files that say nothing either.
    """

    affine: Affine
    width: int
    height: int
    before: int = 0
    after: int = 0
    placed: bool = True


def from_lps(affine: Affine) -> Affine:
    """The affine to RAS+ of one to LPS+, in which DICOM, ITK and most NRRD files are written."""
    return _LPS_TO_RAS @ affine


def check_affine(affine: Affine) -> None:
    """Refuse an affine that gives no place or no orientation (corrupt)."""
    with np.errstate(all="ignore"):
        is_sound = bool(np.isfinite(affine).all()) and bool(np.abs(affine).max() < 1e9)
        if not is_sound or np.isnan(orientations.io_orientation(affine)).any() or np.linalg.det(affine[:3, :3]) == 0:
            raise Rejected("corrupt", "the affine gives no orientation")


def shown(values: NDArray[Any], affine: Affine, axis: Axis) -> tuple[NDArray[Any], Affine]:
    """A volume as its slices are shown.

    Args:
        values: (i, j, k), and perhaps channels behind.
        affine: Of the volume.
        axis: Along which slices are counted.

    Returns:
        A view of the values, (columns, rows, slices), and its affine.
    """
    stored = orientations.io_orientation(affine)
    turn = orientations.ornt_transform(stored, orientations.axcodes2ornt(_SHOWN[axis]))
    turned = orientations.apply_orientation(values, turn)
    return turned, affine @ orientations.inv_ornt_aff(turn, values.shape[:3])


def spacing(affine: Affine) -> NDArray[np.float64]:
    """Distance of neighbours along each of the three axes, in mm."""
    return np.sqrt((affine[:3, :3] ** 2).sum(axis=0))


def squared(plane: Plane) -> Plane:
    """The same area in square pixels of the smaller spacing; the plane itself where its pixels are square.

    The upper left corner stays where it is; the size is rounded to whole pixels.

    Raises:
        Rejected: corrupt, where the spacings differ by more than any scanner's.
    """
    sides = spacing(plane.affine)[:2]
    smaller = sides.min()
    if sides.max() <= smaller * (1 + _SQUARE):
        return plane
    if sides.max() > smaller * _LARGEST_RATIO:
        raise Rejected("corrupt", f"pixels of {sides[0]:g} x {sides[1]:g} mm")
    width, height = (
        max(1, round(float(size * side / smaller)))
        for size, side in zip((plane.width, plane.height), sides, strict=True)
    )
    ratio = np.append(smaller / sides, [1.0, 1.0])
    step = np.diag(ratio)
    step[:2, 3] = (ratio[:2] - 1) / 2  # the first centre, where the first edge stays
    return replace(plane, affine=plane.affine @ step, width=width, height=height)


def resampled(values: NDArray[Any], width: int, height: int, plane: Plane) -> NDArray[Any]:
    """Pixels (height, width, ...) of a plane on its `squared` grid, width x height, linearly between their centres."""
    sides = spacing(plane.affine)[:2]
    for axis, size, side in ((1, width, sides[0]), (0, height, sides[1])):
        if size != values.shape[axis]:
            ratio = sides.min() / side
            places = np.clip((np.arange(size) + 0.5) * ratio - 0.5, 0, values.shape[axis] - 1)
            lower = np.minimum(places.astype(np.int64), max(0, values.shape[axis] - 2))
            fraction = np.round(places - lower, 9)
            upper = np.minimum(lower + 1, values.shape[axis] - 1)
            # On a centre its neighbour counts nothing, also where that is no number.
            lower, upper = np.where(fraction == 1, upper, lower), np.where(fraction == 0, lower, upper)
            part = fraction.reshape([-1 if one == axis else 1 for one in range(values.ndim)])
            values = values.take(lower, axis) * (1 - part) + values.take(upper, axis) * part
    return values


def nearest(values: NDArray[Any], affine: Affine, plane: Plane) -> NDArray[Any]:
    """The voxels (i, j, k) nearest to a plane's pixels, (height, width); 0 outside of the volume."""
    to_voxel = np.linalg.inv(affine) @ plane.affine
    found = np.zeros((plane.height, plane.width), values.dtype.newbyteorder("="))
    columns = np.arange(plane.width)
    for rows in np.array_split(np.arange(plane.height), max(1, found.size // 1_000_000)):
        places = to_voxel[:3, 0, None, None] * columns + to_voxel[:3, 1, None, None] * rows[:, None]
        voxels = np.floor(places + to_voxel[:3, 3, None, None] + (0.5 + _TIE))
        limits = np.array(values.shape).reshape(3, 1, 1)
        inside = ((voxels >= 0) & (voxels < limits)).all(axis=0)
        i, j, k = voxels[:, inside].astype(np.int64)
        found[rows[0] : rows[-1] + 1][inside] = values[i, j, k]
    return found


def overlap(shape: tuple[int, int, int], affine: Affine, plane: Plane) -> bool:
    """Whether a volume and that of a picture have a part of the world in common."""
    ours, theirs = _boxes(shape, affine, plane)
    # Two convex bodies are apart if and only if a plane stands between them: along a face, or an edge of each.
    edges = [corner - ours[0] for corner in (ours[1], ours[2], ours[4])]
    units = list(np.eye(3))
    faces = [np.cross(first, second) for first, second in itertools.combinations(edges, 2)]
    between = [np.cross(edge, unit) for edge in edges for unit in units]
    for normal in (*units, *faces, *between):
        length = np.linalg.norm(normal)
        if length > _TIE:
            a, b = ours @ normal / length, theirs @ normal / length
            if min(a.max(), b.max()) - max(a.min(), b.min()) <= _TIE:
                return False
    return True


def same_extent(shape: tuple[int, int, int], affine: Affine, plane: Plane) -> bool:
    """Whether a volume fills the same box as that of a picture, to half a voxel."""
    ours, theirs = _boxes(shape, affine, plane)
    return all(np.abs(end(ours, axis=0) - end(theirs, axis=0)).max() <= 0.5 for end in (np.min, np.max))


def _boxes(
    shape: tuple[int, int, int], affine: Affine, plane: Plane
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of a picture's volume and of a volume, in voxels of the latter."""
    first, last = (-0.5, -0.5, -plane.before - 0.5), (plane.width - 0.5, plane.height - 0.5, plane.after + 0.5)
    to_voxel = np.linalg.inv(affine) @ plane.affine
    ours = _corners(first, last) @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    return ours, _corners((-0.5, -0.5, -0.5), tuple(size - 0.5 for size in shape))


def _corners(low: tuple[float, ...], high: tuple[float, ...]) -> NDArray[np.float64]:
    return np.array(list(itertools.product(*zip(low, high, strict=True))))
