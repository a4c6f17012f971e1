"""Where a DICOM file has what: the header elements that a picture needs, and the place of its pixels.

Nothing else is kept in memory: other elements are skipped, and a deflated file (PS3.5 A.5) is inflated as it is read.
"""

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, cast

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pipelines.errors import Rejected, item_boundary
from pipelines.formats.inflated import Inflated

# The pixel description of PS3.3 C.7.6.3, as pydicom's decoders need it.
PIXEL_DESCRIPTION = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
_COLOURS = ("Red", "Green", "Blue")
_KEPT = (
    *PIXEL_DESCRIPTION,
    *("NumberOfFrames", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    *("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in _COLOURS),
    *(f"{colour}PaletteColorLookupTableData" for colour in _COLOURS),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in _COLOURS),
)
_PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_PIXEL_VRS = (b"OB", b"OW", b"OF", b"OD", b"UN")
_UNDEFINED = 0xFFFFFFFF
_META = 0x0002


@dataclass(frozen=True)
class DicomFile:
    """A DICOM file that is read up to its pixels.

    Attributes:
        header: The elements that a picture needs, of those the file has.
        syntax: Transfer syntax; where the file names none, the one in which its header is written.
        keyword: PixelData, FloatPixelData or DoubleFloatPixelData.
        vr: Value representation of the pixels; OW where the file has none written.
        length: Bytes of the pixels as the file claims; None for fragments (PS3.5 A.4), whose end a delimiter marks.
        stream: The file, or its inflated part.
        start: Place of the first byte of the pixels in the stream.
    """

    header: pydicom.Dataset
    syntax: UID
    keyword: str
    vr: str
    length: int | None
    stream: io.BytesIO | Inflated
    start: int

    @property
    def frames(self) -> int:
        """Number of frames; 1 where the file says no number."""
        try:
            with item_boundary():
                return int(self.header.get("NumberOfFrames") or 1)
        except Rejected:
            return 1

    def description(self) -> pydicom.Dataset:
        """How the pixels are written: the elements of `PIXEL_DESCRIPTION` that the file has."""
        dataset = pydicom.Dataset()
        for keyword in PIXEL_DESCRIPTION:
            if keyword in self.header:
                setattr(dataset, keyword, self.header[keyword].value)
        return dataset


def elements(data: bytes, keywords: Iterable[str]) -> pydicom.Dataset:
    """Elements of a header by their keywords, those that the file has; its other ones are not kept in memory.

    Raises:
        Rejected: file_too_large, as for `read`.
    """
    return _header(data, keywords)[0]


def read(data: bytes) -> DicomFile:
    """Read the header.

    Raises:
        Rejected: unsupported_type where the file has no pixels, truncated where it ends inside an element, corrupt
            where it claims more frames than it has bits, file_too_large where what precedes the pixels of a deflated
            file inflates to more than 64 MiB.
    """
    header, stream, end = _header(data, _KEPT)
    implicit, little = header.original_encoding
    plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    file = _with_pixels(header, UID(header.file_meta.get("TransferSyntaxUID") or plain), stream, end)
    if file.frames > 8 * len(data):  # a row for each of them would fill the memory
        raise Rejected("corrupt", f"NumberOfFrames is {file.frames}, in a file of {len(data)} bytes")
    return file


def _header(data: bytes, keywords: Iterable[str]) -> tuple[pydicom.Dataset, io.BytesIO | Inflated, int | None]:
    """What precedes the pixels, the stream that stands there, and where the last element says that it ends."""
    tags: Any = [tag for tag in map(tag_for_keyword, keywords) if tag is not None]
    meta = _deflated_meta(data)
    stream: io.BytesIO | Inflated = io.BytesIO(data) if meta is None else Inflated(data[meta[1] :])
    file = cast(BinaryIO, stream)
    end: int | None = None

    def at_pixels(tag: int, _vr: str | None, length: int) -> bool:
        nonlocal end
        end = None if length == _UNDEFINED else stream.tell() + length
        return int(tag) in _PIXELS

    with warnings.catch_warnings():
        # pydicom warns, and goes on, where a sequence ends with the file.
        warnings.filterwarnings("error", message=".* in file ")
        if meta is None:
            return read_partial(file, stop_when=at_pixels, force=True, specific_tags=tags), stream, end
        header = read_dataset(file, False, True, stop_when=at_pixels, specific_tags=tags)
        header.file_meta = meta[0]
        return header, stream, end


def _with_pixels(header: pydicom.Dataset, syntax: UID, stream: io.BytesIO | Inflated, end: int | None) -> DicomFile:
    implicit, little = header.original_encoding
    order: Literal["little", "big"] = "little" if little else "big"
    place = stream.read(8)
    if len(place) < 8:
        size = stream.seek(0, io.SEEK_END)
        cut = isinstance(stream, Inflated) and not stream.is_complete
        if cut or (end is not None and size != end):
            raise Rejected("truncated", f"the file ends after {size} bytes, inside an element")
        raise Rejected("unsupported_type", "DICOM without pixels")
    implicit = implicit or place[4:6] not in _PIXEL_VRS  # some write so, whatever their transfer syntax
    tag = int.from_bytes(place[:2], order) << 16 | int.from_bytes(place[2:4], order)
    vr = "OW" if implicit else place[4:6].decode("latin-1")
    length = int.from_bytes(place[4:] if implicit else stream.read(4), order)
    if isinstance(stream, Inflated):
        stream.budget = None
    return DicomFile(header, syntax, _PIXELS[tag], vr, None if length == _UNDEFINED else length, stream, stream.tell())


def _deflated_meta(data: bytes) -> tuple[FileMetaDataset, int] | None:
    """The file meta information of a deflated file, and where its deflated part starts."""
    if DeflatedExplicitVRLittleEndian.encode() not in data[:4096]:
        return None
    stream = io.BytesIO(data)
    stream.seek(132)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != _META)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return None
    return FileMetaDataset(meta), stream.tell()
