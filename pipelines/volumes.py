"""DICOM files and NIfTI volumes as arrays.

`pipelines.images` says what becomes of them; nothing else should import this module. Errors of the libraries are let
through: `pipelines.images` turns them into reason codes.
"""

import gzip
import io
from typing import NamedTuple

import nibabel
import numpy as np
import pydicom
import pydicom.pixels
from pydicom.uid import RLELossless

from models.preparation import scaled_linearly, to_8_bit
from pipelines.errors import Rejected, item_boundary, printable

MAX_VOLUME_BYTES = 8 * 2**30

# Deflate's limit: a code of 2 bits stands for at most 258 bytes.
_LARGEST_GZIP_RATIO = 1032


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise Rejected("too_many_pixels", f"{width} x {height}, at most {max_pixels} pixels")


def check_frame(frame: int | None, count: int) -> int:
    if frame is None and count == 1:
        return 0
    if frame is None or not 0 <= frame < count:
        raise Rejected("missing_frame", f"frame {frame} of {count}")
    return frame


def is_dicom(data: bytes) -> bool:
    return data[128:132] == b"DICM"


def _frames(dataset: pydicom.Dataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _dataset(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


class HeaderIds(NamedTuple):
    """Whose image a file is, as its header says; None where it says nothing.

    Attributes:
        patient: PatientID (0010,0020), as it stands.
        study: StudyInstanceUID (0020,000D), or else SeriesInstanceUID (0020,000E).
    """

    patient: str | None = None
    study: str | None = None


def dicom_ids(data: bytes) -> HeaderIds:
    """The ids of a DICOM file (PS3.3 C.7.1.1, C.7.2.1, C.7.3.1)."""
    tags = ["PatientID", "StudyInstanceUID", "SeriesInstanceUID"]
    header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=tags)
    patient, study, series = (printable(str(header.get(tag) or "")).strip(" \0") for tag in tags)
    return HeaderIds(patient or None, study or series or None)


def dicom_frames(data: bytes) -> int:
    return _frames(_dataset(data))


def dicom_pixels(data: bytes, frame: int | None, max_pixels: int) -> np.ndarray:
    """One frame, ready to be shown: uint8, (height, width) or, in colour, (height, width, 3)."""
    dataset = _dataset(data)
    if "PixelData" not in dataset:
        raise Rejected("unsupported_type", "DICOM without pixels")
    check_pixels(int(dataset.Columns), int(dataset.Rows), max_pixels)
    index = check_frame(frame, _frames(dataset))
    syntax = dataset.file_meta.TransferSyntaxUID
    plugin = "" if not syntax.is_compressed else "pydicom" if syntax == RLELossless else "pillow"
    if plugin and plugin not in _decoders(syntax):
        raise Rejected("unsupported_type", f"no decoder for {syntax.name}")
    values = pydicom.pixels.pixel_array(dataset, index=index, decoding_plugin=plugin)
    kind = dataset.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        values = pydicom.pixels.apply_color_lut(values, dataset)
        values = (values >> 8).astype(np.uint8) if values.dtype == np.uint16 else values
    if values.ndim == 3:
        if values.dtype != np.uint8:
            raise Rejected("unsupported_type", f"DICOM colour of type {values.dtype}")
        return values
    grey = _dicom_grey(pydicom.pixels.apply_modality_lut(values, dataset), dataset)
    return 255 - grey if kind == "MONOCHROME1" else grey


def _dicom_grey(values: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return scaled_linearly(pydicom.pixels.apply_voi_lut(values, dataset).astype(np.float64), 0, 2**bits - 1)
    if dataset.get("WindowCenter") not in (None, "") and dataset.get("WindowWidth") not in (None, ""):
        # Two values far outside the window tell what its ends become.
        ends = pydicom.pixels.apply_windowing(np.array([-1e12, 1e12]), dataset)
        return scaled_linearly(pydicom.pixels.apply_windowing(values, dataset), *ends)
    return values if values.dtype == np.uint8 and dataset.BitsStored == 8 else to_8_bit(values)


def _decoders(syntax: pydicom.uid.UID) -> tuple[str, ...]:
    try:
        return pydicom.pixels.get_decoder(syntax).available_plugins
    except NotImplementedError:
        return ()


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
