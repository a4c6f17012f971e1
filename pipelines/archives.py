"""The bytes of a source's files, whether they lie in its folder or inside a zip or tar archive, here or on storage.

A source's root is a folder or itself an archive. A file is named by `path` (relative to the root, '' where the root is
the archive) and `member` (its name inside the archive, None for an ordinary file). Nothing is ever extracted to disk,
no link is followed out of the root, and no more than `MAX_BYTES` are read at once. Of a root on s3 or http, copies are
read (`pipelines.storage`).

Reason codes of `Rejected`: missing_file, empty_file, file_too_large, path_outside_root, missing_member, link_member,
encrypted, truncated, corrupt, unsupported_type. An `OSError` (no permission, a failing disk) is let through: it may go
away. So is `TemporaryError`, of storage that does not answer.
"""

import contextlib
import functools
import io
import os
import posixpath
import stat
import tarfile
import threading
import zipfile
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import BinaryIO

from pipelines import copies, storage
from pipelines.errors import Rejected, item_boundary
from pipelines.storage import ARCHIVE_SUFFIXES, Remote, Root, is_archive

MAX_BYTES = 512 * 2**20


def is_archive_root(root: Root) -> bool:
    """Whether the root is itself an archive, and every name a member of it."""
    return is_archive(root.url) if isinstance(root, Remote) else root.is_file()


def locate(root: Root, name: str) -> tuple[str, str | None]:
    """Split a name as a data set writes it into `path` and `member`.

    `batch1.zip/a/b.png` becomes ('batch1.zip', 'a/b.png') where batch1.zip is a file under `root`; where `root` itself
    is an archive every name is a member of it. The file need not exist.

    Raises:
        Rejected: path_outside_root for an absolute name or one with '..' in it.
    """
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts or "\0" in name:
        raise Rejected("path_outside_root", f"{name!r} is not a name relative to the root")
    name = posixpath.normpath(name)
    if is_archive_root(root):
        return "", name
    parts = name.split("/")
    for end in range(1, len(parts)):
        path = "/".join(parts[:end])
        if is_archive(path) and _is_file(root, path):
            return path, "/".join(parts[end:])
    return name, None


def read_bytes(root: Root, path: str, member: str | None = None) -> bytes:
    """The bytes of one file or archive member; `Rejected` with a reason where there are none to be had."""
    if member is not None:
        data = _open_archive(root, path).read(member)
    elif isinstance(root, Remote):
        _check(path, storage.version(root, path).size)
        with copies.open_copy(root, path) as stream:
            data = stream.read()
    else:
        file = _inside(root, path)
        _check(path, file.stat().st_size)
        data = file.read_bytes()
    if not data:
        raise Rejected("empty_file", f"{member or path}: 0 bytes")
    return data


@contextlib.contextmanager
def open_stream(root: Root, path: str, member: str | None = None) -> Iterator[BinaryIO]:
    """One file from its beginning, to read a part of it; of an archive's member all bytes are read. As `read_bytes`."""
    if member is not None:
        yield io.BytesIO(read_bytes(root, path, member))
        return
    with _opened(root, path) as stream:
        yield stream


def list_files(root: Root, folder: str = "") -> list[str]:
    """Sorted names, relative to the root, of the files directly in `folder` ('' is the root itself)."""
    if is_archive_root(root):
        return [name for name in _open_archive(root, "").names if posixpath.dirname(name) == folder]
    if isinstance(root, Remote):
        return list(storage.names_in(root, posixpath.normpath(folder) if folder not in ("", ".") else ""))
    where = root / folder
    if not where.is_dir():
        return []
    return sorted(posixpath.join(folder, entry.name) for entry in where.iterdir() if entry.is_file())


def list_tree(root: Root, folder: str) -> list[str]:
    """Sorted names, relative to the root, of the files at any depth in a folder; it may be an archive, or lie in one.

    Raises:
        Rejected: The archive cannot be opened, or the name leads out of the root.
    """
    path, inner = locate(root, folder)
    if inner is None and is_archive(path) and _is_file(root, path):
        inner = "."
    if inner is not None:
        names = _open_archive(root, path).names
        return [posixpath.join(path, name) for name in names if inner == "." or name.startswith(f"{inner}/")]
    if isinstance(root, Remote):
        return [name for name in storage.names(root) if path == "." or name.startswith(f"{path}/")]
    walked = ((posixpath.relpath(where, root), names) for where, _, names in os.walk(root / path))
    return sorted(posixpath.normpath(posixpath.join(where, name)) for where, names in walked for name in names)


def has_file(root: Root, name: str) -> bool:
    """Whether there is a file of this name, in a folder or an archive.

    Raises:
        Rejected: As in `list_tree`.
    """
    path, member = locate(root, name)
    if member is not None:
        return member in _open_archive(root, path)
    return storage.has(root, path) if isinstance(root, Remote) else os.path.isfile(root / path)


def list_all_files(root: Root) -> list[str]:
    """Sorted names, relative to the root, of all files in its folders and in the archives there.

    An archive that cannot be opened stands for itself; no link to a folder is followed.
    """
    if is_archive_root(root):
        return _open_archive(root, "").names
    names = storage.names(root) if isinstance(root, Remote) else _tree(root)
    return sorted(one for name in names for one in files_in(root, name))


def _tree(root: Path) -> Iterator[str]:
    for folder, _, files in os.walk(root, onerror=_raise):
        where = posixpath.relpath(folder, root)
        yield from (posixpath.normpath(posixpath.join(where, file)) for file in files)


