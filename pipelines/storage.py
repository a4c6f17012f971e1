"""Raw data on s3-compatible and http storage: the names under a root, and the versions of its files.

A root is a folder or archive of this machine (`Path`), or `Remote`: `s3://bucket/prefix`, or an archive,
`s3://bucket/a.zip` or `https://host/a.zip`. http lists no folder, so that a folder there is refused. Bytes are read
from copies on the disk (`pipelines.copies`). Credentials and endpoint come from where botocore looks for them.

A process takes a file for the version that it met first, as long as it is among the last that it asked for. Messages
hold no word of a library, which may quote names of files and whatever is in a URL.

Reason code of `Rejected`: missing_file.
"""

import errno
import functools
import importlib.util
import posixpath
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from models.urls import HTTP, check_location, is_url
from pipelines.errors import Rejected, TemporaryError, UserError

T = TypeVar("T")

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
SCHEMES = ("s3", *HTTP)
# Seconds between two of the times that storage is asked, and in which it must send something.
WAITS_S = (1.0, 4.0)
_SILENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class RawCache:
    """Where copies of remote files lie.

    Attributes:
        folder: Relative to the folder of params.yaml, or a disk that several studies share.
        gigabytes: Of 10^9 bytes, at most.
    """

    folder: str = "data/cache/raw"
    gigabytes: float = 50.0

    def __post_init__(self) -> None:
        if not self.gigabytes > 0:
            raise ValueError("raw_cache.gigabytes is larger than 0")


@dataclass(frozen=True)
class Remote:
    """A root on storage.

    Attributes:
        url: Of the folder or archive, without `/` at the end.
        cache: Folder of the copies.
        limit: Bytes that they may have together.
    """

    url: str
    cache: Path
    limit: int

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return posixpath.basename(self.url)


Root = Path | Remote


class Version(NamedTuple):
    """What storage says of a file: its size in bytes, and a text that changes with its bytes."""

    size: int
    tag: str


def is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def check_root(text: str) -> None:
    """Refuse a root that is a URL of a kind that cannot be read, or that holds a secret.

    Raises:
        ValueError: One line that says what to change.
    """
    if not is_url(text):
        return
    try:
        check_location(text)
        parts = urlsplit(text)
        if parts.scheme not in SCHEMES:
            raise ValueError(f"{parts.scheme} is no storage that can be read: choose from {', '.join(SCHEMES)}")
        if not parts.hostname or parts.username:
            raise ValueError("the URL names no bucket or host, or holds a login")
        if parts.scheme in HTTP and not is_archive(text.rstrip("/")):
            raise ValueError(
                f"{parts.scheme} lists no folders: name an archive ({', '.join(ARCHIVE_SUFFIXES)}), or copy the folder"
            )
        if parts.scheme == "s3" and not all(map(importlib.util.find_spec, ("s3fs", "dvc_s3"))):
            raise ValueError("s3 needs the extra `s3` of this project: pip install 'medregion[s3]'")
    except ValueError as error:
        raise ValueError(f"root: {error}") from None


def root_of(text: str, cache: RawCache) -> Root:
    """The root that params name by a path or a URL, which was checked."""
    if not is_url(text):
        return Path(text)
    return Remote(text.rstrip("/"), Path(cache.folder), int(cache.gigabytes * 10**9))


def check_there(root: Remote) -> None:
    """See that a folder or archive is there and may be read; one or two requests.

    Raises:
        UserError: It is not, or there are no credentials.
        TemporaryError: The storage does not answer.
    """
    wanted = "file" if is_archive(root.url) else "directory"
    try:
        found = ask(root, lambda storage: storage.info(location(root, "")))
    except FileNotFoundError:
        raise UserError(f"{root} is not there: see the names of bucket and folder") from None
    except PermissionError:
        raise UserError(f"{root} may not be read with these credentials: give others, or the right to it") from None
    if found["type"] != wanted:
        raise UserError(f"{root} is no {wanted}: name a folder or an archive ({', '.join(ARCHIVE_SUFFIXES)})")
    if wanted == "file":
        _version(root, found)


def names(root: Remote) -> tuple[str, ...]:
    """Sorted names, relative to the root, of all files of a folder, as they were when this process first asked."""
    return _listing(root)[0]


def has(root: Remote, name: str) -> bool:
    """Whether a folder's listing has a file of this name."""
    return name in _listing(root)[1]


