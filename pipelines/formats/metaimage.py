"""MetaImage files: .mha, and .mhd with the voxels in a file beside it (https://docs.itk.org, "MetaIO")."""

import re
from collections.abc import Callable

import numpy as np

from pipelines.errors import Rejected
from pipelines.formats.packed import check_claim, part
from pipelines.formats.space import Affine, from_lps
from pipelines.formats.volumes import Volume

_LONGEST_HEADER = 2**16
_FIRST = re.compile(rb"\s*(?:ObjectType\s*=\s*Image|NDims\s*=\s*\d|Comment\s*=)", re.I)
_LAST = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=[ \t]*([^\r\n]*?)[ \t]*\r?\n?$", re.I | re.M)
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
# Other names that older tools write.
_SYNONYMS = {
    "elementbyteordermsb": "binarydatabyteordermsb",
    "rotation": "transformmatrix",
    "orientation": "transformmatrix",
    "position": "offset",
    "origin": "offset",
}


def is_metaimage(data: bytes) -> bool:
    return _FIRST.match(data[:256]) is not None and b"ElementDataFile" in data[:_LONGEST_HEADER]


def metaimage_volume(data: bytes, beside: Callable[[str], bytes]) -> Volume:
    """The volume of a file.

    Args:
        data: Header, and voxels where they are in the same file.
        beside: Reads the file that the header names.
    """
    end = _LAST.search(data[:_LONGEST_HEADER])
    if end is None:
        raise Rejected("corrupt", "the header does not end")
    header = _header(data[: end.start()].decode("latin-1"))
    name = end[1].decode("latin-1")
    if name.split() and (name.split()[0] in ("LIST", "Local_List") or "%" in name):
        raise Rejected("unsupported_type", "MetaImage of several data files: give a single one")
    voxels = data[_end_of_line(data, end.end(1)) :] if name.upper() == "LOCAL" else beside(name)
    kind = _TYPES.get(header.get("elementtype", "").removesuffix("_ARRAY"))
    if kind is None or not _is_true(header.get("binarydata", "True")):
        raise Rejected("unsupported_type", "MetaImage of this type, or as text")
    sizes = list(map(int, header["dimsize"].split()))
    dimensions = int(header.get("ndims", len(sizes)))
    if len(sizes) != dimensions or dimensions not in (2, 3, 4):
        raise Rejected("unsupported_type", f"MetaImage of {dimensions} dimensions")
    i, j, k, volumes = (*sizes, 1, 1)[:4]
    packing = "zlib" if _is_true(header.get("compresseddata", "False")) else "raw"
    skipped = int(header.get("headersize", "0"))
    volume = Volume(
        shape=(i, j, k),
        volumes=volumes,
        channels=int(header.get("elementnumberofchannels", "1")),
        dtype=np.dtype((">" if _is_true(header.get("binarydatabyteordermsb", "False")) else "<") + kind),
        affine=_affine(header, dimensions),
        unpack=lambda size: part(voxels, skipped if skipped >= 0 else len(voxels) - size, size, packing),
    )
    check_claim(volume.size + max(0, skipped), voxels, packing)
    return volume


def _header(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            word = name.strip().lower()
            found[_SYNONYMS.get(word, word)] = value.strip()
    return found


def _affine(header: dict[str, str], dimensions: int) -> Affine:
    """To RAS+. A row of TransformMatrix is the direction of an axis; the file's world is LPS+."""
    spacings = _numbers(header.get("elementspacing", header.get("elementsize", "")), np.ones(dimensions))
    directions = _numbers(header.get("transformmatrix", ""), np.eye(dimensions).ravel()).reshape(dimensions, dimensions)
    offset = _numbers(header.get("offset", ""), np.zeros(dimensions))
    affine, spatial = np.eye(4), min(dimensions, 3)
    affine[:spatial, :spatial] = (directions[:spatial, :spatial] * spacings[:spatial, None]).T
    affine[:spatial, 3] = offset[:spatial]
    return from_lps(affine)


def _numbers(text: str, default: np.ndarray) -> np.ndarray:
    return np.array(text.split(), np.float64) if text else default


def _is_true(word: str) -> bool:
    return word[:1].upper() in ("T", "1", "Y")


def _end_of_line(data: bytes, place: int) -> int:
    return data.index(b"\n", place) + 1
