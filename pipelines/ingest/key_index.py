"""Numbers by key in little memory, for what a stage looks up again among millions."""

import hashlib
from array import array
from collections.abc import Iterator

_FIRST_SLOTS = 1024


def hash_of(key: str) -> int:
    """64 bits of a key's SHA-256, never 0; the same on every host. A file's name may be no Unicode."""
    return int.from_bytes(hashlib.sha256(key.encode(errors="surrogatepass")).digest()[:8]) or 1


class KeyIndex:
    """Numbers by the hashes of keys: 18 to 36 bytes an entry, where a dict takes 170 with keys of 16 bytes.

    The keys themselves lie elsewhere, such as on the disk, so that two of one hash are for the caller to tell apart.
    An open hash table with linear probing, at most two thirds full (Knuth, The Art of Computer Programming, 6.4).
    """

    def __init__(self) -> None:
        self._count = 0
        self._make(_FIRST_SLOTS)

    def find(self, key_hash: int) -> Iterator[int]:
        """The numbers that were added with a hash, in any order; no number may be added meanwhile."""
        slot = key_hash & self._mask
        while found := self._hashes[slot]:
            if found == key_hash:
                yield self._numbers[slot]
            slot = (slot + 1) & self._mask

    def add(self, key_hash: int, number: int) -> None:
        """Add a number, 0 to 2^32 - 1."""
        if 3 * (self._count + 1) > 2 * len(self._hashes):
            entries = zip(self._hashes, self._numbers, strict=True)
            self._make(2 * len(self._hashes))
            for old_hash, old_number in entries:
                if old_hash:
                    self._put(old_hash, old_number)
        self._put(key_hash, number)
        self._count += 1

    def _make(self, slots: int) -> None:
        self._hashes = array("Q", bytes(8 * slots))  # 0: free
        self._numbers = array("I", bytes(4 * slots))
        self._mask = slots - 1

    def _put(self, key_hash: int, number: int) -> None:
        slot = key_hash & self._mask
        while self._hashes[slot]:
            slot = (slot + 1) & self._mask
        self._hashes[slot], self._numbers[slot] = key_hash, number
