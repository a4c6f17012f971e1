"""What the header of a DICOM file says, without its pixels.

A header is read up to the pixel data, at most 64 MiB of a deflated one, and of its elements only those that are named
here. A header whose values cannot be read is `Rejected`: truncated, corrupt, file_too_large.
"""

import io
import warnings
import zlib
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import pydicom
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pipelines.errors import Rejected, item_boundary, printable

# Float Pixel Data, Double Float Pixel Data and Pixel Data (PS3.3 C.7.6.24, C.7.6.25, C.7.6.3).
_PIXEL_TAGS = {0x7FE00008, 0x7FE00009, 0x7FE00010}
_UNDEFINED_LENGTH = 0xFFFFFFFF
_FARTHEST = 1e9  # mm: products of such numbers are finite
BEGINNING = 132  # bytes that tell whether a file is DICOM
_LARGEST_HEADER = 64 * 2**20
_GROUP_LENGTH_SIZE = 12  # bytes of (0002,0000), which counts what comes after it


class HeaderIds(NamedTuple):
    """Whose image a file is, as its header says; None where it says nothing.

    Attributes:
        patient: PatientID (0010,0020), as it stands.
        study: StudyInstanceUID (0020,000D), or else SeriesInstanceUID (0020,000E).
    """

    patient: str | None = None
    study: str | None = None


@dataclass(frozen=True, kw_only=True)
class DicomHeader:
    """A file's header; None where it says nothing. Texts are as they stand, without padding.

    Attributes:
        sop_class: SOPClassUID (0008,0016), or else MediaStorageSOPClassUID (0002,0002).
        sop_instance: SOPInstanceUID (0008,0018).
        patient: PatientID (0010,0020).
        study: StudyInstanceUID (0020,000D).
        series: SeriesInstanceUID (0020,000E).
        accession: AccessionNumber (0008,0050).
        modality: Modality (0008,0060).
        body_part: BodyPartExamined (0018,0015).
        view_position: ViewPosition (0018,5101).
        view_code: The code value of ViewCodeSequence (0054,0220).
        laterality: ImageLaterality (0020,0062), Laterality (0020,0060) or, of an enhanced object, FrameLaterality
            (0020,9072) of all frames.
        frame_of_reference: FrameOfReferenceUID (0020,0052).
        instance_number: InstanceNumber (0020,0013).
        position: ImagePositionPatient (0020,0032), x, y and z in mm.
        orientation: ImageOrientationPatient (0020,0037): x, y and z of the direction of rows, then of that of columns.
        frames: NumberOfFrames (0028,0008), from 1; no more than the file has bits.
        has_pixels: Pixel data follow the header.
    """

    sop_class: str | None = None
    sop_instance: str | None = None
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    accession: str | None = None
    modality: str | None = None
    body_part: str | None = None
    view_position: str | None = None
    view_code: str | None = None
    laterality: str | None = None
    frame_of_reference: str | None = None
    instance_number: int | None = None
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    frames: int = 1
    has_pixels: bool = True


