"""Deflated bytes, read in memory that does not grow with what they inflate to."""

import io
import zlib

from pipelines.errors import Rejected

# The largest element that is kept of a header, a table of 65,536 entries of 16 bits, has 128 KiB; functional groups of
# some thousand frames a few MiB.
MAX_HEADER = 64 * 2**20


class Inflated:
    """The inflated bytes of a deflated stream, as a file; what is skipped is never kept.

    Args:
        deflated: Without a header, as DICOM has it (RFC 1951).

    Attributes:
        budget: Bytes that may still be read; None: as many as asked for.
    """

    def __init__(self, deflated: bytes) -> None:
        self.budget: int | None = MAX_HEADER
        self._deflated = deflated
        self._wanted = 0  # where the next reading starts
        self._restart()

    def _restart(self) -> None:
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._fed = 0
        self._chunk = b""
        self._start = 0  # of the chunk

    @property
    def is_complete(self) -> bool:
        """Once its end was sought: whether the stream ends where it says so."""
        return self._inflater.eof

    def tell(self) -> int:
        return self._wanted

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            while self._advance():
                pass
            self._wanted = self._start
        self._wanted = offset if whence == io.SEEK_SET else self._wanted + offset
        return self._wanted

    def read(self, size: int) -> bytes:
        if self.budget is not None:
            self.budget -= size
            if self.budget < 0:
                raise Rejected("file_too_large", f"a deflated header of more than {MAX_HEADER} bytes")
        if self._wanted < self._start:
            self._restart()
        parts = []
        while size:
            inside = self._wanted - self._start
            part = self._chunk[inside : inside + size]
            if not part and not self._advance():
                break
            parts.append(part)
            self._wanted += len(part)
            size -= len(part)
        return b"".join(parts)

    def _advance(self) -> bool:
        """The next chunk of at most 1 MiB; False at the end."""
        self._start += len(self._chunk)
        self._chunk = b""
        while not self._chunk and not self._inflater.eof:
            fed = self._inflater.unconsumed_tail
            if not fed:
                fed = self._deflated[self._fed : self._fed + 2**16]
                self._fed += len(fed)
            if not fed:
                break
            self._chunk = self._inflater.decompress(fed, 2**20)
        return bool(self._chunk)
