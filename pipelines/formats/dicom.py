"""DICOM files as arrays that are ready to be shown."""

import io
from typing import NamedTuple

import numpy as np
import pydicom
import pydicom.pixels
from pydicom.uid import RLELossless

from models.preparation import scaled_linearly, to_8_bit
from pipelines.errors import Rejected, printable
from pipelines.formats.limits import check_frame, check_pixels


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
