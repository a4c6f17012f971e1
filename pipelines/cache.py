"""The result cache: answers of models, kept by the digest of everything that decides them.

It lies under data/cache/, outside DVC, so that a killed stage resumes where it stopped, a changed prompt asks about
what it touches alone and a reverted prompt asks nothing. SQLite in write-ahead mode: several processes may share it,
and each answer is on disk before the next is asked for. A row whose checksum does not fit counts as absent. A damaged
file is set aside, and what can still be read of it goes into a new one.
"""

import hashlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipelines.errors import UserError

logger = logging.getLogger(__name__)

RESULT_CACHE = Path("data/cache/results.sqlite")
# Features of frozen image encoders (`models/frozen_images.py`).
FEATURE_CACHE = Path("data/cache/features")

_TABLE = """
CREATE TABLE IF NOT EXISTS items (
    key TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    checksum TEXT NOT NULL
) WITHOUT ROWID
"""
_INSERT = "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?)"
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

Row = tuple[bytes, bytes, bytes, bytes]


class ResultCache:
    """A dictionary on disk from keys to JSON values.

    Threads of one process may share an object; processes open the file each for themselves.

    Args:
        path: The file; made with its folder where it is absent.

    Attributes:
        corrupt: Values that did not fit their checksum and count as absent.
        set_aside: Damaged files that were replaced.

    Raises:
        UserError: The disk is full, or the file cannot be written; so does every method.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._inode: int | None = None
        self.corrupt = 0
        self.set_aside = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path.parent} cannot be made ({error.strerror})") from None
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            self._replace(error)

    def get(self, key: str) -> Any | None:
        """The value under a key, or None; a value that does not fit its checksum is counted in `corrupt`."""
        rows = self._execute("SELECT key, kind, value, checksum FROM items WHERE key = ?", (key,))
        if not rows:
            return None
        # The key too: of a damaged page SQLite may give another row than the one that was asked for.
        if rows[0][0] != key.encode() or not _is_whole(rows[0]):
            self.corrupt += 1
            return None
        return json.loads(rows[0][2])

    def put(self, key: str, kind: str, value: Any) -> None:
        """Keep a JSON value; it outlives the process from then on. An earlier one under the key is replaced.

        Args:
            key: Digest of everything that decides the value.
            kind: What it is, such as `caption/region`, for people who look into the file.
            value: Anything that JSON knows but null.
        """
        self.put_many([(key, kind, value)])

    def put_many(self, items: Iterable[tuple[str, str, Any]]) -> None:
        """`put` several (key, kind, value) at once: all of them outlive the process then, or none does."""
        rows = [_row(*item) for item in items]
        if not rows:
            return
        with self._lock:
            try:
                self._insert(rows)
            except sqlite3.DatabaseError as error:
                self._replace(error)
                self._insert(rows)

    def counts(self) -> dict[str, int]:
        """What was damaged, for a stage's summary."""
        return {"corrupt_in_cache": self.corrupt, "caches_set_aside": self.set_aside}

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _execute(self, statement: str, values: tuple[str, ...]) -> list[Row]:
        with self._lock:
            try:
                return self._database.execute(statement, values).fetchall()
            except sqlite3.DatabaseError as error:
                self._replace(error)
            return self._database.execute(statement, values).fetchall()

    def _connect(self) -> None:
        self._database = _open(self._path)
        self._inode = self._path.stat().st_ino

    def _is_another(self) -> bool:
        """Whether the file under the name is no longer the one that was opened."""
        if self._inode is None:
            return False
        return not self._path.exists() or self._path.stat().st_ino != self._inode

    def _insert(self, rows: list[tuple[str, str, str, str]]) -> None:
        with self._database:  # commits, or takes all of it back
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(_INSERT, rows)

    def _replace(self, error: sqlite3.DatabaseError) -> None:
        """Put a new file in the place of a damaged one; any other fault is the disk's, and the answers stay."""
        if error.sqlite_errorcode & 0xFF not in _DAMAGE:
            raise UserError(
                f"{self._path}: {error}: see that its disk has space and lets it be written, and run again; the "
                "answers in it are kept"
            ) from None
        aside = self._path.with_name(f"{self._path.stem}-damaged-{time.time_ns()}{self._path.suffix}")
        if hasattr(self, "_database"):
            self._database.close()
        if self._is_another():  # a process that shares it met the damage first, and has replaced it
            self._connect()
            return
        self._path.rename(aside)
        for suffix in ("-wal", "-shm"):
            log = self._path.with_name(self._path.name + suffix)
            if log.exists():
                log.rename(aside.with_name(aside.name + suffix))
        self._connect()
        saved = 0
        with self._database:
            for row in _readable(aside):
                self._database.execute(_INSERT, tuple(value.decode() for value in row))
                saved += 1
        self.set_aside += 1
        logger.warning("%s was damaged (%s): set aside as %s, %d answers saved", self._path, error, aside.name, saved)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
    # Bytes, for a damaged text may be no UTF-8, which the checksum tells.
    database.text_factory = bytes
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute(_TABLE)
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _row(key: str, kind: str, value: Any) -> tuple[str, str, str, str]:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return key, kind, text, _checksum(key.encode(), text.encode())


def _readable(path: Path) -> Iterator[Row]:
    """The whole rows of a damaged file: from the first key on and from the last one back, as far as it can be read."""
    seen: set[bytes] = set()
    for order in ("ASC", "DESC"):
        try:
            database = sqlite3.connect(path)
            database.text_factory = bytes
            for row in database.execute(f"SELECT key, kind, value, checksum FROM items ORDER BY key {order}"):
                if row[0] not in seen and _is_whole(row):
                    seen.add(row[0])
                    yield row
        except sqlite3.DatabaseError:
            pass
        finally:
            database.close()


def _is_whole(row: Row) -> bool:
    key, _, value, checksum = row
    return _checksum(key, value).encode() == checksum


def _checksum(key: bytes, text: bytes) -> str:
    return hashlib.sha256(key + b"\n" + text).hexdigest()
