"""Volumes that end too early, claim what they do not hold, or pack more than they claim: each with its reason code."""

import gzip
import io
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from pipelines.cuts import Cut
from pipelines.errors import Rejected
from pipelines.images import decode, open_image
from pipelines.opened import open_file, opened
from tests.pipelines.formats.volume_files import affine, nifti, with_itk

VALUES = np.random.default_rng(0).integers(1, 1000, (20, 30, 6)).astype(np.int16)
WHERE = affine()


def reason(data: bytes, frame: int = 2) -> str:
    with pytest.raises(Rejected) as caught:
        decode(data, frame)
    return caught.value.reason


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("compressed", [False, True])
def test_cut_files(suffix: str, compressed: bool) -> None:
    data = with_itk(VALUES, WHERE, suffix, compressed=compressed)[f"v{suffix}"]
    decode(data, 2)
    assert reason(data[:-60]) in ("truncated", "corrupt")
    assert reason(data[: len(data) // 2]) in ("truncated", "corrupt")
    for size in (0, 3, 12, 40, 100, 200):
        assert reason(data[:size]) in ("truncated", "corrupt", "unsupported_type")


def test_a_header_that_ends_is_truncated() -> None:
    data = nifti(VALUES, WHERE)
    assert reason(data[:200]) == reason(data[:347]) == "truncated"
    second = nibabel.Nifti2Image(VALUES, WHERE).to_bytes()
    decode(second, 2)
    assert reason(second[:104]) == reason(second[:539]) == "truncated"


CLAIMS = {
    "nrrd": b"NRRD0004\ntype: short\ndimension: 3\nsizes: %d %d %d\nendian: little\nencoding: %s\n\n%s",
    "mha": b"ObjectType = Image\nNDims = 3\nDimSize = %d %d %d\nElementType = MET_SHORT\nCompressedData = %s\n"
    b"ElementDataFile = LOCAL\n%s",
}


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((2, 3, 4), None),
        ((30000, 2000, 2), "truncated"),
        ((30000, 30000, 30), "file_too_large"),
        ((0, 3, 4), "corrupt"),
        ((1, 1, 65_537), "file_too_large"),  # a row for each slice, from a file of a few bytes
    ],
)
@pytest.mark.parametrize("kind", CLAIMS)
def test_claims(kind: str, sizes: tuple[int, int, int], expected: str | None) -> None:
    voxels = np.arange(24, dtype="<i2").tobytes()
    packed = gzip.compress(voxels) if kind == "nrrd" else zlib.compress(voxels)
    for data in (
        CLAIMS[kind] % (*sizes, b"raw" if kind == "nrrd" else b"False", voxels),
        CLAIMS[kind] % (*sizes, b"gzip" if kind == "nrrd" else b"True", packed),
    ):
        if expected is None:
            assert decode(data, 1).size == (2, 3)
        else:
            assert reason(data, 1) == expected


def test_a_bomb_is_unpacked_to_what_its_header_claims() -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((64, 64, 4))
    header.set_data_dtype(np.uint8)
    voxels = np.random.default_rng(0).integers(0, 99, 64 * 64 * 4).astype(np.uint8).tobytes()
    head = header.binaryblock + bytes(4)
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1) as packed:
        packed.write(head[:344] + b"n+1\0" + bytes(4) + voxels)
        for _ in range(30):
            packed.write(bytes(2**20))
    tracemalloc.start()
    decode(stream.getvalue(), 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20  # 30 MiB of zeros lie behind the voxels


@pytest.mark.parametrize("dtype", [np.complex64, np.float32])
def test_complex_values_are_refused(dtype: type) -> None:
    data = nibabel.Nifti1Image(VALUES.astype(dtype), WHERE).to_bytes()
    if dtype is np.complex64:
        assert reason(data) == "unsupported_type"
    else:
        assert decode(data, 2).size == (20, 30)


def test_values_that_are_scaled_and_of_either_byte_order() -> None:
    for endianness in "<>":
        header = nibabel.Nifti1Header(endianness=endianness)
        header.set_data_dtype(np.int16)
        image = nibabel.Nifti1Image(VALUES, WHERE, header)
        image.header.set_slope_inter(0.5, 3)
        volume = opened(image.to_bytes()).volume
        assert volume is not None
        np.testing.assert_array_equal(
            volume.picture(Cut(frame=2), 1000), VALUES[::-1, ::-1, 2].T.astype(np.float64) * 0.5 + 3
        )


def pair(kind: type = nibabel.Nifti1Pair) -> tuple[bytes, bytes]:
    image = kind(VALUES, WHERE if kind is not nibabel.AnalyzeImage else None)
    files = {name: io.BytesIO() for name in ("header", "image")}
    image.to_file_map({name: nibabel.FileHolder(fileobj=stream) for name, stream in files.items()})
    return files["header"].getvalue(), files["image"].getvalue()


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair, nibabel.AnalyzeImage])
def test_pairs_are_named_by_either_file(kind: type, tmp_path: Path) -> None:
    header, voxels = pair(kind)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/v.hdr").write_bytes(header)
    (tmp_path / "in/v.img").write_bytes(voxels)
    (tmp_path / "packed.hdr.gz").write_bytes(gzip.compress(header))
    (tmp_path / "packed.img.gz").write_bytes(gzip.compress(voxels))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("b/v.hdr", header)
        archive.writestr("b/v.img", voxels)
    expected = VALUES[::-1, ::-1, 2].T if kind is not nibabel.AnalyzeImage else VALUES[:, ::-1, 2].T
    digests = set()
    for path, member in (
        *[(f"in/v{suffix}", None) for suffix in (".hdr", ".img")],
        *[("a.zip", f"b/v{suffix}") for suffix in (".hdr", ".img")],
        *[(f"packed{suffix}.gz", None) for suffix in (".hdr", ".img")],
    ):
        file = open_file(tmp_path, path, member)
        assert file.volume is not None
        np.testing.assert_array_equal(file.volume.picture(Cut(frame=2), 1000), expected)
        assert file.volume.placed == (kind is not nibabel.AnalyzeImage)
        digests.add(file.sha256)
    assert len(digests) == 2  # of the plain and of the packed files, whichever of them is named


