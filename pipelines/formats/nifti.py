"""NIfTI-1, NIfTI-2 and Analyze 7.5: single files, gzipped or not, and pairs of a header (.hdr) and voxels (.img)."""

import logging

import numpy as np
from nibabel.analyze import AnalyzeHeader
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader

from pipelines.errors import Rejected
from pipelines.formats.packed import check_claim, head, is_gzip, part
from pipelines.formats.volumes import Volume

_HEADER_1, _HEADER_2 = 348, 540
_SIZES_1 = (b"\x5c\1\0\0", b"\0\0\1\x5c")  # 348, as every header of the first kind begins

# It prints what it mends in odd headers, without the file, once for each reading; what cannot be read raises.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)


def is_nifti(data: bytes) -> bool:
    """Whether a file is header and voxels in one, or the beginning of such a file."""
    first = head(data, _HEADER_1)
    is_cut = first[:4] in _SIZES_1 and len(first) < _HEADER_1
    return is_cut or first[344:348] == b"n+1\0" or first[4:8] == b"n+2\0"


def is_nifti_header(data: bytes) -> bool:
    """Whether a file is the header of a pair."""
    first = head(data, _HEADER_2 + 1)
    if first[344:348] == b"ni1\0" or first[4:8] == b"ni2\0":
        return True
    if first[344:348] == b"n+1\0" or first[4:8] == b"n+2\0":
        return False  # of a single file, whatever its name: as Analyze it would show another picture
    # Analyze 7.5 has no magic bytes, but its size in front, and nothing behind the header but perhaps an extension.
    return first[:4] in _SIZES_1 and _HEADER_1 <= len(first) <= _HEADER_2


def nifti_volume(data: bytes) -> Volume:
    """The volume in a single file."""
    return _volume(_header(data, Nifti1Header, Nifti2Header), data)


def nifti_pair(header_file: bytes, voxels: bytes) -> Volume:
    """The volume of a pair."""
    is_analyze = head(header_file, _HEADER_1)[344:346] != b"ni"
    first = AnalyzeHeader if is_analyze else Nifti1PairHeader
    return _volume(_header(header_file, first, Nifti2PairHeader), voxels)


def _header(data: bytes, first: type[AnalyzeHeader], second: type[AnalyzeHeader]) -> AnalyzeHeader:
    is_second = head(data, 7)[4:7] in (b"n+2", b"ni2")
    size = _HEADER_2 if is_second else _HEADER_1
    block = head(data, size)
    if len(block) < size:
        raise Rejected("truncated", f"{len(block)} of {size} bytes of the header")
    return (second if is_second else first)(block)


def _volume(header: AnalyzeHeader, voxels: bytes) -> Volume:
    shape = tuple(map(int, header.get_data_shape()))
    if len(shape) < 2 or any(size != 1 for size in shape[4:]):
        raise Rejected("unsupported_type", f"NIfTI of shape {shape}")
    i, j, k, volumes, *_ = (*shape, 1, 1)
    dtype, channels = header.get_data_dtype(), 1
    if dtype.names == ("R", "G", "B"):
        dtype, channels = np.dtype(np.uint8), 3
    packing = "gzip" if is_gzip(voxels) else "raw"
    start = header.get_data_offset()
    slope, intercept = header.get_slope_inter()
    volume = Volume(
        shape=(i, j, k),
        volumes=volumes,
        channels=channels,
        dtype=dtype,
        affine=np.asarray(header.get_best_affine(), np.float64),
        placed=isinstance(header, Nifti1Header) and bool(header["sform_code"] or header["qform_code"]),
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        unpack=lambda size: part(voxels, start, size, packing),
    )
    check_claim(volume.size + start, voxels, packing)
    return volume
