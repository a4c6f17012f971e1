"""What fuzzing found, one input each: none of them gets through a boundary again."""

import io
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fault_parts import fuzz_seeds
from fault_parts.fuzz_targets import Targets
from fault_parts.fuzz_watch import Watch


def zip_with_a_member_without_name() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a"), b"text")
    # The name in the central directory becomes a comment of one byte.
    data = bytearray(stream.getvalue())
    start = data.index(b"PK\1\2")
    data[start + 28 : start + 34] = b"\0\0\0\0\1\0"
    return bytes(data)


def parquet_with_a_damaged_footer() -> bytes:
    data = bytearray(next(data for data in fuzz_seeds.tables() if data[:1] == b"p"))
    data[-60:-40] = b"\xff" * 20
    return bytes(data)


def dicom_with_an_offset_table_of_4_gb() -> bytes:
    data = fuzz_seeds.dicoms()[-1]
    table = data.rindex(b"\xfe\xff\x00\xe0", 0, data.rindex(b"\xfe\xff\x00\xe0"))
    return data[: table + 4] + b"\x00\xfe\xff\xff" + data[table + 8 :]


def nifti(*sides: int) -> bytes:
    data = bytearray(fuzz_seeds.volumes()[0])
    struct.pack_into("<3h", data, 42, *sides)
    return bytes(data)


def coco(image_id: Any, **annotation: Any) -> bytes:
    attributes = {"region_id": "x", "exported_box": [1, 2, 9, 8], "decision": "accepted"}
    values = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 8, 6], "attributes": attributes}
    images = [{"id": 1, "image_id": image_id}]
    return json.dumps({"images": images, "categories": [], "annotations": [values | annotation]}).encode()


FINDINGS = {
    "eight bytes that look like NIfTI-2": ("images", b"\0\0\0\0n+2\0"),
    "a mask that looks like NIfTI-2": ("masks", b"\0\0\0\0n+2\0"),
    "NIfTI of a negative side": ("volumes", nifti(0, 0, -4096)),
    "NIfTI that claims 540 million voxels": ("volumes", nifti(9000, 9000, 6)),
    "DICOM that ends inside a length": ("dicom", bytes(128) + b"DICM\x02\0\0\0SQ\x1cE\x9a\x82\xf8"),
    "DICOM with an offset table of 4 GB": ("dicom", dicom_with_an_offset_table_of_4_gb()),
    "zip with a member without a name": ("archives", zip_with_a_member_without_name()),
    "Parquet with a damaged footer": ("tables", parquet_with_a_damaged_footer()),
    "params that are no UTF-8": ("params", b"e~\xfb+"),
    "answer with half a surrogate pair": ("answers", b"c\xa0\x8b"),
    "template that divides by a list": ("templates", b"{{ width / labels }}"),
    "template with a number without end": ("templates", b"{{ 1e999 }}"),
    "template with 300 braces": ("templates", b"{{" * 300),
    "review of an image whose id is an object": ("reviews", coco({})),
    "review of an image whose id is no text": ("reviews", coco("\ud800")),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_a_former_finding_is_refused_or_read(repository: Path, tmp_path: Path, name: str) -> None:
    target, data = FINDINGS[name]
    watch = Watch(target, Targets(repository, tmp_path).target(target), tmp_path / "findings")
    watch.run(data)
    assert watch.counts["inputs"] == 1
    assert watch.counts["findings"] == {}


# What lies behind a code decides: pycocotools reads on there where the last character promises another one. Memory that
# was in use just before, in an interpreter that has loaded little else, holds what it takes for runs.
DECODE = """
import sys
from pipelines.masks import decode
for _ in range(20):
    stale = [bytes([ord("1") + number % 5]) * 15 for number in range(20_000)]
    del stale
    try:
        decode(sys.argv[1], 20, 30)
    except ValueError:
        pass
"""


@pytest.mark.parametrize("code", ["111111111Q", "111111111n", "1BJ|4Ng=n"])
def test_a_run_length_code_neither_hangs_nor_crashes(repository: Path, code: str) -> None:
    done = subprocess.run([sys.executable, "-c", DECODE, code], cwd=repository, timeout=60, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
