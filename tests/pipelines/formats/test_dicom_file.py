"""Headers of DICOM files: without preamble or meta information, deflated, and cut off."""

import io
import tracemalloc
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from pipelines.errors import Rejected
from pipelines.formats.dicom_header import is_dicom
from pipelines.formats.inflated import MAX_HEADER, Inflated
from pipelines.images import decode, frame_count_of
from tests.pipelines.test_images import NOISE, dicom, refusal

WINDOW = {"WindowCenter": 90, "WindowWidth": 100}


def deflated(dataset: pydicom.Dataset) -> bytes:
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def with_private(size: int) -> pydicom.Dataset:
    dataset = pydicom.dcmread(io.BytesIO(dicom(np.stack([NOISE, 255 - NOISE]))))
    dataset.add_new(0x00090010, "LO", "TEST")
    dataset.add_new(0x00091001, "OB", bytes(size))
    return dataset


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big"])
@pytest.mark.parametrize("start", ["no preamble", "no meta"])
def test_files_that_start_without_what_part_10_asks_for(syntax: str, start: str) -> None:
    whole = dicom(NOISE, **WINDOW)
    dataset = pydicom.Dataset(pydicom.dcmread(io.BytesIO(whole)))
    dataset.SOPClassUID, dataset.StudyDate = "1.2.840.10008.5.1.4.1.1.7", "20200101"
    stream = io.BytesIO()
    implicit, little = syntax == "implicit", syntax != "big"
    pydicom.dcmwrite(stream, dataset, implicit_vr=implicit, little_endian=little)
    bare = stream.getvalue()
    assert bare[128:132] != b"DICM"
    if start == "no preamble":
        if syntax != "explicit":
            return  # the meta information that is kept names explicit VR
        meta_and_more = whole[132:]
        bare = meta_and_more
    assert is_dicom(bare)
    np.testing.assert_array_equal(np.asarray(decode(bare)), np.asarray(decode(whole)))
    assert frame_count_of(bare) == 1


@pytest.mark.parametrize("name", ["OT-PAL-8-face.dcm", "ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm"])
def test_real_files_without_a_preamble_start_like_dicom(name: str) -> None:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    with open(path, "rb") as file:
        data = file.read()
    assert data[128:132] != b"DICM"
    assert is_dicom(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x08\x00", b"\x89PNG\r\n\x1a\n", b"II*\x00\x08\x00\x00\x00", b"\x08\x00\x05\x00" + b"\xff" * 99],
)
def test_other_bytes_do_not(data: bytes) -> None:
    assert not is_dicom(data)


def test_what_a_deflated_file_inflates_to_is_not_kept() -> None:
    data = deflated(with_private(100 * 2**20))
    assert len(data) < 2**20
    tracemalloc.start()
    shown = [np.asarray(decode(data, frame)) for frame in (0, 1)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20
    np.testing.assert_array_equal(shown, [NOISE, 255 - NOISE])


def test_a_deflated_header_is_bounded() -> None:
    dataset = with_private(8)
    item = pydicom.Dataset()
    item.add_new(0x00091002, "OB", bytes(MAX_HEADER))
    dataset.SharedFunctionalGroupsSequence = [item]  # an element that is kept
    assert refusal(deflated(dataset), 0) == "file_too_large"


def test_a_deflated_file_that_is_cut_off() -> None:
    data = deflated(with_private(1000))
    for size in (len(data) - 10, len(data) // 2, 400):
        assert refusal(data[:size], 1) in ("truncated", "corrupt")


def test_inflated_bytes_read_as_a_file_does() -> None:
    content = np.random.default_rng(2).integers(0, 4, 5 * 2**20, dtype=np.uint8).tobytes()
    packer = zlib.compressobj(wbits=-15)
    stream, plain = Inflated(packer.compress(content) + packer.flush()), io.BytesIO(content)
    for place, size in [
        (0, 10),
        (4, 100),
        (3 * 2**20 - 5, 2**20),
        (17, 3),
        (5 * 2**20 - 2, 10),
        (6 * 2**20, 4),
        (0, 1),
    ]:
        stream.seek(place)
        plain.seek(place)
        assert stream.read(size) == plain.read(size)
    stream.seek(7)
    stream.seek(5, io.SEEK_CUR)
    assert stream.tell() == 12
    assert stream.seek(0, io.SEEK_END) == len(content)


def test_files_that_end_anywhere() -> None:
    data = dicom(NOISE, **WINDOW)
    start = data.index(b"OB\x00\x00" + NOISE.size.to_bytes(4, "little"))
    for size in [*range(133, start, 3), start + 4, start + 8, start + 9, len(data) - 1]:
        with pytest.raises(Rejected) as caught:
            decode(data[:size])
        # Between two elements nothing says that more should follow.
        assert caught.value.reason in ("truncated", "corrupt", "unsupported_type"), size
    reasons = [refusal(data[:size]) for size in (start + 8, start + 100, len(data) - 1)]
    assert reasons == ["truncated"] * 3


@pytest.mark.parametrize("big", [False, True])
def test_an_element_longer_than_its_file(big: bool) -> None:
    dataset = pydicom.Dataset(pydicom.dcmread(io.BytesIO(dicom(NOISE))))
    dataset.add_new(0x00091001, "OB", b"12345678")
    dataset.file_meta = pydicom.dcmread(io.BytesIO(dicom(NOISE))).file_meta
    if big:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True, implicit_vr=False, little_endian=not big)
    order = "big" if big else "little"
    data = stream.getvalue()
    assert data.count((8).to_bytes(4, order) + b"12345678") == 1
    longer = data.replace((8).to_bytes(4, order) + b"12345678", (10**6).to_bytes(4, order) + b"12345678")
    assert refusal(longer) == "truncated"
    length = NOISE.size.to_bytes(4, order)
    assert data.count(length) == 1
    np.testing.assert_array_equal(np.asarray(decode(data.replace(length, (10**6).to_bytes(4, order)))), NOISE)
    assert refusal(data.replace(length, (NOISE.size - 2).to_bytes(4, order))) == "truncated"


def test_more_frames_than_bits_are_refused() -> None:
    data = dicom(NOISE, NumberOfFrames=2**31 - 1)
    assert refusal(data, 0) == "corrupt"
    with pytest.raises(Rejected, match="NumberOfFrames is 2147483647, in a file of"):
        frame_count_of(data)
