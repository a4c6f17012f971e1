"""The result cache: answers of models, kept by the digest of everything that decides them.

It lies under data/cache/, outside DVC, so that a killed stage resumes where it stopped, a changed prompt asks about
what it touches alone and a reverted prompt asks nothing. SQLite in write-ahead mode: several processes may share it,
and each answer is on disk before the next is asked for. A row whose checksum does not fit counts as absent.
"""

import hashlib
import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

from pipelines.errors import UserError

RESULT_CACHE = Path("data/cache/results.sqlite")

_TABLE = """
CREATE TABLE IF NOT EXISTS items (
    key TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    checksum TEXT NOT NULL
) WITHOUT ROWID
"""


class ResultCache:
    """A dictionary on disk from keys to JSON values.

    Threads of one process may share an object; processes open the file each for themselves.

    Args:
        path: The file; made with its folder where it is absent.

    Raises:
        UserError: The file is no SQLite database.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self.corrupt = 0
        try:
            self._database = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(_TABLE)
        except sqlite3.DatabaseError as error:
            raise UserError(f"{path} cannot be used as the result cache ({error}): delete it to ask anew") from None

    def get(self, key: str) -> Any | None:
        """The value under a key, or None; a value that does not fit its checksum is counted in `corrupt`."""
        with self._lock:
            row = self._database.execute("SELECT value, checksum FROM items WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        value, checksum = row
        if _checksum(key, value) != checksum:
            self.corrupt += 1
            return None
        return json.loads(value)

    def put(self, key: str, kind: str, value: Any) -> None:
        """Keep a JSON value; it outlives the process from then on. An earlier one under the key is replaced.

        Args:
            key: Digest of everything that decides the value.
            kind: What it is, such as `caption/region`, for people who look into the file.
            value: Anything that JSON knows but null.
        """
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?)", (key, kind, text, _checksum(key, text))
            )

    def close(self) -> None:
        with self._lock:
            self._database.close()


def _checksum(key: str, text: str) -> str:
    return hashlib.sha256(f"{key}\n{text}".encode()).hexdigest()
