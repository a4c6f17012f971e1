"""What decoding gave, kept between runs of `ingest`: an image of which nothing changed is not decoded again.

Each file is read and hashed in every run. Kept is what follows from its bytes at some cost: of a picture its hashes,
thumbnail and size, of a mask its run-length code; each by the digest of all that decides it: bytes, cut, settings, the
code that reads, and the versions of the libraries that decode. Nothing of a header, a listing or a name is in the file,
nor why something was rejected. It can be deleted at any time, which costs one full reading.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.cache import ResultCache
from pipelines.cuts import Cut
from pipelines.errors import UserError
from pipelines.files import digest_of

READING_CACHE = Path("data/cache/readings.sqlite")


@dataclass(frozen=True, kw_only=True)
class ReadingFile:
    """Where readings are kept.

    Attributes:
        path: A file that no other host shares.
        code: Digest of the code that reads, and of the versions of `pipelines.formats.libraries`.
    """

    path: Path
    code: str


class KnownReadings:
    """What is known of one picture and the masks of its rows: from earlier runs, and made in this one.

    Args:
        values: Of earlier runs.

    Attributes:
        made: How many values were made.
    """

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        self.values = values or {}
        self.made = 0

    def value(self, facts: Sequence[Any], make: Callable[[], Any]) -> Any:
        """What `make` gives, or gave before.

        Args:
            facts: JSON values that decide it, beside the picture's bytes and cut and the settings.
            make: Gives a JSON value. What it raises is raised, and nothing is known.
        """
        name = json.dumps(facts, separators=(",", ":"))
        if name not in self.values:
            self.made += 1
            self.values[name] = make()
        return self.values[name]


class ReadingCache:
    """The readings of one source.

    Args:
        file: None: nothing is kept.
        settings: JSON values that decide all of them.

    Raises:
        UserError: The file cannot be used; so does every method.
    """

    def __init__(self, file: ReadingFile | None, settings: Sequence[Any]) -> None:
        self._cache = None if file is None else ResultCache(file.path)
        self._common = None if file is None else digest_of([file.code, *settings])
        self._known: dict[str, KnownReadings] = {}
        self._told: Counter[str] = Counter()

    def of_picture(self, sha256: str, cut: Cut) -> KnownReadings:
        """What is known of a picture.

        Args:
            sha256: Of the bytes of its file.
            cut: Which part of it.
        """
        if self._cache is None:
            return KnownReadings()
        key = digest_of([self._common, sha256, cut.key])
        if key not in self._known:
            # An error here must not count as one of the item that is read.
            try:
                self._known[key] = KnownReadings(self._cache.get(key))
            except (sqlite3.Error, OSError) as error:
                raise _unusable(error) from None
        return self._known[key]

    def keep(self) -> None:
        """Write what was made since the last call, in one transaction."""
        if self._cache is not None:
            new = [(key, "ingest/reading", known.values) for key, known in self._known.items() if known.made]
            try:
                self._cache.put_many(new)
            except (sqlite3.Error, OSError) as error:
                raise _unusable(error) from None
            self._known.clear()

    def damage(self) -> dict[str, int]:
        """What of the file was found damaged since the last call, as `ResultCache.counts` names it; {} if nothing."""
        counts = Counter({} if self._cache is None else self._cache.counts())
        found = counts - self._told
        self._told = counts
        return dict(found)


def _unusable(error: Exception) -> UserError:
    return UserError(f"the cache of readings cannot be used ({error}): delete its file, which costs one full reading")