@functools.lru_cache(maxsize=2)
def _listing(root: Remote) -> tuple[tuple[str, ...], frozenset[str]]:
    found = _names(root, lambda storage: storage.find(location(root, ""), detail=True))
    return found, frozenset(found)


def names_in(root: Remote, folder: str) -> tuple[str, ...]:
    """Sorted names, relative to the root, of the files directly in a folder; none where there is no such folder."""
    place = location(root, folder)
    try:
        found = _names(root, lambda storage: {one["name"]: one for one in storage.ls(place, detail=True)})
    except FileNotFoundError:
        return ()
    return tuple(name for name in found if posixpath.dirname(name) == folder)


def _names(root: Remote, listed: Callable[[Any], dict[str, dict[str, Any]]]) -> tuple[str, ...]:
    top = f"{location(root, '')}/"
    found = ask(root, listed)
    # Some tools write an object of no bytes for a folder; its name ends with the slash.
    return tuple(
        sorted(
            name.removeprefix(top)
            for name, info in found.items()
            if info["type"] == "file" and name.startswith(top) and not name.endswith("/")
        )
    )


@functools.lru_cache(maxsize=256)
def version(root: Remote, path: str) -> Version:
    """The version of a file; this process keeps to it.

    Raises:
        Rejected: missing_file.
        TemporaryError: The storage does not answer.
        OSError: The file may not be read.
    """
    return version_now(root, path)


def version_now(root: Remote, path: str) -> Version:
    """The version that the storage has at this moment; as in `version`."""
    try:
        found = ask(root, lambda storage: storage.info(location(root, path)))
    except FileNotFoundError:
        raise Rejected("missing_file", f"{path or root.name}: no such file") from None
    if found["type"] != "file":
        raise Rejected("missing_file", f"{path or root.name}: no such file")
    return _version(root, found)


def _version(root: Remote, found: dict[str, Any]) -> Version:
    tag = found.get("ETag") or found.get("Content-MD5")
    if not tag or found.get("size") is None:
        raise UserError(f"{root}: the server says no ETag or size of a file, and so not when it changes: copy it here")
    return Version(int(found["size"]), str(tag))


def location(root: Remote, path: str) -> str:
    """How fsspec names a file: without the scheme, but for http."""
    top = root.url.removeprefix("s3://")
    return f"{top}/{path}" if path else top


def ask(root: Remote, question: Callable[[Any], T]) -> T:
    """What the storage answers; it is asked again after faults that may pass.

    Raises:
        FileNotFoundError: It has no such thing.
        PermissionError: It may not be read; the error number is that of a disk's.
        UserError: There are no credentials.
        TemporaryError: It does not answer.
        OSError: The disk of the cache failed.
    """
    scheme = urlsplit(root.url).scheme
    for wait in (*WAITS_S, None):
        try:
            return question(_filesystem(scheme))
        except Exception as raised:  # noqa: BLE001 - packages of storages raise anything
            error: BaseException = raised
        if isinstance(error, FileNotFoundError) and scheme in HTTP and error.__cause__ is not None:
            error = error.__cause__  # fsspec says so of every fault
        kind, status = type(error).__name__, getattr(error, "status", None)
        if isinstance(error, FileNotFoundError) or status in (404, 410):
            raise FileNotFoundError(errno.ENOENT, "the storage has no such file")
        if isinstance(error, PermissionError) or status in (401, 403):
            raise PermissionError(errno.EACCES, "the storage refuses to give it")
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise error
        if any(word in kind for word in ("Credential", "Token", "Profile")):
            raise UserError(
                f"{root}: no usable credentials ({kind}): give them in the environment or in ~/.aws, as for botocore; "
                "never in params.yaml"
            )
        if wait is None:
            raise TemporaryError(
                f"{root}: the storage does not answer ({kind}): see that it and its endpoint can be reached, then run "
                "this again"
            )
        time.sleep(wait)
    raise AssertionError("the last time is answered or refused")


def _filesystem(scheme: str) -> Any:
    """fsspec's; it keeps one for each process and thread."""
    # Imported where they are used: a study on a disk needs none of it.
    import fsspec

    if scheme == "s3":
        # s3fs asks again by itself, and so do we.
        options: dict[str, Any] = {
            "retries": {"max_attempts": 0},
            "connect_timeout": _SILENCE_S,
            "read_timeout": _SILENCE_S,
        }
        return fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=options)
    import aiohttp

    # Its own limit is five minutes for all of a file.
    limits = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S)
    return fsspec.filesystem("http", use_listings_cache=False, client_kwargs={"timeout": limits})