def test_pairs_of_which_one_is_missing_or_broken(tmp_path: Path) -> None:
    header, voxels = pair()
    (tmp_path / "a.hdr").write_bytes(header)
    (tmp_path / "b.img").write_bytes(voxels)
    (tmp_path / "c.hdr").write_bytes(header)
    (tmp_path / "c.img").write_bytes(voxels[:-100])
    (tmp_path / "d.hdr").write_bytes(b"no header")
    (tmp_path / "d.img").write_bytes(voxels)
    # The header of a single file, cut from it: as Analyze it would be another picture with the same digest.
    (tmp_path / "g.hdr").write_bytes(header.replace(b"ni1\0", b"n+1\0"))
    (tmp_path / "g.img").write_bytes(voxels)
    (tmp_path / "e.nhdr").write_bytes(with_itk(VALUES, WHERE, ".nhdr")["v.nhdr"])
    (tmp_path / "f.mhd").write_bytes(with_itk(VALUES, WHERE, ".mhd")["v.mhd"].replace(b"v.raw", b"../v.raw"))
    expected = {
        "a.hdr": "missing_file",
        "b.img": "unsupported_type",
        "c.hdr": "truncated",
        "c.img": "truncated",
        "d.img": "corrupt",
        "g.hdr": "truncated",
        "g.img": "corrupt",
        "e.nhdr": "missing_file",
        "f.mhd": "path_outside_root",
    }
    for name, code in expected.items():
        with pytest.raises(Rejected) as caught:
            open_image(tmp_path, name, frame=2)
        assert caught.value.reason == code, name
        assert "v.raw" not in caught.value.detail
    assert reason(header) == "missing_file"


def test_a_damaged_volume_is_unpacked_once() -> None:
    packed = nifti(VALUES, WHERE)
    file = opened(gzip.compress(packed)[:-2000])
    volume = file.volume
    assert volume is not None
    calls = []
    unpack = volume.unpack
    object.__setattr__(volume, "unpack", lambda size: calls.append(size) or unpack(size))
    for frame in range(6):
        with pytest.raises(Rejected, match=r"truncated|corrupt"):
            volume.picture(Cut(frame=frame), 1000)
    assert len(calls) == 1


def test_an_affine_of_nonsense_is_corrupt() -> None:
    data = bytearray(nifti(VALUES, WHERE))
    struct.pack_into("<12f", data, 280, *[float("nan")] * 12)
    assert reason(bytes(data)) == "corrupt"
    struct.pack_into("<12f", data, 280, *[1.0, 0, 0, 0] * 3)
    assert reason(bytes(data)) == "corrupt"


def test_pixels_that_no_scanner_makes_are_corrupt() -> None:
    for spacing, expected in (((1, 1, 200), None), ((1, 1e-5, 1), "corrupt"), ((1, 300, 1), "corrupt")):
        data = nifti(VALUES, affine(spacing))
        if expected is None:
            assert decode(data, 0).size == VALUES.shape[:2]
        else:
            assert reason(data, 0) == expected


def test_what_precedes_packed_voxels_is_bounded() -> None:
    data = bytearray(nifti(VALUES, WHERE))
    struct.pack_into("<f", data, 108, 2.0**28)  # vox_offset
    header, zeros = gzip.compress(bytes(data[:352])), gzip.compress(bytes(2**20)) * 256
    tracemalloc.start()
    assert reason(header + zeros + gzip.compress(bytes(VALUES.nbytes))) == "file_too_large"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_nothing_is_logged_of_a_header_that_nibabel_mends(caplog: pytest.LogCaptureFixture) -> None:
    data = bytearray(nifti(VALUES, WHERE))
    struct.pack_into("<2h", data, 252, 1, 0)  # qform alone, by the spacings
    struct.pack_into("<3f", data, 80, -1.0, 0.0, 2.0)
    decode(bytes(data), 1)
    assert not caplog.records
