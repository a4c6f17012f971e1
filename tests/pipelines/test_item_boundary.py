"""Whatever one file makes a reader raise is `Rejected`; faults of the disk are not."""

import errno
import gzip
import io
import struct
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

from models.verified import DamagedError
from pipelines.archives import list_files, read_bytes
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.images import decode, decode_mask, frame_count


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (struct.error("unpack requires 4 bytes"), "corrupt", "unpack requires 4 bytes"),
        (RecursionError(), "corrupt", "RecursionError"),
        (MemoryError(), "corrupt", "MemoryError"),
        (StopIteration(), "corrupt", "StopIteration"),
        (EOFError(), "truncated", "EOFError"),
        (OSError("image file is truncated"), "truncated", "image file is truncated"),
        (ValueError("half \ud800 a pair\nof <reader at 0x7f00>"), "corrupt", "half \\ud800 a pair of <reader>"),
    ],
)
def test_any_error_of_a_reader_is_rejected_with_a_reason(error: Exception, reason: str, detail: str) -> None:
    with pytest.raises(Rejected) as caught, item_boundary():
        raise error
    assert (caught.value.reason, caught.value.detail) == (reason, detail)


@pytest.mark.parametrize(
    "error",
    [
        Rejected("missing_frame", "7 of 3"),
        UserError("name another"),
        DamagedError("data/split/images.parquet is damaged"),
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied"),
        KeyboardInterrupt(),
    ],
)
def test_what_is_no_fault_of_the_item_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, item_boundary("bad_row"):
        raise error
    assert caught.value is error


DICOM = bytes(128) + b"DICM"
DAMAGED = {
    "a NIfTI-2 header that ends at its magic": b"\0\0\0\0n+2\0",
    "a DICOM element that ends inside its length": DICOM + b"\x02\0\0\0SQ\x1cE\x9a\x82\xf8",
    "a DICOM file of its preamble alone": DICOM,
    "a packed volume whose header ends": gzip.compress(b"\0\0\0\0n+2\0" + bytes(100)),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("read", [decode, decode_mask])
def test_damaged_volumes_are_rejected(data: bytes, read: type) -> None:
    with pytest.raises(Rejected):
        read(data)


def test_the_frames_of_a_damaged_volume_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"\0\0\0\0n+2\0")
    with pytest.raises(Rejected):
        frame_count(tmp_path, "a.nii")


def test_a_volume_without_values_is_rejected() -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 4, 1), np.float32), np.eye(4))
    data = bytearray(image.to_bytes())
    data[42:44] = struct.pack("<h", 0)  # its first side
    for read in (decode, decode_mask):
        with pytest.raises(Rejected):
            read(bytes(data), 0)


def test_offsets_beyond_the_frames_of_a_dicom_file_are_rejected() -> None:
    """RLE whose table of offsets claims four gigabytes."""
    from pydicom.data import get_testdata_file

    data = bytearray(Path(get_testdata_file("MR_small_RLE.dcm")).read_bytes())
    start = data.index(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff") + 12
    data[start + 4 : start + 8] = b"\xfc\xff\xff\xff"
    with pytest.raises(Rejected):
        decode(bytes(data))


def test_a_member_without_a_name_leaves_the_others_readable(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x", b"first")
        archive.writestr("b.png", b"second")
    data = file.read_bytes()
    # The central directory alone gives the members' names: the first now has none.
    start = data.index(b"PK\1\2")
    entry = bytearray(data[start : start + 46])
    entry[28:30] = b"\0\0"
    end = data.index(b"PK\5\6")
    tail = bytearray(data[end:])
    tail[12:16] = struct.pack("<I", end - start - 1)
    file.write_bytes(data[:start] + bytes(entry) + data[start + 47 : end] + bytes(tail))
    assert list_files(file) == ["b.png"]
    assert read_bytes(file, "", "b.png") == b"second"


@pytest.mark.parametrize("name", ["\ud800.png", "a\ud800/b.png"])
def test_names_that_no_file_system_holds_are_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(Rejected):
        read_bytes(tmp_path, name)


def test_a_damaged_index_of_an_archive_is_rejected(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("é.png", b"x")
    file.write_bytes(stream.getvalue().replace("é".encode(), b"\xff\xff"))  # the flag says UTF-8
    with pytest.raises(Rejected, match="corrupt"):
        list_files(file)
