"""Grey levels of DICOM frames: expected values by PS3.3 and PS3.4, worked out by hand, and beside DCMTK's pictures."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from models.preparation import to_8_bit
from pipelines.images import decode
from tests.pipelines.test_images import dicom, refusal

RAMP = np.tile(np.arange(64, dtype=np.int16) * 10, (8, 1))  # 0, 10, ... 630


def shown(data: bytes, frame: int | None = None) -> np.ndarray:
    return np.asarray(decode(data, frame))


def item(**elements: Any) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def table(first: int, entries: list[int], bits: int, vr: str = "US") -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    dataset.add_new("LUTData", vr, np.array(entries, "<u2").tobytes() if vr == "OW" else entries)
    return dataset


def linear(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, whose ends are 0 and 255."""
    return np.rint(np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255)


DISC = np.hypot(*np.mgrid[-32:32, -32:32]) < 25
HU = np.where(DISC, np.arange(64) * 4 - 100, -2000).astype(np.int16)


@pytest.mark.parametrize("kind", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize(
    ("padding", "elements"),
    [
        (-2000, {"PixelPaddingValue": -2000}),
        (-1995, {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}),
        (-1995, {"PixelPaddingValue": -1990, "PixelPaddingRangeLimit": -2000}),
        (3000, {"PixelPaddingValue": 3000, "RescaleSlope": 1, "RescaleIntercept": -5}),
    ],
)
def test_padding_is_darkest_and_stretches_nothing(kind: str, padding: int, elements: dict[str, Any]) -> None:
    values = np.where(DISC, HU, padding).astype(np.int16)
    result = shown(dicom(values, PhotometricInterpretation=kind, **elements))
    assert not result[~DISC].any()
    alone = to_8_bit(HU[DISC])
    np.testing.assert_array_equal(result[DISC], alone if kind == "MONOCHROME2" else 255 - alone)


def test_padding_of_unsigned_8_bit_and_float_values() -> None:
    values = np.where(DISC, 10 + np.arange(64) * 2, 255).astype(np.uint8)
    result = shown(dicom(values, PixelPaddingValue=255))
    np.testing.assert_array_equal(result, np.where(DISC, values, 0))
    window = {"WindowCenter": 100, "WindowWidth": 100}
    result = shown(dicom(values, PixelPaddingValue=255, **window))  # white by the window, were it no padding
    np.testing.assert_array_equal(result, np.where(DISC, linear(values, 100, 100), 0))
    unsigned = np.where(DISC, 1000 + np.arange(64), 63536).astype(np.uint16)
    np.testing.assert_array_equal(shown(dicom(unsigned, PixelPaddingValue=63536))[DISC], to_8_bit(unsigned[DISC]))
    only = np.full((4, 4), 7, np.uint16)
    assert not shown(dicom(only, PixelPaddingValue=7)).any()


def test_a_padding_value_that_no_pixel_has_changes_nothing() -> None:
    np.testing.assert_array_equal(shown(dicom(RAMP, PixelPaddingValue=-2000)), to_8_bit(RAMP))


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": 300, "WindowWidth": 0},
        {"WindowCenter": 300, "WindowWidth": -400},
        {"WindowCenter": 300, "WindowWidth": 0.5},
        {"WindowCenter": 300, "WindowWidth": 0, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 300, "WindowWidth": -1, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 300},
        {"WindowWidth": 400},
        {"WindowCenter": "", "WindowWidth": ""},
        {"WindowCenter": [300, 200], "WindowWidth": [0, -3]},
    ],
)
def test_an_invalid_window_is_none(window: dict[str, Any]) -> None:
    np.testing.assert_array_equal(shown(dicom(RAMP, **window)), to_8_bit(RAMP))


@pytest.mark.parametrize("number", [b"wide", b"nan ", b"9E9999", b"1\\x "])
def test_a_window_that_is_no_number_or_has_no_end_is_none(number: bytes) -> None:
    data = dicom(RAMP, WindowCenter="300", WindowWidth="9999")
    data = data.replace(b"\x04\x009999", len(number).to_bytes(2, "little") + number)
    assert number in data
    np.testing.assert_array_equal(shown(data), to_8_bit(RAMP))


def test_the_first_valid_window_counts() -> None:
    data = dicom(RAMP, WindowCenter=[300, 200, 100], WindowWidth=[0, 400, 10])
    np.testing.assert_array_equal(shown(data), linear(RAMP, 200, 400))


