"""Patient ids as hashes, from which nobody who lacks the key can find the id.

A hash without a key hides no id that can be guessed: ten million numbers of seven digits are tried in seconds. Ids of
published data sets are known anyway, and their hash without a key is the same everywhere.
"""

import hashlib
import hmac
from functools import cached_property
from pathlib import Path
from typing import Literal

from pipelines.keys import read_key

PatientIds = Literal["confidential", "public"]


class PatientHasher:
    """The hashes of one source's patients and studies.

    Args:
        source: Its name, which is hashed too: equal ids of two sources are two patients.
        ids: Whether the ids are confidential, so that the hash needs the key.
        keys: Folder of the key, which is read at the first confidential id.
    """

    def __init__(self, source: str, ids: PatientIds, keys: Path) -> None:
        self._source, self._ids, self._keys = source, ids, keys

    def __call__(self, patient: str) -> str:
        """The first 16 hex digits of SHA-256, or of HMAC-SHA256 for confidential ids.

        Raises:
            UserError: The key is missing or cannot be used.
        """
        return self._hash(f"{self._source}\0{patient}")

    def study(self, uid: str) -> str:
        """The hash of a study's or series' UID, which is the same in every source of the same key; raises as above."""
        return self._hash(f"study\0\0{uid}")

    def _hash(self, text: str) -> str:
        message = text.encode()
        if self._ids == "public":
            return hashlib.sha256(message).hexdigest()[:16]
        return hmac.new(self._key, message, "sha256").hexdigest()[:16]

    @cached_property
    def _key(self) -> bytes:
        return read_key(self._keys)
