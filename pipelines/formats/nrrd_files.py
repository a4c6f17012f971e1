"""NRRD files with their voxels attached or in a file beside them: https://teem.sourceforge.net/nrrd/format.html."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import nrrd
import numpy as np
from numpy.typing import NDArray

from pipelines.errors import Rejected
from pipelines.formats.packed import check_claim, part
from pipelines.formats.space import Affine, from_lps
from pipelines.formats.volumes import Volume

_MAGIC = b"NRRD000"
# Spaces by the sign that their axes have in RAS+.
_SPACES = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (1, 1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1, 1, 1)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1, -1, 1)),
}
_PACKINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_TYPES = {
    name: kind
    for kind, names in {
        "i1": "signed char, int8, int8_t",
        "u1": "uchar, unsigned char, uint8, uint8_t",
        "i2": "short, short int, signed short, signed short int, int16, int16_t",
        "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
        "i4": "int, signed int, int32, int32_t",
        "u4": "uint, unsigned int, uint32, uint32_t",
        "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
        "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split(", ")
}


def is_nrrd(data: bytes) -> bool:
    return data.startswith(_MAGIC)


def nrrd_volume(data: bytes, beside: Callable[[str], bytes]) -> Volume:
    """The volume of a file.

    Args:
        data: Header, and voxels where they are attached.
        beside: Reads the file that the header names.
    """
    stream = io.BytesIO(data)
    header = nrrd.read_header(stream)
    file = header.get("data file", header.get("datafile"))
    voxels = data[stream.tell() :] if file is None else beside(str(file))
    kind, packing = _TYPES.get(header["type"]), _PACKINGS.get(str(header["encoding"]).lower())
    if kind is None or packing is None or header.get("line skip", header.get("lineskip", 0)):
        raise Rejected("unsupported_type", "NRRD of this type or encoding, or with lines to skip")
    order = {"big": ">", "little": "<"}.get(str(header.get("endian", "little")).lower(), "<")
    channels, shape, volumes = _shape(header)
    affine, placed = _affine(header, 0 if channels == 1 else 1)
    skipped = int(header.get("byte skip", header.get("byteskip", 0)))
    volume = Volume(
        shape=shape,
        volumes=volumes,
        channels=channels,
        dtype=np.dtype(order + kind),
        affine=affine,
        placed=placed,
        unpack=lambda size: part(voxels, skipped if skipped >= 0 else len(voxels) - size, size, packing),
    )
    check_claim(volume.size + max(0, skipped), voxels, packing)
    return volume


def _shape(header: Mapping[str, Any]) -> tuple[int, tuple[int, int, int], int]:
    """Channels, voxels and volumes of (colour,) i, j(, k(, time))."""
    sizes, kinds = list(map(int, header["sizes"])), list(header.get("kinds", ()))
    directions = header.get("space directions")
    in_space = None if directions is None else [not np.isnan(row).any() for row in np.asarray(directions, np.float64)]
    channels = 1
    is_first_colour = kinds[:1] and "color" in kinds[0]
    if len(sizes) > 2 and (is_first_colour or (in_space is not None and not in_space[0])):
        channels = sizes.pop(0)
        in_space = None if in_space is None else in_space[1:]
    if len(sizes) not in (2, 3, 4) or (in_space is not None and (not all(in_space[:3]) or any(in_space[3:]))):
        raise Rejected("unsupported_type", f"NRRD of {len(header['sizes'])} axes, of which some lie in no space")
    i, j, k, volumes = (*sizes, 1, 1)[:4]
    return channels, (i, j, k), volumes


def _affine(header: Mapping[str, Any], first: int) -> tuple[Affine, bool]:
    """To RAS+, and whether the file says so; otherwise as ITK does: in LPS+ by the spacings alone."""
    affine = np.eye(4)
    directions, space = header.get("space directions"), str(header.get("space")).lower()
    if directions is None or space not in _SPACES:
        spacings = _spacings(header)[first : first + 3]
        affine[range(len(spacings)), range(len(spacings))] = spacings
        return from_lps(affine), False
    vectors = np.asarray(directions, np.float64)[first : first + 3]
    if vectors.shape != (3, 3):
        raise Rejected("unsupported_type", "NRRD whose axes do not span a space of three dimensions")
    affine[:3, :3] = vectors.T
    affine[:3, 3] = np.asarray(header.get("space origin", (0, 0, 0)), np.float64)
    return np.diag([*map(float, _SPACES[space]), 1.0]) @ affine, True


def _spacings(header: Mapping[str, Any]) -> NDArray[np.float64]:
    if header.get("space directions") is not None:  # of a space that is none of the patient's
        lengths = np.sqrt((np.asarray(header["space directions"], np.float64) ** 2).sum(axis=-1))
    else:
        lengths = np.asarray(header.get("spacings", [1.0] * len(header["sizes"])), np.float64)
    return np.where(np.isfinite(lengths) & (lengths > 0), lengths, 1.0)