def test_functions_of_windows() -> None:
    values = np.array([[0, 290, 299, 300, 301, 310, 630]], np.int16)
    exact = shown(dicom(values, WindowCenter=300, WindowWidth=0.5, VOILUTFunction="LINEAR_EXACT"))
    assert exact.tolist() == [[0, 0, 0, 128, 255, 255, 255]]
    narrowest = shown(dicom(values, WindowCenter=300, WindowWidth=1))  # above 299.5 white
    assert narrowest.tolist() == [[0, 0, 0, 255, 255, 255, 255]]
    sigmoid = shown(dicom(values, WindowCenter=300, WindowWidth=40, VOILUTFunction="SIGMOID"))
    # 255 / (1 + e), 255 / (1 + e^0.1), half, ...
    assert sigmoid.tolist() == [[0, 69, 121, 128, 134, 186, 255]]
    unknown = shown(dicom(values, WindowCenter=300, WindowWidth=401, VOILUTFunction="CURVE"))
    np.testing.assert_array_equal(unknown, linear(values, 300, 401))


def group(**sequences: pydicom.Dataset) -> pydicom.Dataset:
    return item(**{name: [content] for name, content in sequences.items()})


def ct_group(intercept: int, center: int) -> pydicom.Dataset:
    return group(
        PixelValueTransformationSequence=item(RescaleSlope="2", RescaleIntercept=str(intercept)),
        FrameVOILUTSequence=item(WindowCenter=str(center), WindowWidth="400"),
    )


def test_functional_groups_of_each_frame() -> None:
    frames = np.stack([RAMP, RAMP + 1000])
    groups = [ct_group(-1024, -500), ct_group(-2048, 500)]
    data = dicom(frames, PerFrameFunctionalGroupsSequence=groups)
    np.testing.assert_array_equal(shown(data, 0), linear(RAMP * 2.0 - 1024, -500, 400))
    np.testing.assert_array_equal(shown(data, 1), linear((RAMP + 1000) * 2.0 - 2048, 500, 400))


def test_functional_groups_that_frames_share() -> None:
    frames = np.stack([RAMP, RAMP[:, ::-1]])
    one = group(FrameVOILUTSequence=item(WindowCenter="100", WindowWidth="300"))
    data = dicom(
        frames,
        SharedFunctionalGroupsSequence=[ct_group(-1024, -500)],
        PerFrameFunctionalGroupsSequence=[item(), one],
        WindowCenter=1,  # older readers' window; the groups count
        WindowWidth=2,
    )
    np.testing.assert_array_equal(shown(data, 0), linear(frames[0] * 2.0 - 1024, -500, 400))
    np.testing.assert_array_equal(shown(data, 1), linear(frames[1] * 2.0 - 1024, 100, 300))


def test_a_table_in_a_functional_group() -> None:
    tables = item()
    tables.VOILUTSequence = [table(100, [0, 51, 255], 8)]
    data = dicom(RAMP[:, 9:14], SharedFunctionalGroupsSequence=[group(FrameVOILUTSequence=tables)])
    assert shown(data)[0].tolist() == [0, 0, 255, 255, 255]  # of 90, 100, 110, 120, 130


@pytest.mark.parametrize("vr", ["US", "OW"])
def test_modality_table(vr: str) -> None:
    values = np.array([[-5, -2, -1, 0, 1, 9]], np.int16)
    data = dicom(
        values, ModalityLUTSequence=[table(-2, [100, 110, 150, 300], 16, vr)], WindowCenter=200.5, WindowWidth=201
    )
    # Values become 100, 100, 110, 150, 300, 300; the window runs from 100 to 300.
    assert shown(data).tolist() == [[0, 0, 13, 64, 255, 255]]


def test_voi_table_of_negative_values_after_the_rescale() -> None:
    values = np.array([[0, 22, 23, 24, 30]], np.uint16)
    data = dicom(
        values, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=[table(64512 + 22, [0, 1000, 4095], 12)]
    )  # 64534 is -1002, written without a sign
    assert shown(data).tolist() == [[0, 0, 62, 255, 255]]