def files_in(root: Root, name: str) -> list[str]:
    """What an archive holds, by names under the root; of any other file, or one that cannot be opened, its own name."""
    if is_archive(name):
        with contextlib.suppress(Rejected):
            return [f"{name}/{member}" for member in list_members(root, name)]
    return [name]


def _raise(error: OSError) -> None:
    raise error


def list_members(root: Root, path: str = "") -> list[str]:
    """Sorted names of the files in an archive under the root; `Rejected` where it cannot be opened."""
    return _open_archive(root, path).names


def version(root: Root, path: str) -> Hashable:
    """What changes where a file or a folder of the disk does, or a file on storage.

    Raises:
        OSError, ValueError, Rejected: There is none.
    """
    if isinstance(root, Remote):
        return storage.version(root, path)
    status = os.stat(root / path)
    return status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size


def _is_file(root: Root, path: str) -> bool:
    if isinstance(root, Path):
        return os.path.isfile(root / path)
    try:
        storage.version(root, path)
    except Rejected:
        return False
    return True


def _opened(root: Root, path: str) -> BinaryIO:
    return copies.open_copy(root, path) if isinstance(root, Remote) else _inside(root, path).open("rb")


def _inside(root: Path, path: str) -> Path:
    """The file that `path` names, after every link; it must be an ordinary file under the root."""
    top = root.resolve()
    if "\0" in path:
        raise Rejected("path_outside_root", f"{path!r} is not a file name")
    with item_boundary("path_outside_root", ascii(path)):  # such as text that no file system holds
        try:
            file = (top / path).resolve() if path else top
        except RuntimeError:
            raise Rejected("path_outside_root", f"{path!r} is a link that leads to itself") from None
    if not file.is_relative_to(top):
        raise Rejected("path_outside_root", f"{path!r} leads out of the source's root")
    if not os.path.isfile(file):  # False, where Path.is_file fails, for names that are too long
        raise Rejected("missing_file", f"{path or root.name}: no such file")
    return file


def _open_archive(root: Root, path: str) -> "_Zip | _Tar":
    # The process id keeps forked workers from sharing one open file and its position.
    if isinstance(root, Path):
        file = _inside(root, path)
        status = file.stat()
        return _cached_archive(file, "", (status.st_mtime_ns, status.st_size), os.getpid())
    found = _cached_archive(root, path, storage.version(root, path), os.getpid())
    copies.touch(root, path)
    return found


@functools.lru_cache(maxsize=8)
def _cached_archive(root: Root, path: str, changes: Hashable, process: int) -> "_Zip | _Tar":
    name = posixpath.basename(path) or root.name
    if not is_archive(name):
        raise Rejected("unsupported_type", f"{name} is not one of {', '.join(ARCHIVE_SUFFIXES)}")
    with item_boundary("corrupt", name):
        try:
            stream = _opened(root, path)
            return _Zip(stream) if name.lower().endswith(".zip") else _Tar(stream)
        except NotImplementedError as error:  # a zip version that zipfile does not know
            raise Rejected("unsupported_type", f"{name}: {error}") from None


def _check(member: str, size: int) -> None:
    if size > MAX_BYTES:
        raise Rejected("file_too_large", f"{member}: {size} bytes, at most {MAX_BYTES}")


class _Zip:
    """A zip file whose index is read once."""

    def __init__(self, file: BinaryIO) -> None:
        self._archive = zipfile.ZipFile(file)
        # A member without a name cannot be asked for, and zipfile trips over it.
        files = (info for info in self._archive.infolist() if info.filename and not info.is_dir())
        self._members = {posixpath.normpath(info.filename): info for info in files}
        self.names = sorted(self._members)

    def __contains__(self, member: str) -> bool:
        return posixpath.normpath(member) in self._members

    def read(self, member: str) -> bytes:
        info = self._members.get(posixpath.normpath(member))
        if info is None:
            raise Rejected("missing_member", f"{member}: not in the archive")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise Rejected("link_member", f"{member} is a link")
        if info.flag_bits & 1:
            raise Rejected("encrypted", f"{member} needs a password")
        if info.header_offset < 0:  # zipfile would pass it to seek
            raise Rejected("corrupt", f"{member}: its place in the archive is negative")
        _check(member, info.file_size)
        with item_boundary("corrupt", member):
            try:
                with self._archive.open(info) as stream:
                    return stream.read(MAX_BYTES + 1)
            except NotImplementedError as error:
                raise Rejected("unsupported_type", f"{member}: {error}") from None


class _Tar:
    """A tar file, plain or gzipped, whose index is read once.

    Members of a plain tar are reached directly. A gzipped one is a single stream: reading members in its own order goes
    through it once, every step backwards starts it again.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._archive = tarfile.open(fileobj=file, mode="r:*")  # noqa: SIM115 - stays open in the cache
        self._members = {posixpath.normpath(i.name): i for i in self._archive.getmembers() if not i.isdir()}
        self._lock = threading.Lock()
        self.names = sorted(self._members)

    def __contains__(self, member: str) -> bool:
        return posixpath.normpath(member) in self._members

    def read(self, member: str) -> bytes:
        info = self._members.get(posixpath.normpath(member))
        if info is None:
            raise Rejected("missing_member", f"{member}: not in the archive")
        if not info.isreg():
            raise Rejected("link_member", f"{member} is a link or a device")
        _check(member, info.size)
        with item_boundary("corrupt", member), self._lock:
            stream = self._archive.extractfile(info)
            data = stream.read() if stream else b""
        if len(data) != info.size:
            raise Rejected("truncated", f"{member}: {len(data)} of {info.size} bytes")
        return data
