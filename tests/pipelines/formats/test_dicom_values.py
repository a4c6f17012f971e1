"""Stored values of frames: files that hold one picture in many syntaxes, and what damaged frames may do."""

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import MPEG2MPML, ExplicitVRBigEndian, ImplicitVRLittleEndian

from pipelines.errors import Rejected
from pipelines.formats import dicom_codecs, dicom_file
from pipelines.formats.dicom_values import stored_values
from pipelines.images import decode, frame_count_of
from tests.pipelines.test_images import NOISE, dicom, refusal


def real(name: str) -> bytes:
    """A file of the wheels of pydicom and pydicom-data; nothing is fetched."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path).read_bytes()


def values(data: bytes, frame: int = 0) -> np.ndarray:
    return stored_values(dicom_file.read(data), frame)


def saved(dataset: pydicom.Dataset, **writing: Any) -> bytes:
    stream = io.BytesIO()
    plain = pydicom.Dataset(dataset)
    plain.file_meta = dataset.file_meta
    plain.save_as(stream, enforce_file_format=True, **writing)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("twin", "name"),
    [
        ("MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm"),
        ("MR_small.dcm", "MR_small_jp2klossless.dcm"),
        ("MR_small.dcm", "MR_small_RLE.dcm"),
        ("MR_small.dcm", "MR_small_bigendian.dcm"),
        ("MR_small.dcm", "MR_small_implicit.dcm"),
        ("rtdose.dcm", "rtdose_expb.dcm"),
        ("rtdose.dcm", "rtdose_rle.dcm"),
        ("emri_small.dcm", "emri_small_jpeg_ls_lossless.dcm"),
        ("emri_small.dcm", "emri_small_jpeg_2k_lossless.dcm"),
        ("emri_small.dcm", "emri_small_RLE.dcm"),
        ("emri_small.dcm", "emri_small_big_endian.dcm"),
        ("SC_rgb.dcm", "SC_rgb_rle.dcm"),
        ("SC_rgb.dcm", "SC_rgb_expb.dcm"),
        ("SC_rgb.dcm", "SC_rgb_jpeg_gdcm.dcm"),
        ("SC_rgb_16bit.dcm", "SC_rgb_rle_16bit.dcm"),
        ("SC_rgb_16bit_2frame.dcm", "SC_rgb_rle_16bit_2frame.dcm"),
        ("SC_rgb_32bit_2frame.dcm", "SC_rgb_rle_32bit_2frame.dcm"),
        ("SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm"),
        ("liver.dcm", "liver_expb.dcm"),
        ("US1_UNCR.dcm", "US1_J2KR.dcm"),
    ],
)
def test_one_picture_in_two_syntaxes(twin: str, name: str) -> None:
    first, second = real(twin), real(name)
    last = frame_count_of(first) - 1
    assert frame_count_of(second) == last + 1
    for frame in {0, last}:
        np.testing.assert_array_equal(values(second, frame), values(first, frame))
        np.testing.assert_array_equal(np.asarray(decode(second, frame)), np.asarray(decode(first, frame)))


@pytest.mark.parametrize(
    "name",
    [
        *("JPGExtended.dcm", "JPEGLSNearLossless_16.dcm", "JPEG2000.dcm"),
        *("JPGLosslessP14SV1_1s_1f_8b.dcm", "JPEG-LL.dcm"),
    ],
)
def test_values_as_simpleitk_reads_them(name: str, tmp_path: Path) -> None:
    (tmp_path / "file.dcm").write_bytes(real(name))
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "file.dcm")))[0]
    np.testing.assert_array_equal(values(real(name)), theirs)


def test_colours_of_more_than_8_bits_keep_their_upper_ones() -> None:
    colours = np.stack([NOISE, NOISE[::-1], 255 - NOISE], axis=-1)
    for kind, shift in ((np.uint16, 8), (np.uint32, 24)):
        deep = colours.astype(kind) << shift | 17
        np.testing.assert_array_equal(np.asarray(decode(dicom(deep))), colours)
    twelve = dicom(colours.astype(np.uint16) << 4 | 15, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(np.asarray(decode(twelve)), colours)


def test_planes_of_colour() -> None:
    colours = np.stack([NOISE, NOISE[::-1], 255 - NOISE], axis=-1)
    planes = np.ascontiguousarray(np.moveaxis(colours, -1, 0))
    data = dicom(colours, PlanarConfiguration=1, PixelData=planes.tobytes())
    np.testing.assert_array_equal(np.asarray(decode(data)), colours)


def test_ybr_by_hand() -> None:
    # PS3.3 C.7.6.3.1.2: red (255, 0, 0) is Y 76, Cb 85, Cr 255 after rounding; grey has Cb = Cr = 128.
    ybr = np.array([[[76, 85, 255], [200, 128, 128]]], np.uint8)
    full = np.asarray(decode(dicom(ybr, PhotometricInterpretation="YBR_FULL"))).astype(int)
    assert np.abs(full - [[[255, 0, 0], [200, 200, 200]]]).max() <= 1
    # 4:2:2 stores Y Y Cb Cr for two pixels.
    halved = dicom(ybr, PhotometricInterpretation="YBR_FULL_422", PixelData=bytes([76, 150, 85, 255]))
    first = np.asarray(decode(halved)).astype(int)
    assert np.abs(first[0, 0] - [255, 0, 0]).max() <= 1
    assert np.abs(first[0, 1] - [255, 74, 74]).max() <= 1
    # Files that were decompressed keep the name.
    whole = np.asarray(decode(dicom(ybr, PhotometricInterpretation="YBR_FULL_422")))
    np.testing.assert_array_equal(whole, full)


def test_stored_bits_are_cut_out() -> None:
    stored = np.array([[0, 1, 2047, 4095, -1 & 0xFFF]], np.uint16)
    noise = np.array([[0xF000, 0x1000, 0, 0x7000, 0xA000]], np.uint16)  # overlays of older files lie there
    low = dicom(stored | noise, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(values(low), stored)
    upper = dicom(stored << 4 | 5, BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(values(upper), stored)
    signed = dicom(stored << 4 | 5, BitsStored=12, HighBit=15, PixelRepresentation=1)
    assert values(signed).tolist() == [[0, 1, 2047, -1, -1]]


def test_bits_are_pixels_in_frames_that_share_bytes() -> None:
    frames = (np.random.default_rng(1).random((3, 5, 7)) < 0.4).astype(np.uint8)
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    for big in (False, True):
        dataset = pydicom.dcmread(io.BytesIO(dicom(frames, BitsAllocated=1, BitsStored=1, HighBit=0)))
        content = packed + bytes(len(packed) % 2)
        if big:
            content = np.frombuffer(content, "<u2").byteswap().tobytes()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset["PixelData"].VR, dataset.PixelData = "OW", content
        data = saved(dataset, implicit_vr=False, little_endian=not big)
        for frame in range(3):
            np.testing.assert_array_equal(np.asarray(decode(data, frame)), frames[frame] * 255)


@pytest.mark.parametrize("kind", ["<f4", "<f8"])
def test_float_values(kind: str) -> None:
    pixels = np.tile(np.linspace(-1, 1, 101), (4, 1)).astype(kind)
    pixels[0, 0], pixels[1, 100] = np.nan, np.inf
    dataset = pydicom.dcmread(io.BytesIO(dicom(np.zeros(pixels.shape, np.uint16))))
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    name, vr = {"<f4": ("FloatPixelData", "OF"), "<f8": ("DoubleFloatPixelData", "OD")}[kind]
    dataset.add_new(name, vr, pixels.tobytes())
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = "0", "2", "LINEAR_EXACT"
    result = np.asarray(decode(saved(dataset)))
    np.testing.assert_allclose(result[2], (np.linspace(-1, 1, 101) + 1) / 2 * 255, atol=0.501)
    assert (result[0, 0], result[1, 100]) == (0, 0)


def test_implicit_files_hold_the_same() -> None:
    dataset = pydicom.dcmread(io.BytesIO(dicom(NOISE.astype(np.int16) - 100, PixelPaddingValue=-100)))
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    implicit = saved(dataset, implicit_vr=True, little_endian=True)
    explicit = dicom(NOISE.astype(np.int16) - 100, PixelPaddingValue=-100)
    np.testing.assert_array_equal(np.asarray(decode(implicit)), np.asarray(decode(explicit)))


def test_every_declared_decoder_is_installed() -> None:
    for syntax, name in dicom_codecs.PLUGINS.items():
        assert name in pydicom.pixels.get_decoder(syntax).available_plugins, syntax.name


def test_a_syntax_without_a_decoder_is_named() -> None:
    dataset = pydicom.dcmread(io.BytesIO(real("MR_small_jpeg_ls_lossless.dcm")))
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    with pytest.raises(Rejected, match="no decoder for MPEG2") as caught:
        decode(saved(dataset))
    assert caught.value.reason == "unsupported_type"


def test_pixels_that_are_not_written_as_their_syntax_says() -> None:
    native, rle = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"
    data = dicom(NOISE)
    assert data.count(native) == 1
    assert refusal(data.replace(native, rle)) == "corrupt"
    data = real("SC_rgb_rle.dcm")
    assert data.count(rle) == 1
    assert refusal(data.replace(rle, native)) == "corrupt"


def test_a_number_of_frames_that_is_none_means_one() -> None:
    data = dicom(NOISE, NumberOfFrames="12")
    assert data.count(b"IS\x02\x0012") == 1
    np.testing.assert_array_equal(np.asarray(decode(data.replace(b"IS\x02\x0012", b"IS\x02\x001A"))), NOISE)


def test_an_implicit_header_before_compressed_pixels() -> None:
    assert decode(real("SC_rgb_jpeg.dcm")).mode == "RGB"  # PS3.5 A.4 asks for an explicit one


@pytest.mark.parametrize(
    "name",
    [
        *("MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm"),
        *("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_jpeg_dcmtk.dcm", "JPGExtended.dcm"),
    ],
)
def test_half_a_frame_is_no_picture(name: str) -> None:
    dataset = pydicom.dcmread(io.BytesIO(real(name)))
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    assert refusal(saved(dataset)) in ("corrupt", "truncated")


def test_damaged_frames_end_nothing() -> None:
    """Some of these end GDCM's process (3.2.6); were it ours, this test would not end."""
    for name in ("MR_small_jpeg_ls_lossless.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm"):
        dataset = pydicom.dcmread(io.BytesIO(real(name)))
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        chance = random.Random(5)
        for _ in range(12):
            damaged = bytearray(frame[: chance.choice([len(frame), len(frame) // 2])])
            for _ in range(8):
                damaged[int(chance.random() ** 3 * len(damaged))] = chance.randrange(256)
            dataset.PixelData = encapsulate([bytes(damaged)])
            try:
                assert decode(saved(dataset)).size == (dataset.Columns, dataset.Rows)
            except Rejected as error:
                assert error.reason in ("corrupt", "truncated", "flat_picture")  # noqa: PT017
    np.testing.assert_array_equal(values(real("MR_small_jpeg_ls_lossless.dcm")), values(real("MR_small.dcm")))


def test_a_decoder_that_ends_costs_its_frame_alone() -> None:
    data = real("MR_small_jpeg_ls_lossless.dcm")
    whole = values(data)
    running = dicom_codecs._process._running
    assert running is not None
    running.kill()
    running.wait()
    np.testing.assert_array_equal(values(data), whole)
    assert dicom_codecs._process._running is not running


def test_a_decoder_that_needs_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_codecs, "_SECONDS", 0.0)
    # One that has to start: a process that waits already may answer before the clock's thread runs.
    monkeypatch.setattr(dicom_codecs, "_process", dicom_codecs._Process())
    assert refusal(real("MR_small_jpeg_ls_lossless.dcm")) == "corrupt"
    monkeypatch.undo()
    assert decode(real("MR_small_jpeg_ls_lossless.dcm")).size == (64, 64)