def test_a_voi_table_that_says_too_few_bits_or_nothing() -> None:
    values = np.array([[0, 1, 2]], np.uint16)
    assert shown(dicom(values, VOILUTSequence=[table(0, [0, 2000, 4095], 8)])).tolist() == [[0, 125, 255]]
    empty = item()
    data = dicom(values, VOILUTSequence=[empty], WindowCenter=1.5, WindowWidth=3)
    np.testing.assert_array_equal(shown(data), linear(values, 1.5, 3))


def test_low_values_are_bright_once() -> None:
    values = RAMP[:1]
    window = {"WindowCenter": 300, "WindowWidth": 400}
    straight = linear(values, 300, 400)
    for kind, shape, inverse in [
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "INVERSE", True),  # PS3.3 C.8.11.3.1.2: both stand for the same
    ]:
        elements = {} if shape is None else {"PresentationLUTShape": shape}
        result = shown(dicom(values, PhotometricInterpretation=kind, **window, **elements))
        np.testing.assert_array_equal(result, 255 - straight if inverse else straight, err_msg=f"{kind} {shape}")


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 5000, "WindowWidth": 100},
        {"WindowCenter": -5000, "WindowWidth": 100},
        {"WindowCenter": 5000, "WindowWidth": 1, "PhotometricInterpretation": "MONOCHROME1"},
        {"VOILUTSequence": [table(0, [7, 7], 8)]},
    ],
)
def test_a_window_that_shows_nothing_of_what_is_there(elements: dict[str, Any]) -> None:
    assert refusal(dicom(RAMP, **elements)) == "flat_picture"
    assert len(np.unique(shown(dicom(np.full((4, 4), 3, np.int16), **elements)))) == 1  # there is nothing to show


def test_grey_of_8_bits_stays_where_nothing_changes_it() -> None:
    values = np.arange(50, 114, dtype=np.uint8).reshape(8, 8)
    np.testing.assert_array_equal(shown(dicom(values, RescaleSlope=1, RescaleIntercept=0)), values)
    changed = shown(dicom(values, RescaleSlope=2, RescaleIntercept=0))
    np.testing.assert_array_equal(changed, to_8_bit(values))


@pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="DCMTK is not installed")
@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 300, "WindowWidth": 400},
        {"WindowCenter": 150.5, "WindowWidth": 99, "PhotometricInterpretation": "MONOCHROME1"},
        {"WindowCenter": -700, "WindowWidth": 301, "RescaleSlope": "1.5", "RescaleIntercept": "-1024"},
        {"WindowCenter": 300, "WindowWidth": 120, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 300, "WindowWidth": 200, "PresentationLUTShape": "INVERSE"},
        {
            "WindowCenter": 300,
            "WindowWidth": 200,
            "PhotometricInterpretation": "MONOCHROME1",
            "PresentationLUTShape": "INVERSE",
        },
        {"WindowCenter": 300, "WindowWidth": 1},
    ],
)
def test_the_file_s_window_as_dcmtk_draws_it(elements: dict[str, Any], tmp_path: Path) -> None:
    data = dicom(RAMP, **elements)
    assert np.abs(shown(data) - by_dcmtk(data, tmp_path, "+Wi", "1")).max() <= 1


@pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="DCMTK is not installed")
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("vlut_04.dcm", ["+Wl", "1"]),
        ("RG3_UNCR.dcm", ["+Wi", "1"]),  # MONOCHROME1
        ("693_UNCR.dcm", ["+Wi", "1"]),  # a rescale, and padding below the window
        ("MR-SIEMENS-DICOM-WithOverlays.dcm", ["-O", "+Wi", "1"]),
        ("OBXXXX1A.dcm", []),
        ("OBXXXX1A_expb.dcm", []),
        ("OT-PAL-8-face.dcm", []),
        ("color-pl.dcm", []),
        ("SC_rgb_16bit.dcm", []),
    ],
)
def test_real_files_as_dcmtk_draws_them(name: str, flags: list[str], tmp_path: Path) -> None:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    data = Path(path).read_bytes()
    assert np.abs(shown(data).astype(int) - by_dcmtk(data, tmp_path, *flags)).max() <= 1


def by_dcmtk(data: bytes, folder: Path, *flags: str) -> np.ndarray:
    (folder / "file.dcm").write_bytes(data)
    command = ["dcm2pnm", *flags, "+op", str(folder / "file.dcm"), str(folder / "picture.pnm")]
    subprocess.run(command, check=True, capture_output=True)
    return np.asarray(Image.open(folder / "picture.pnm")).astype(int)