_TEXTS = {
    "sop_instance": "SOPInstanceUID",
    "patient": "PatientID",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "accession": "AccessionNumber",
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "view_position": "ViewPosition",
    "frame_of_reference": "FrameOfReferenceUID",
}
_OTHERS = (
    *("SOPClassUID", "ViewCodeSequence", "ImageLaterality", "Laterality", "SharedFunctionalGroupsSequence"),
    *("InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "NumberOfFrames"),
)


def is_dicom(data: bytes) -> bool:
    """Whether a file that begins so (`BEGINNING` bytes are enough) is DICOM (PS3.10 section 7.1).

    Files of older systems have no preamble: their first element is of group 0002 or 0008, in either order of bytes,
    with a value representation or with a short length (PS3.5 section 7.1).
    """
    if _has_preamble(data):
        return True
    group, kind = data[:4], data[4:6]
    is_explicit = kind in (b"UL", b"UI", b"CS", b"DA", b"OB", b"LO", b"SH")
    if group[:2] in (b"\x00\x02", b"\x00\x08"):  # big endian is explicit
        return group[2:3] == b"\x00" and is_explicit
    if group[:2] not in (b"\x02\x00", b"\x08\x00") or group[3:4] != b"\x00":
        return False
    return is_explicit or 0 < int.from_bytes(data[4:8], "little") < min(len(data), 256)


def _has_preamble(data: bytes) -> bool:
    return data[128:132] == b"DICM"


def dicom_ids(data: bytes) -> HeaderIds:
    """The ids of a DICOM file (PS3.3 C.7.1.1, C.7.2.1, C.7.3.1)."""
    read = _read(io.BytesIO(data), ["PatientID", "StudyInstanceUID", "SeriesInstanceUID"])
    patient, study, series = (
        _text(read.dataset, tag) for tag in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
    )
    return HeaderIds(patient, study or series)


def read_header(stream: BinaryIO) -> DicomHeader:
    """The header of a DICOM file.

    Args:
        stream: The file; of its pixel data nothing is read.

    Raises:
        Rejected: The header cannot be read.
    """
    with item_boundary(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes odd values
        # Of a sequence that the file's end cuts off it warns too, and takes the file for one without it.
        warnings.filterwarnings("error", message=".* in file ")
        read = _read(stream, [*_TEXTS.values(), *_OTHERS])
        dataset = read.dataset
        frames = int(dataset.get("NumberOfFrames") or 1)
        if not 1 <= frames <= 8 * read.size:
            raise Rejected("corrupt", f"NumberOfFrames is {frames}, in a file of {read.size} bytes")
        return DicomHeader(
            **{name: _text(dataset, tag) for name, tag in _TEXTS.items()},
            sop_class=_text(dataset, "SOPClassUID") or _text(read.meta, "MediaStorageSOPClassUID"),
            view_code=_view_code(dataset),
            laterality=_laterality(dataset),
            instance_number=_instance_number(dataset),
            position=_numbers(dataset, "ImagePositionPatient", 3),
            orientation=_numbers(dataset, "ImageOrientationPatient", 6),
            frames=frames,
            has_pixels=read.has_pixels,
        )


@dataclass(frozen=True)
class _ReadHeader:
    """The named elements of a file, its file meta information, whether pixels follow, and its size in bytes."""

    dataset: pydicom.Dataset
    meta: pydicom.Dataset
    has_pixels: bool
    size: int


def _read(stream: BinaryIO, keywords: list[str]) -> _ReadHeader:
    tags: list[BaseTag | int] = [Tag(keyword) for keyword in keywords]
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if not _has_preamble(stream.read(132)):  # older files begin with their data set, or with file meta information
        stream.seek(0)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    end_of_meta = 132 + _GROUP_LENGTH_SIZE + int(meta.get("FileMetaInformationGroupLength") or 0)
    if end_of_meta > size:
        raise Rejected("truncated", "the file ends within its file meta information")
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        stream.seek(end_of_meta)
        return _read_deflated(stream, meta, tags)
    stream.seek(0)
    stop = _Stop(stream, size)
    file = read_partial(stream, stop_when=stop, force=True, specific_tags=tags)
    stop.check_end()
    return _ReadHeader(file, file.file_meta, stop.at_pixels, size)


def _read_deflated(stream: BinaryIO, meta: pydicom.Dataset, tags: list[BaseTag | int]) -> _ReadHeader:
    """As `_read` (PS3.5 A.5); pydicom would unpack the whole file, whatever it grows to."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    unpacked = inflater.decompress(stream.read(), _LARGEST_HEADER)
    inflated = io.BytesIO(unpacked)
    stop = _Stop(inflated, len(unpacked))
    try:
        dataset = read_dataset(inflated, False, True, stop_when=stop, specific_tags=tags)
        stop.check_end()
    except Rejected:
        if len(unpacked) < _LARGEST_HEADER:
            raise
        raise Rejected("file_too_large", f"deflated, with a header of more than {_LARGEST_HEADER} bytes") from None
    if not stop.at_pixels and not inflater.eof:
        raise Rejected("truncated", "deflated, and the file ends within its header")
    return _ReadHeader(dataset, meta, stop.at_pixels, len(unpacked))


class _Stop:
    """Tells pydicom where to stop: at the pixel data, or where an element claims more bytes than the file has.

    Without the latter, a header that is cut off would pass for one that lacks the elements which it lost.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size
        self._end: int | None = size  # of the last element
        self.at_pixels = False

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        self._end = None if length == _UNDEFINED_LENGTH else self._stream.tell() + length
        if tag in _PIXEL_TAGS:
            self.at_pixels = True
        elif self._end is not None and self._end > self._size:
            raise Rejected("truncated", "the header ends before one of its elements does")
        return self.at_pixels

    def check_end(self) -> None:
        """Refuse a file that ends within the tag or length of an element."""
        if not self.at_pixels and self._end not in (None, self._size):
            raise Rejected("truncated", "the header ends within an element")


def _text(dataset: pydicom.Dataset, keyword: str) -> str | None:
    return printable(str(dataset.get(keyword) or "")).strip(" \0") or None


def _numbers(dataset: pydicom.Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """So many numbers of a size that places have; None where an element that only orders slices cannot be read."""
    try:
        with item_boundary():
            numbers = tuple(map(float, dataset.get(keyword) or ()))
    except Rejected:
        return None
    return numbers if len(numbers) == count and all(abs(number) < _FARTHEST for number in numbers) else None


def _instance_number(dataset: pydicom.Dataset) -> int | None:
    try:
        with item_boundary():
            return int(dataset.InstanceNumber)
    except Rejected:
        return None


def _view_code(dataset: pydicom.Dataset) -> str | None:
    views = dataset.get("ViewCodeSequence")
    return _text(views[0], "CodeValue") if views else None


def _laterality(dataset: pydicom.Dataset) -> str | None:
    """The image's, or else that of its body part, or else that of all frames."""
    if of_image := _text(dataset, "ImageLaterality") or _text(dataset, "Laterality"):
        return of_image
    for shared in dataset.get("SharedFunctionalGroupsSequence") or ():
        for anatomy in shared.get("FrameAnatomySequence") or ():
            return _text(anatomy, "FrameLaterality")
    return None
