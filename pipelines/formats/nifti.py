"""NIfTI volumes as slices."""

import gzip
import io

import nibabel
import numpy as np

from pipelines.errors import Rejected, item_boundary
from pipelines.formats.limits import check_frame, check_pixels

MAX_VOLUME_BYTES = 8 * 2**30

# Deflate's limit: a code of 2 bits stands for at most 258 bytes.
_LARGEST_GZIP_RATIO = 1032


def is_nifti(data: bytes) -> bool:
    if data[:2] == b"\x1f\x8b":
        try:
            with item_boundary():
                data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(348)
        except Rejected:
            return False
    return data[344:348] == b"n+1\0" or data[4:8] == b"n+2\0"


def _volume(data: bytes) -> nibabel.Nifti1Image:
    packed = data[:2] == b"\x1f\x8b"
    stream = gzip.GzipFile(fileobj=io.BytesIO(data)) if packed else io.BytesIO(data)
    second = stream.read(8)[4:8] == b"n+2\0"
    stream.seek(0)
    volume = (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_stream(stream)
    shape = volume.shape
    if len(shape) < 3 or shape[3:] not in ((), (1,)) or volume.get_data_dtype().names:
        raise Rejected("unsupported_type", f"NIfTI of shape {shape}, type {volume.get_data_dtype()}")
    if min(shape) < 1:
        raise Rejected("corrupt", f"NIfTI of shape {shape}")
    size = np.prod(shape, dtype=np.float64) * volume.get_data_dtype().itemsize
    if size > MAX_VOLUME_BYTES:
        raise Rejected("file_too_large", f"volume of shape {shape}")
    # nibabel loops over what the header claims before it reads.
    if size > len(data) * (_LARGEST_GZIP_RATIO if packed else 1):
        raise Rejected("truncated", f"volume of shape {shape} in a file of {len(data)} bytes")
    return volume


def nifti_slices(data: bytes) -> int:
    volume = _volume(data)
    return volume.shape[_up_axis(volume)]


def _up_axis(volume: nibabel.Nifti1Image) -> int:
    """The stored axis that runs between feet and head."""
    codes = nibabel.aff2axcodes(volume.affine)
    if None in codes:  # a damaged affine, in which two axes run the same way or one nowhere
        raise Rejected("corrupt", "the affine gives no orientation")
    return next(axis for axis, code in enumerate(codes) if code in ("S", "I"))


def nifti_slice(data: bytes, frame: int | None, max_pixels: int) -> np.ndarray:
    """One axial slice with its values as the file scales them, (height, width), front at the top, left on the right."""
    volume = _volume(data)
    up = _up_axis(volume)
    count = volume.shape[up]
    index = check_frame(frame, count)
    if nibabel.aff2axcodes(volume.affine)[up] == "I":
        index = count - 1 - index
    width, height = (size for axis, size in enumerate(volume.shape[:3]) if axis != up)
    check_pixels(width, height, max_pixels)
    place = tuple(slice(index, index + 1) if axis == up else slice(None) for axis in range(3))
    # Canonical axes grow to the patient's right, front and head.
    canonical = nibabel.as_closest_canonical(volume.slicer[place])
    values = np.asarray(canonical.dataobj).reshape(canonical.shape[:2])
    return np.ascontiguousarray(values[::-1, ::-1].T)
