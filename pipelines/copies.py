"""Copies of remote files (`pipelines.storage`) in a cache of bounded size on the disk, which many processes share.

A file, and so an archive, is fetched whole, once, however many processes ask for it. fsspec's own caches (`filecache`,
`simplecache`) have no limit of size, so that this one is ours. A copy is of one version of a file and has the digest of
both for a name; it appears when it is complete. Room is taken before bytes arrive; copies that were used longest ago go
first. `total` holds the bytes of copies and of what is arriving, so that a folder is listed only when it is full.
"""

import contextlib
import errno
import hashlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from pipelines.errors import Rejected, UserError
from pipelines.files import atomic_path, own_name, sweep_beside, write_text
from pipelines.storage import Remote, ask, location, version, version_now

# How often a file may change under the hands of who fetches it.
_CHANGES = 3
# How full a cache is after some were deleted: each time it looks at all of them.
_KEPT = 0.9
_TOTAL, _LOCK, _LOCKS = "total", "lock", 64
_COPY, _ARRIVING = ".copy", ".arriving"
_PAUSE_S, _DAY_S = 0.1, 86400


def open_copy(root: Remote, path: str) -> io.BufferedReader:
    """The copy of a file, which is fetched where there is none of its version. It can be read to its end, even where
    it is deleted from the cache meanwhile.

    Raises:
        Rejected, TemporaryError, OSError: As in `version`; OSError too where it changes again and again.
        UserError: It is larger than the cache may be.
    """
    changes = 0
    while changes < _CHANGES:
        copy = _copy(root, path)
        with contextlib.suppress(FileNotFoundError):
            stream = copy.open("rb")
            os.utime(stream.fileno())
            return stream
        if not _fetch(root, path, copy):
            changes += 1
            version.cache_clear()
    raise OSError(errno.EAGAIN, "the file changed on the storage while it was read")


def touch(root: Remote, path: str) -> None:
    """Note that a copy is in use, so that others go first."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(_copy(root, path))


def _copy(root: Remote, path: str) -> Path:
    told = "\0".join((location(root, path), *map(str, version(root, path))))
    return root.cache / (hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest() + _COPY)


def _fetch(root: Remote, path: str, copy: Path) -> bool:
    """Make a copy, or wait until another process has; False where the storage has another version now."""
    wanted = version(root, path)
    if wanted.size > root.limit:
        raise UserError(
            f"{root}: a file of {wanted.size / 10**9:g} GB is larger than the cache may be: raise "
            f"ingest.raw_cache.gigabytes ({root.limit / 10**9:g})"
        )
    root.cache.mkdir(parents=True, exist_ok=True)
    with FileLock(root.cache / f"{_LOCK}-{int(copy.name[:8], 16) % _LOCKS}"):
        if copy.exists():
            return True
        try:
            with _room(root, wanted.size, copy.stem), atomic_path(copy) as temporary:
                ask(root, lambda storage: storage.get_file(location(root, path), str(temporary)))
                # What arrived is what the storage had then: it has that still, or it may be anything.
                if temporary.stat().st_size != wanted.size or version_now(root, path) != wanted:
                    raise _Changed
        except _Changed:
            return False
        except FileNotFoundError:
            raise Rejected("missing_file", f"{path or root.name}: no such file") from None
    return True


class _Changed(Exception):
    """Another version arrived than was asked for."""


@contextlib.contextmanager
def _room(root: Remote, size: int, name: str) -> Iterator[None]:
    """Room for a copy, whose bytes count from before they arrive; others wait while too many are on their way."""
    note = root.cache / f"{own_name(name)}{_ARRIVING}"
    while not _taken(root, size, note):
        time.sleep(_PAUSE_S)
    try:
        yield
    except BaseException:
        with FileLock(root.cache / _LOCK):
            _write_total(root, _total(root) - size)
        raise
    finally:
        note.unlink(missing_ok=True)


def _taken(root: Remote, size: int, note: Path) -> bool:
    """Count the bytes of a copy that will arrive, once there is room; a note tells them to who counts anew."""
    with FileLock(root.cache / _LOCK):
        total = _total(root)
        if total + size > root.limit:
            total = _make_room(root, size)
        fits = total + size <= root.limit
        if fits:
            with note.open("wb") as stream:
                stream.truncate(size)  # holds no bytes
        _write_total(root, total + size * fits)
    return fits


def _make_room(root: Remote, size: int) -> int:
    """Delete copies that were used longest ago; returns the bytes of those that are left and those that will arrive."""
    sweep_beside(root.cache / _TOTAL)  # notes and parts of processes that were killed
    found = sorted((one.stat().st_mtime_ns, one.stat().st_size, one.path) for one in _files(root, _COPY))
    total = sum(length for _, length, _ in found) + _arriving(root)
    for _, length, path in found:
        if total + size <= root.limit * _KEPT:
            break
        Path(path).unlink(missing_ok=True)
        total -= length
    return total


def _total(root: Remote) -> int:
    try:
        return int((root.cache / _TOTAL).read_text())
    except (FileNotFoundError, ValueError):
        return sum(one.stat().st_size for one in _files(root, _COPY)) + _arriving(root)


def _write_total(root: Remote, total: int) -> None:
    write_text(root.cache / _TOTAL, str(total))


def _arriving(root: Remote) -> int:
    """Bytes of notes; one of another machine, which cannot be asked whether its process runs, is believed for a day."""
    now, total = time.time(), 0
    for one in _files(root, _ARRIVING):
        with contextlib.suppress(FileNotFoundError):  # it has arrived
            total += one.stat().st_size if now - one.stat().st_mtime < _DAY_S else 0
    return total


def _files(root: Remote, suffix: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(root.cache) as entries:
        yield from (entry for entry in entries if entry.name.endswith(suffix))
