"""Stored values of one frame of a DICOM file, from any way in which they are written."""

import io
from typing import Any, BinaryIO, cast

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID, SecondaryCaptureImageStorage

from pipelines.errors import Rejected
from pipelines.formats.dicom_codecs import decoded, plugin
from pipelines.formats.dicom_file import DicomFile


def stored_values(file: DicomFile, index: int) -> np.ndarray:
    """The values of a frame (PS3.5 8.1.1, PS3.3 C.7.6.3.1).

    Args:
        file: A file whose size in pixels was checked.
        index: Frame from 0.

    Returns:
        (height, width), or (height, width, 3) in colour with YBR turned into RGB; integers, or floats where the file
        has floats.

    Raises:
        Rejected: unsupported_type without a decoder, truncated where the file has fewer bytes than its header says.
    """
    file.stream.seek(file.start)
    if file.syntax.is_encapsulated and file.length is None:
        return decoded(_one_frame(file, index))
    if file.syntax.is_encapsulated:
        raise Rejected("corrupt", "compressed pixels that are not in fragments")
    if file.length is None:
        raise Rejected("corrupt", "fragments of pixels that are not compressed")
    return _native(file, index)


def _one_frame(file: DicomFile, index: int) -> pydicom.Dataset:
    """A frame's bytes as a file of their own."""
    plugin(file.syntax)  # before anything is read
    header = file.header
    offsets = None
    if "ExtendedOffsetTable" in header and "ExtendedOffsetTableLengths" in header:
        offsets = (header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths)
    data = get_frame(file.stream, index, number_of_frames=file.frames, extended_offsets=offsets)  # type: ignore[arg-type]
    frame = file.description()
    frame.file_meta = FileMetaDataset()
    frame.file_meta.TransferSyntaxUID = file.syntax
    frame.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    frame.file_meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    frame.add_new("PixelData", "OB", encapsulate([data]))
    frame["PixelData"].is_undefined_length = True
    return frame


def _native(file: DicomFile, index: int) -> np.ndarray:
    header = file.header
    # Bits above the stored ones may be anything, and the stored ones need not be the lowest: `_cut_out` takes them.
    options: Any = as_pixel_options(
        file.description(),
        pixel_keyword=file.keyword,
        pixel_vr=file.vr,
        number_of_frames=file.frames,
        correct_unused_bits=False,
    )
    pixels = int(header.Rows) * int(header.Columns)
    samples, bits = int(header.get("SamplesPerPixel") or 1), int(header.BitsAllocated)
    length = pixels * samples * bits / 8
    if header.get("PhotometricInterpretation") == "YBR_FULL_422":
        if file.length is not None and file.length >= length * file.frames:
            options["photometric_interpretation"] = "YBR_FULL"  # the name stayed when the colours were made whole
        else:
            length = length * 2 / 3
    needed = int(np.ceil((index + 1) * length))
    held = file.length if file.length is not None and file.length < needed else _held(file, needed)
    if held < needed:
        raise Rejected("truncated", f"{held} bytes of pixels, frame {index} ends at {needed}")
    if bits == 1:
        return _bits(file, index * pixels, pixels).reshape(int(header.Rows), int(header.Columns))
    file.stream.seek(file.start)
    stream = cast(BinaryIO, file.stream)
    values = get_decoder(file.syntax).as_array(stream, index=index, validate=False, **options)[0]
    return _cut_out(values, header) if samples == 1 and values.dtype.kind in "iu" else values


def _held(file: DicomFile, wanted: int) -> int:
    """How many of the wanted bytes of pixels the file has."""
    file.stream.seek(file.start + wanted - 1)
    return wanted if file.stream.read(1) else max(file.stream.seek(0, io.SEEK_END) - file.start, 0)


def _bits(file: DicomFile, first: int, count: int) -> np.ndarray:
    """Pixels of one bit; frames follow each other within a byte (PS3.5 8.1.1)."""
    start = first // 16 * 2  # words, whose bytes may be exchanged
    file.stream.seek(file.start + start)
    packed = np.frombuffer(file.stream.read((first + count + 15) // 16 * 2 - start), np.uint8)
    if file.vr == "OW" and not file.syntax.is_little_endian:
        packed = np.append(packed, np.zeros(len(packed) % 2, np.uint8)).view(np.uint16).byteswap().view(np.uint8)
    return np.unpackbits(packed, bitorder="little")[first - 8 * start :][:count]


def _cut_out(values: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """The stored bits, from the high bit downwards, with their sign (PS3.5 8.1.1)."""
    allocated = values.dtype.itemsize * 8
    stored = int(header.get("BitsStored") or allocated)
    high = int(header["HighBit"].value) if header.get("HighBit") is not None else stored - 1
    if not (0 < stored <= allocated and stored - 1 <= high < allocated):
        return values
    return (values << (allocated - 1 - high)) >> (allocated - stored)
