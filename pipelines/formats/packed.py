"""Bytes that lie packed in a file, unpacked up to a bound: a small file may claim, and hold, any number of them."""

import bz2
import gzip
import io
import zlib

from pipelines.errors import Rejected, item_boundary

# Deflate's limit: a code of 2 bits stands for at most 258 bytes.
LARGEST_RATIO = 1032
# In front of packed voxels: what is skipped is unpacked too. Headers and their extensions have kilobytes.
LARGEST_SKIP = 64 * 2**20
_GZIP = b"\x1f\x8b"
_ZLIB_OR_GZIP = 47  # zlib's own number for either header


def is_gzip(data: bytes) -> bool:
    return data[:2] == _GZIP


def head(data: bytes, size: int) -> bytes:
    """The first bytes of a file, unpacked where it is gzipped; none where they cannot be."""
    if not is_gzip(data):
        return data[:size]
    try:
        with item_boundary():
            return gzip.GzipFile(fileobj=io.BytesIO(data)).read(size)
    except Rejected:
        return b""


def part(data: bytes, start: int, size: int, packing: str) -> bytes | memoryview:
    """So many bytes from a place on, or fewer, where there are no more.

    Args:
        data: What lies in the file.
        start: First byte, of the unpacked ones.
        size: How many.
        packing: raw, gzip (one member or several), zlib or bzip2.

    Raises:
        Rejected: truncated or corrupt; file_too_large where more than 64 MiB would be unpacked to be skipped.
    """
    if packing == "raw":
        return memoryview(data)[start : start + size]
    if start > LARGEST_SKIP:
        raise Rejected("file_too_large", f"voxels that begin {start} bytes from the start, at most {LARGEST_SKIP}")
    with item_boundary():
        if packing == "zlib":
            return zlib.decompressobj(_ZLIB_OR_GZIP).decompress(data, start + size)[start:]
        opened = gzip.GzipFile(fileobj=io.BytesIO(data)) if packing == "gzip" else bz2.BZ2File(io.BytesIO(data))
        with opened:
            opened.read(start)
            return opened.read(size)


def check_claim(size: int, data: bytes, packing: str) -> None:
    """Refuse a header that claims more bytes than its file can hold (truncated)."""
    ratio = {"raw": 1, "gzip": LARGEST_RATIO, "zlib": LARGEST_RATIO}.get(packing)
    if ratio is not None and size > len(data) * ratio:
        raise Rejected("truncated", f"a volume of {size} bytes in a file of {len(data)}")
