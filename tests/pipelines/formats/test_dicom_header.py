"""Headers of DICOM files: each fact by hand, and files that end where they should not."""

import io
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pipelines.errors import Rejected
from pipelines.formats import dicom_header
from pipelines.formats.dicom_header import DicomHeader, dicom_ids, is_dicom, read_header
from pipelines.images import header_ids
from tests.pipelines.test_images import NOISE, dicom


def read(data: bytes) -> DicomHeader:
    assert is_dicom(data[:132])
    return read_header(io.BytesIO(data))


def item(**elements: object) -> Dataset:
    dataset = Dataset()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def refusal(data: bytes) -> str:
    with pytest.raises(Rejected) as caught:
        read_header(io.BytesIO(data))
    return caught.value.reason


def outcome(data: bytes) -> str:
    try:
        header = read_header(io.BytesIO(data))
    except Rejected as error:
        return error.reason
    return "whole" if header.has_pixels else "without pixels"


def test_facts_of_a_header() -> None:
    frames = np.stack([NOISE, NOISE, NOISE])
    header = read(
        dicom(
            frames,
            SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1",
            SOPInstanceUID="1.2.3.4",
            PatientID="P 7 ",
            StudyInstanceUID="1.2.3",
            SeriesInstanceUID="1.2.3.1",
            AccessionNumber="000815",
            Modality="DX",
            BodyPartExamined="CHEST",
            ViewPosition="PA",
            ViewCodeSequence=[item(CodeValue="R-10214", CodingSchemeDesignator="SRT", CodeMeaning="postero-anterior")],
            ImageLaterality="L",
            Laterality="R",
            FrameOfReferenceUID="1.2.3.9",
            InstanceNumber=12,
            ImagePositionPatient=[1, -2.5, 3],
            ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
            BurnedInAnnotation="YES",
            ImageType=["ORIGINAL", "PRIMARY"],
        )
    )
    assert header == DicomHeader(
        sop_class="1.2.840.10008.5.1.4.1.1.1.1",
        sop_instance="1.2.3.4",
        patient="P 7",
        study="1.2.3",
        series="1.2.3.1",
        accession="000815",
        modality="DX",
        body_part="CHEST",
        view_position="PA",
        view_code="R-10214",
        laterality="L",
        frame_of_reference="1.2.3.9",
        instance_number=12,
        position=(1.0, -2.5, 3.0),
        orientation=(1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
        frames=3,
        has_pixels=True,
    )


def test_a_header_that_says_nothing() -> None:
    # Of the file meta information alone there is a SOP class.
    header = read(dicom(NOISE))
    assert header == DicomHeader(sop_class="1.2.840.10008.5.1.4.1.1.7")


def test_laterality_of_a_side_of_the_body_and_of_the_frames_of_an_enhanced_object() -> None:
    assert read(dicom(NOISE, Laterality="R")).laterality == "R"
    anatomy = item(FrameAnatomySequence=[item(FrameLaterality="L")])
    assert read(dicom(NOISE, SharedFunctionalGroupsSequence=[anatomy])).laterality == "L"
    assert read(dicom(NOISE, SharedFunctionalGroupsSequence=[Dataset()])).laterality is None


def test_what_only_orders_slices_costs_no_image() -> None:
    header = read(dicom(NOISE, ImagePositionPatient=[1, 2], PatientID="7"))
    assert (header.position, header.orientation, header.instance_number) == (None, None, None)
    data = dicom(NOISE, ImagePositionPatient=[1, 2, 3], InstanceNumber=5)
    assert read(data.replace(b"2.0", b"2,0")).position is None
    assert read(data.replace(b"IS\x02\x005 ", b"IS\x02\x00x ")).instance_number is None


def test_frames_that_no_file_can_hold_are_refused() -> None:
    data = dicom(np.stack([NOISE, NOISE]))
    assert read(data).frames == 2
    assert read(data.replace(b"IS\x02\x002 ", b"IS\x02\x0099")).frames == 99  # whether they are there, decoding tells
    assert refusal(data.replace(b"IS\x02\x002 ", b"IS\x02\x00-2")) == "corrupt"
    assert refusal(data.replace(b"IS\x02\x002 ", b"IS\x02\x00xy")) == "corrupt"
    assert refusal(dicom(NOISE, NumberOfFrames=2**31 - 1)) == "corrupt"


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm"])
def test_a_file_that_is_cut_off_is_refused_or_has_no_pixels(name: str) -> None:
    data = Path(str(get_testdata_file(name))).read_bytes()
    whole = read(data)
    assert whole.has_pixels
    end = data.rindex(b"\xe0\x7f\x10\x00" if "big" not in name else b"\x7f\xe0\x00\x10")
    outcomes = Counter(outcome(data[:cut]) for cut in range(133, end, 29))
    assert set(outcomes) <= {"truncated", "corrupt", "without pixels"}
    # Cut between two elements: such a file may have been written so.
    assert outcomes["without pixels"] < 0.1 * outcomes.total()
    assert read(data[: end + 40]) == whole  # the pixels are cut off, which decoding finds


def deflated(before: bytes, data: bytes) -> bytes:
    """A deflated file: the same data set, with an element of a private group before it."""
    start = 144 + int.from_bytes(data[140:144], "little")
    meta = data[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    meta = meta[:140] + (len(meta) - 144).to_bytes(4, "little") + meta[144:]
    place = meta.index(DeflatedExplicitVRLittleEndian.encode())
    meta = meta[: place - 2] + (22).to_bytes(2, "little") + meta[place:]
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    return meta + packer.compress(before + data[start:]) + packer.flush()


def private(length: int) -> bytes:
    return b"\x05\x00\x10\x10OB\0\0" + length.to_bytes(4, "little") + bytes(length)


def test_deflated_headers_are_read_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = dicom(NOISE, PatientID="7", StudyInstanceUID="1.2.3", Modality="CT")
    for length in (0, 2**20):
        data = deflated(private(length), plain)
        assert read(data) == read(plain)
        assert dicom_ids(data) == dicom_ids(plain) == ("7", "1.2.3")
    monkeypatch.setattr(dicom_header, "_LARGEST_HEADER", 2**20)
    assert refusal(deflated(private(2**20), plain)) == "file_too_large"
    assert refusal(deflated(b"", plain)[:360]) == "truncated"


def test_ids_are_those_of_the_study_or_else_of_the_series() -> None:
    assert dicom_ids(dicom(NOISE, PatientID="7", SeriesInstanceUID="1.9")) == ("7", "1.9")
    assert dicom_ids(dicom(NOISE)) == (None, None)


@pytest.mark.parametrize("name", ["ExplVR_LitEndNoMeta.dcm", "ExplVR_BigEndNoMeta.dcm"])
def test_a_file_without_preamble_says_whose_it_is_too(name: str) -> None:
    data = Path(str(get_testdata_file(name))).read_bytes()
    expected = pydicom.dcmread(io.BytesIO(data), force=True)
    header = read_header(io.BytesIO(data))
    assert (header.patient, header.study) == (None, expected.StudyInstanceUID)
    assert (header.modality, header.sop_class, header.has_pixels) == ("RTPLAN", expected.SOPClassUID, False)
    assert header_ids(data) == (header.patient, header.study)


def test_a_picture_that_begins_with_its_file_meta_information() -> None:
    data = dicom(NOISE, PatientID="7", StudyInstanceUID="1.2.3", Modality="CT")
    assert read_header(io.BytesIO(data[132:])) == read(data)
    assert header_ids(data[132:]) == ("7", "1.2.3")
