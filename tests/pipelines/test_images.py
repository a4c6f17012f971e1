"""`open_image` and `decode_mask`: values by hand for every format, and every broken picture with its reason code."""

import gzip
import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from models.preparation import to_8_bit
from pipelines import images
from pipelines.cuts import Cut
from pipelines.errors import Rejected
from pipelines.images import (
    decode,
    decode_mask,
    frame_count,
    header_ids,
    is_blank,
    is_near_uniform,
    open_image,
    thumbnail,
)
from pipelines.opened import opened
from tests.pipelines.formats.volume_files import with_itk

NOISE = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **options)
    return stream.getvalue()


def refusal(data: bytes, frame: int | None = None, **options: Any) -> str:
    with pytest.raises(Rejected) as caught:
        decode(data, frame, **options)
    return caught.value.reason


def dicom(values: np.ndarray, **elements: Any) -> bytes:
    """A DICOM file of (frames,) height x width (x 3) values; `elements` are set as they are."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["test"])
    colour = values.ndim == 3 and values.shape[-1] == 3
    *frames, dataset.Rows, dataset.Columns = values.shape[:-1] if colour else values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        dataset.PlanarConfiguration = 0
    if frames:
        dataset.NumberOfFrames = frames[0]
    dataset.BitsAllocated = dataset.BitsStored = values.dtype.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(values.dtype.kind == "i")
    dataset.add_new("PixelData", "OB" if dataset.BitsAllocated == 8 else "OW", values.tobytes())
    for name, value in elements.items():
        setattr(dataset, name, value)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_8_bit_values_stay_as_stored(tmp_path: Path, kind: str) -> None:
    colour = np.stack([NOISE, NOISE[::-1], 255 - NOISE], axis=-1)
    for name, values in (("grey", NOISE), ("colour", colour)):
        (tmp_path / name).write_bytes(encoded(values, kind))
        image = open_image(tmp_path, name)
        assert image.mode == {"grey": "L", "colour": "RGB"}[name]
        np.testing.assert_array_equal(np.asarray(image), values)


def test_jpeg_is_what_pillow_makes_of_it() -> None:
    data = encoded(NOISE, "JPEG", quality=90)
    np.testing.assert_array_equal(np.asarray(decode(data)), np.asarray(Image.open(io.BytesIO(data))))
    assert decode(encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG")).mode == "RGB"


def test_modes_become_l_or_rgb() -> None:
    assert decode(encoded(Image.new("1", (4, 4), 1), "PNG")).getpixel((0, 0)) == 255
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert decode(encoded(palette, "PNG")).getpixel((0, 0)) == (10, 20, 30)


def test_transparent_pixels_are_laid_on_white() -> None:
    assert decode(encoded(Image.new("RGBA", (2, 2), (200, 0, 0, 0)), "PNG")).getpixel((0, 0)) == (255, 255, 255)
    half = decode(encoded(Image.new("LA", (2, 2), (0, 102)), "PNG"))  # 102/255 of black over white: 153
    assert (half.mode, half.getpixel((0, 0))) == ("L", 153)


def test_grey_of_16_bits_goes_from_its_low_to_its_high_percentile() -> None:
    values = np.arange(1001, dtype=np.uint16).reshape(7, 143) + 3000  # 0.5th percentile 3005, 99.5th 3995
    for kind in ("PNG", "TIFF"):
        result = np.asarray(decode(encoded(values, kind))).ravel()
        assert result[[0, 5, 995, 1000]].tolist() == [0, 0, 255, 255]
        assert result[500] == round((3500 - 3005) / 990 * 255)
    assert not np.asarray(decode(encoded(np.full((4, 4), 999, np.uint16), "PNG"))).any()
    one = np.zeros((100, 100), np.uint16)
    one[3, 4] = 7  # both percentiles are 0: the one bright pixel is kept all the same
    assert np.argwhere(np.asarray(decode(encoded(one, "PNG"))) == 255).tolist() == [[3, 4]]


def test_infinite_values_stretch_no_range() -> None:
    values = np.tile(np.linspace(0, 100, 101, dtype=np.float32), (20, 1))
    expected = to_8_bit(values)
    values[0, 100], values[1, 0], values[2, 0] = np.inf, -np.inf, np.nan
    assert np.array_equal(to_8_bit(values), expected)
    assert not to_8_bit(np.full((4, 4), np.nan)).any()
    assert not to_8_bit(np.full((4, 4), -np.inf)).any()


def test_pages_of_a_tiff() -> None:
    pages = [Image.new("L", (3, 2), value) for value in (10, 20, 30)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert [decode(data, frame).getpixel((0, 0)) for frame in range(3)] == [10, 20, 30]
    assert decode(data).getpixel((0, 0)) == 10
    assert refusal(data, 3) == refusal(data, -1) == "missing_frame"
    assert refusal(encoded(pages[0], "PNG"), 1) == "missing_frame"


def test_dicom_window_by_hand() -> None:
    values = np.array([[0, 940, 1040, 1090, 1140, 1240, 4095]], np.uint16)
    data = dicom(values, RescaleSlope=1, RescaleIntercept=-1000, WindowCenter=[90, 0], WindowWidth=[201, 1])
    # PS3.3 C.11.2.1.2.1 with c = 90, w = 201: y = ((x - 89.5) / 200 + 0.5) * 255, black to -10.5, white from 189.5.
    expected = [0, 0] + [round(((x - 89.5) / 200 + 0.5) * 255) for x in (40, 90, 140)] + [255, 255]
    assert np.asarray(decode(data)).tolist() == [expected]
    inverted = dicom(
        values,
        PhotometricInterpretation="MONOCHROME1",
        RescaleSlope=1,
        RescaleIntercept=-1000,
        WindowCenter=90,
        WindowWidth=201,
    )
    assert np.asarray(decode(inverted)).tolist() == [[255 - value for value in expected]]


def test_dicom_with_a_negative_slope_and_signed_values() -> None:
    values = np.array([[-100, 0, 100]], np.int16)
    data = dicom(
        values, RescaleSlope=-2, RescaleIntercept=0, WindowCenter=0, WindowWidth=400, VOILUTFunction="LINEAR_EXACT"
    )
    assert np.asarray(decode(data)).tolist() == [[255, 128, 0]]


def test_dicom_voi_lut_counts_before_the_window() -> None:
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTData = [4, 10, 10], [0, 341, 682, 1023]  # inputs from 10, 10 bits
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "US"
    data = dicom(np.array([[0, 10, 11, 12, 13, 99]], np.uint16), VOILUTSequence=[item], WindowCenter=1, WindowWidth=2)
    assert np.asarray(decode(data)).tolist() == [[0, 0, 85, 170, 255, 255]]


def test_dicom_without_a_window() -> None:
    np.testing.assert_array_equal(np.asarray(decode(dicom(NOISE))), NOISE)
    np.testing.assert_array_equal(
        np.asarray(decode(dicom(NOISE, PhotometricInterpretation="MONOCHROME1"))), 255 - NOISE
    )
    values = np.arange(1001, dtype=np.uint16).reshape(7, 143)
    assert np.asarray(decode(dicom(values))).ravel()[500] == round((500 - 5) / 990 * 255)


def test_dicom_colour_and_frames(tmp_path: Path) -> None:
    colour = np.stack([NOISE, NOISE[::-1], 255 - NOISE], axis=-1)
    np.testing.assert_array_equal(np.asarray(decode(dicom(colour))), colour)
    stack = dicom(np.stack([NOISE, 255 - NOISE]))
    (tmp_path / "stack").write_bytes(stack)
    assert frame_count(tmp_path, "stack") == 2
    np.testing.assert_array_equal(np.asarray(decode(stack, 1)), 255 - NOISE)
    assert refusal(stack) == refusal(stack, 2) == "missing_frame"


def test_dicom_that_begins_as_a_tiff_keeps_its_frames() -> None:
    stack = b"II*\0" + dicom(np.stack([NOISE, 255 - NOISE]))[4:]
    assert images.frames(opened(stack), pages=False) == 2
    np.testing.assert_array_equal(np.asarray(decode(stack, 1)), 255 - NOISE)


def test_dicom_compressed_without_loss() -> None:
    dataset = pydicom.dcmread(io.BytesIO(dicom(NOISE)))
    dataset.compress(RLELossless, encoding_plugin="pydicom")
    stream = io.BytesIO()
    dataset.save_as(stream)
    np.testing.assert_array_equal(np.asarray(decode(stream.getvalue())), NOISE)


def test_broken_dicom() -> None:
    data = dicom(NOISE)
    assert refusal(data[: len(data) // 2]) in ("truncated", "corrupt")
    assert refusal(data[:-1000]) == "truncated"
    assert refusal(dicom(NOISE, Rows=60000, Columns=60000)) == "too_many_pixels"
    without = pydicom.dcmread(io.BytesIO(data))
    del without.PixelData
    stream = io.BytesIO()
    without.save_as(stream)
    assert refusal(stream.getvalue()) == "unsupported_type"


def test_deflated_dicom_is_read() -> None:
    dataset = pydicom.dcmread(io.BytesIO(dicom(NOISE)))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    stream = io.BytesIO()
    dataset.save_as(stream)
    assert images.pixel_sha256(decode(stream.getvalue())) == images.pixel_sha256(decode(dicom(NOISE)))


def volume(codes: str) -> bytes:
    """4 x 5 x 6 voxels in the given orientation; i steps to the right, j to the front, k up is 100 i + 10 j + k."""
    i, j, k = np.meshgrid(range(4), range(5), range(6), indexing="ij")
    canonical = nibabel.Nifti1Image((100 * i + 10 * j + k).astype(np.int16), np.eye(4))
    to = nibabel.orientations.axcodes2ornt(codes)
    return canonical.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.io_orientation(np.eye(4)), to)
    ).to_bytes()


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAI", "PSR", "SRA", "IPL"])
def test_nifti_slices_are_shown_as_radiologists_do(tmp_path: Path, codes: str) -> None:
    data = volume(codes)
    for name, content in (("v.nii", data), ("v.nii.gz", gzip.compress(data, mtime=0))):
        (tmp_path / name).write_bytes(content)
        assert frame_count(tmp_path, name) == 6
        for frame in (0, 2, 5):
            shown = opened(content).volume.picture(Cut(frame=frame), 1000)
            # Columns: the patient's right (i = 3) comes first; rows: the front (j = 4) comes first.
            expected = [[100 * i + 10 * j + frame for i in (3, 2, 1, 0)] for j in (4, 3, 2, 1, 0)]
            assert shown.tolist() == expected
        image = open_image(tmp_path, name, frame=2)
        assert (image.mode, image.size) == ("L", (4, 5))
        assert image.getpixel((0, 0)) == 255
        assert image.getpixel((3, 4)) == 0
        assert refusal(content) == refusal(content, 6) == "missing_frame"


def test_broken_nifti() -> None:
    data = volume("RAS")
    assert refusal(data[:-50], 5) == "truncated"
    packed = gzip.compress(data, mtime=0)
    assert refusal(packed[:-20], 5) in ("truncated", "corrupt")
    huge = bytearray(data)
    struct.pack_into("<3h", huge, 42, 30000, 30000, 2)
    assert refusal(bytes(huge), 0) == "truncated"  # a claim that the bytes do not hold
    assert refusal(gzip.compress(bytes(huge)), 0) == "truncated"
    assert refusal(data, 5, max_pixels=4 * 5 - 1) == "too_many_pixels"
    struct.pack_into("<3h", huge, 42, 30000, 30000, 30000)
    assert refusal(bytes(huge), 0) == "file_too_large"
    for sides in ((0, 0, -4096), (4, 0, 6), (-4, 5, -6)):
        struct.pack_into("<3h", huge, 42, *sides)
        assert refusal(bytes(huge), 0) == "corrupt", sides
    moving = nibabel.Nifti1Image(np.zeros((2, 2, 2, 3), np.int16), np.eye(4)).to_bytes()
    assert refusal(moving, 0) == "missing_volume"


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_broken_pictures_and_their_reasons() -> None:
    for kind in ("PNG", "JPEG", "TIFF"):
        whole = encoded(NOISE, kind)
        assert refusal(whole[: len(whole) // 2]) == "truncated", kind
        assert refusal(whole[:8] + bytes(200)) == "corrupt", kind
    png = encoded(NOISE, "PNG")
    assert refusal(png[:60] + bytes(40) + png[100:]) == "corrupt"
    assert refusal(png_header(60000, 60000)) == "too_many_pixels"
    assert refusal(png_header(10001, 10000)) == "too_many_pixels"
    assert refusal(png, max_pixels=40 * 60 - 1) == "too_many_pixels"
    assert decode(png, max_pixels=40 * 60).size == (60, 40)
    for text in (b"patient,label\n1,2\n", b"<svg/>", b"BMI,age\n31,40\n", b"\x1f\x8b not gzip", b"%PDF-1.7"):
        assert refusal(text) == "unsupported_type"


BASES = [
    encoded(NOISE, "PNG"),
    encoded(NOISE, "JPEG"),
    encoded(NOISE, "TIFF"),
    dicom(NOISE, WindowCenter=90, WindowWidth=100),
    volume("LPS"),
    gzip.compress(volume("RSA"), mtime=0),
    with_itk(NOISE[:4, :5, None].repeat(6, axis=2), np.diag([1.0, 1.0, 3.0, 1.0]), ".nrrd")["v.nrrd"],
    with_itk(NOISE[:4, :5, None].repeat(6, axis=2), np.diag([1.0, 1.0, 3.0, 1.0]), ".mha", compressed=True)["v.mha"],
]


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(BASES), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8))
def test_damaged_bytes_give_a_picture_or_a_reason(base: bytes, damages: list[tuple[float, int]]) -> None:
    data = bytearray(base)
    for place, value in damages:
        data[int(place**3 * len(data))] = value  # mostly in the header
    assert mode_or_reason(bytes(data)) in {
        *("L", "RGB"),
        *("corrupt", "truncated", "unsupported_type", "too_many_pixels", "missing_frame", "file_too_large"),
        *("missing_volume", "missing_file"),
        "flat_picture",
    }


def mode_or_reason(data: bytes) -> str:
    try:
        return decode(data, 0).mode
    except Rejected as error:
        return error.reason


def test_masks_keep_their_values() -> None:
    values = np.array([[0, 1, 2], [7, 200, 255]], np.uint8)
    grey = encoded(values, "PNG")
    assert decode_mask(grey).values.tolist() == values.tolist()
    assert decode_mask(grey, frame=12).values.tolist() == values.tolist()  # a slice's own mask
    assert decode_mask(encoded(Image.fromarray(values > 100), "PNG")).values.tolist() == [[0, 0, 0], [0, 255, 255]]
    palette = Image.fromarray(values)
    palette = Image.frombytes("P", palette.size, palette.tobytes())
    palette.putpalette([255, 0, 0] * 256)
    assert decode_mask(encoded(palette, "PNG")).values.tolist() == values.tolist()
    deep = values.astype(np.uint16) * 300
    assert decode_mask(encoded(deep, "PNG")).values.tolist() == deep.tolist()
    grey_in_colour = np.repeat(values[..., None], 3, axis=-1)
    assert decode_mask(encoded(grey_in_colour, "PNG")).values.tolist() == values.tolist()


def test_masks_that_were_stored_with_loss_or_in_colour() -> None:
    square = np.zeros((64, 64), np.uint8)
    square[13:50, 13:50] = 255
    noisy = encoded(square, "JPEG", quality=50)
    stored = decode_mask(noisy)
    assert stored.lossy
    assert stored.values.tolist() == np.asarray(Image.open(io.BytesIO(noisy))).tolist()
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[0, 0] = 255, 0, 0
    with pytest.raises(Rejected, match="unsupported_type"):
        decode_mask(encoded(colour, "PNG"))
    with pytest.raises(Rejected, match="unsupported_type"):
        decode_mask(encoded(Image.new("F", (4, 4), 0.5), "TIFF"))


def test_identity_by_hand() -> None:
    data = b"bytes of a file"
    expected = {
        (None, Cut()): b"\0\0",
        ("a/b.png", Cut(frame=3)): b"\0a/b.png\x003",
        (None, Cut(frame=3, axis="coronal")): b"\0\x003\0coronal\0",
        (None, Cut(volume=2)): b"\0\0\0\x002",
    }
    for (member, cut), behind in expected.items():
        assert images.image_identity(opened(data), member, cut) == hashlib.sha256(data + behind).hexdigest()[:16]


def test_the_same_picture_in_other_containers_has_the_same_pixel_digest() -> None:
    grey = images.pixel_sha256(decode(encoded(NOISE, "PNG")))
    assert images.pixel_sha256(decode(encoded(NOISE, "TIFF"))) == grey
    assert images.pixel_sha256(decode(encoded(np.repeat(NOISE[..., None], 3, axis=-1), "PNG"))) == grey
    assert images.pixel_sha256(decode(encoded(NOISE.reshape(60, 40), "PNG"))) != grey
    assert grey == hashlib.sha256(b"60x40\0" + np.repeat(NOISE[..., None], 3, axis=-1).tobytes()).hexdigest()


def test_perceptual_hash_survives_resizing_and_tells_pictures_apart() -> None:
    random = np.random.default_rng(0)
    picture, other = (
        Image.fromarray(random.integers(0, 256, (16, 16), dtype=np.uint8)).resize((200, 300)) for _ in "ab"
    )
    first, smaller, second = (int(images.perceptual_hash(i), 16) for i in (picture, picture.resize((100, 150)), other))
    assert len(images.perceptual_hash(picture)) == 64
    assert (first ^ smaller).bit_count() <= 10 < 60 < (first ^ second).bit_count()


@settings(deadline=None)
@given(arrays.arrays(np.uint8, (64, 96)))
def test_thumbnail_is_the_mean_of_each_cell(values: np.ndarray) -> None:
    cells = values.reshape(32, 2, 32, 3).mean(axis=(1, 3))
    thumbnail = np.frombuffer(images.thumbnail(Image.fromarray(values)), np.uint8).reshape(32, 32)
    assert np.abs(thumbnail - cells).max() <= 1  # Pillow rounds after each of two passes


def page(values: np.ndarray, **changes: int) -> np.ndarray:
    """The values with the pixels (row, column) `rR_C` set."""
    values = values.copy()
    for name, value in changes.items():
        row, column = map(int, name[1:].split("_"))
        values[row, column] = value
    return values


@pytest.mark.parametrize(
    ("image", "blank"),
    [
        (Image.new("L", (9, 7), 0), True),
        (Image.new("RGB", (9, 7), (250, 3, 120)), True),
        (Image.fromarray(page(np.full((7, 9), 40, np.uint8), r0_0=42)), True),
        (Image.fromarray(page(np.full((7, 9), 40, np.uint8), r0_0=41, r6_8=38)), False),
        (
            Image.fromarray(np.stack([np.full((7, 9), 9), np.full((7, 9), 9), np.eye(7, 9) * 3], -1).astype(np.uint8)),
            False,
        ),
        (decode(encoded(np.full((40, 40, 3), 77, np.uint8), "JPEG", quality=30)), True),
        (Image.fromarray(NOISE), False),
    ],
)
def test_an_image_of_one_value_or_next_to_it_is_blank(image: Image.Image, blank: bool) -> None:
    assert is_blank(image) == blank


@pytest.mark.parametrize(
    ("inside", "outside", "near_uniform"),
    [
        # Of 1,024 values: 922 are 90 %.
        ([100] * 922, 102, True),
        ([100] * 921, 103, False),
        # Within 4 levels of one value, the value itself being absent; one more level is too far.
        ([100] * 500 + [108] * 524, 0, True),
        ([100] * 500 + [109] * 524, 0, False),
        ([0] * 512 + [4] * 512, 0, True),
        ([255] * 512 + [251] * 512, 0, True),
        # No value is near another at the far end of the scale.
        ([0] * 512 + [255] * 512, 0, False),
    ],
)
def test_a_near_uniform_thumbnail_by_hand(inside: list[int], outside: int, near_uniform: bool) -> None:
    others = [(20 * n) % 80 if n % 2 else 255 - (20 * n) % 80 for n in range(outside)]
    assert is_near_uniform(bytes([*inside, *others])) == near_uniform


def test_end_slices_and_pages_are_near_uniform_and_small_organs_are_not() -> None:
    def disc(radius: int) -> np.ndarray:
        rows, columns = np.mgrid[:128, :128]
        return np.where(
            (rows - 64) ** 2 + (columns - 64) ** 2 < radius**2, NOISE.repeat(4, 0).repeat(3, 1)[:128, :128], 0
        )

    assert is_near_uniform(thumbnail(Image.fromarray(disc(15).astype(np.uint8))))  # 4 % of the slice
    assert not is_near_uniform(thumbnail(Image.fromarray(disc(30).astype(np.uint8))))  # 17 %
    assert not is_near_uniform(thumbnail(Image.fromarray(NOISE)))


def test_ids_of_a_header() -> None:
    full = {"PatientID": " 0017", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4"}
    grey = np.zeros((2, 2), np.uint8)
    assert header_ids(dicom(grey, **full)) == ("0017", "1.2.3")
    assert header_ids(dicom(grey, PatientID="", SeriesInstanceUID="1.2.4")) == (None, "1.2.4")
    assert header_ids(dicom(grey)) == (None, None)
    assert header_ids(encoded(grey, "PNG")) == (None, None)
