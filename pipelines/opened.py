"""`open_file`: a file that is read, hashed, and as a volume unpacked, once, however many of its slices are asked for.

A volume may be a pair of files, a header and its voxels beside it (.hdr and .img, .mhd and .raw, .nhdr and .raw). It is
named by the header, the first kind by either file, and its digest is over the bytes of both, header first. It may be a
DICOM series, where a cut of it names an axis: it is named by one of its slices, the others lie in the same folder, and
its digest is over the bytes of all in the order of their numbers.

Reason codes of `Rejected`: those of `pipelines.archives`, and of `pipelines.images` for what a volume's header says.
"""

import contextlib
import functools
import hashlib
import io
import posixpath
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipelines.archives import list_files, list_members, open_stream, read_bytes, version
from pipelines.cuts import Cut
from pipelines.errors import Rejected, item_boundary
from pipelines.formats.dicom import states_burned_in
from pipelines.formats.dicom_header import BEGINNING, is_dicom, read_header
from pipelines.formats.dicom_plane import dicom_planes
from pipelines.formats.dicom_series import Pictures, stacks
from pipelines.formats.dicom_volume import stacked
from pipelines.formats.metaimage import is_metaimage, metaimage_volume
from pipelines.formats.nifti import is_nifti, is_nifti_header, nifti_pair, nifti_volume
from pipelines.formats.nrrd_files import is_nrrd, nrrd_volume
from pipelines.formats.space import Plane
from pipelines.formats.volumes import Volume
from pipelines.storage import Remote, Root

# What is kept of files that were opened last: an image and its masks. The last one is kept whatever its size.
_KEPT_BYTES, _KEPT_FILES = 2 * 2**30, 8
_HEADERS, _VOXELS = (".hdr", ".hdr.gz"), (".img", ".img.gz")


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedFile:
    """A file in memory.

    Attributes:
        data: Its bytes; none of a volume, which holds them itself, but of a DICOM series those of one slice, whose
            header speaks for all: one that states text in its pixels, where any does.
        digest: SHA-256 over the bytes.
        volume: Where it is one.
    """

    data: bytes
    digest: "hashlib._Hash"
    volume: Volume | None

    @property
    def sha256(self) -> str:
        """64 hex digits."""
        return self.digest.hexdigest()

    @property
    def size(self) -> int:
        """Bytes in memory, once a volume is unpacked."""
        return len(self.data) if self.volume is None else self.volume.size

    def plane(self, cut: Cut) -> Plane | None:
        """Where the picture that a cut names lies; None where the file does not say so."""
        with item_boundary():
            if self.volume is not None:
                return self.volume.plane(cut)
            frame = cut.frame or 0
            return self._planes[frame] if frame < len(self._planes) else None

    @cached_property
    def _planes(self) -> tuple[Plane | None, ...]:
        return dicom_planes(self.data) if is_dicom(self.data) else ()


def open_file(root: Root, path: str, member: str | None = None, cut: Cut | None = None) -> OpenedFile:
    """A file, as it was opened before if it is one of the last.

    Args:
        root: The source's folder, or the archive that is the source, here or on storage.
        path: File relative to the root; '' where the root is the archive.
        member: Name inside the archive that `path` names.
        cut: What will be asked for: of a DICOM file an axis means the whole series, or all frames, as a volume.

    Raises:
        Rejected: There is no such file, or it is a volume that cannot be used.
        OSError: The disk failed.
    """
    as_volume = cut is not None and cut.axis is not None
    try:
        about = version(root, path)
    except (OSError, ValueError, Rejected):  # `read_bytes` says what is wrong
        return _open(root, path, member, as_volume)
    return _LAST.get((root, path, member, as_volume, about), lambda: _open(root, path, member, as_volume))


def opened(data: bytes) -> OpenedFile:
    """A file of which the bytes are at hand, and no file beside it."""
    return _opened(data, "", _nothing_beside)


class _LastFiles:
    """The files that were opened last."""

    def __init__(self) -> None:
        self._files: OrderedDict[Any, OpenedFile] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], OpenedFile]) -> OpenedFile:
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
                return self._files[key]
        file = make()
        with self._lock:
            self._files[key] = file
            while len(self._files) > 1 and (len(self._files) > _KEPT_FILES or self._size > _KEPT_BYTES):
                self._files.popitem(last=False)
        return file

    @property
    def _size(self) -> int:
        return sum(file.size for file in self._files.values())


_LAST = _LastFiles()


def _open(root: Root, path: str, member: str | None, as_volume: bool) -> OpenedFile:
    name = posixpath.normpath(path if member is None else member)
    data = read_bytes(root, path, member)
    if as_volume and is_dicom(data):
        return _stack(data, root, path, member)

    def beside(other: str) -> bytes:
        """A file in the same folder, of the disk or of the archive."""
        place = posixpath.normpath(posixpath.join(posixpath.dirname(name), other))
        if posixpath.isabs(other) or place.startswith(".."):
            raise Rejected("path_outside_root", "the header names a file outside of the root")
        return read_bytes(root, place) if member is None else read_bytes(root, path, place)

    return _opened(data, name, beside)


def _stack(data: bytes, root: Root, path: str, member: str | None) -> OpenedFile:
    """The volume of all slices of the stack that a DICOM file is one of, or of its frames where it has several."""
    files = [data]
    if read_header(io.BytesIO(data)).frames == 1:
        files = [read_bytes(root, *one) for one in _slices(root, path, member)]
    digest = hashlib.sha256()
    for one in files:
        digest.update(one)
    with item_boundary(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        speaks = next((one for one in files if states_burned_in(one)), data)
        return OpenedFile(data=speaks, digest=digest, volume=stacked(files))


def _slices(root: Root, path: str, member: str | None) -> list[tuple[str, str | None]]:
    """Path and member of the slices of a file's stack, in the order of their numbers."""
    name = posixpath.normpath(path if member is None else member)
    archive, folder = None if member is None else path, posixpath.dirname(name)
    # Of a folder on storage nothing tells that it changed: it stays as this process found it.
    is_asked = archive is not None or not isinstance(root, Remote)
    changes = version(root, folder if archive is None else archive) if is_asked else None
    stack = next((names for names in _stacks(root, archive, folder, changes) if name in names), None)
    if stack is None:
        raise Rejected("unplaced", "the file says no series, or not where in the patient it lies")
    return [(one, None) if archive is None else (archive, one) for one in stack]


# A folder may hold all series of a hospital, and each of them is opened.
@functools.lru_cache(maxsize=4)
def _stacks(root: Root, archive: str | None, folder: str, _changes: Hashable) -> list[list[str]]:
    """The stacks of the DICOM files in a folder, or in a folder of an archive, each in the order of its numbers."""
    beside = list_files(root, folder) if archive is None else list_members(root, archive)
    headers: Pictures = {}
    for name in beside:
        if posixpath.dirname(name) != folder:
            continue
        place = (name, None) if archive is None else (archive, name)
        # What cannot be read is no slice, and leaves a gap if it was one.
        with contextlib.suppress(Rejected), item_boundary(), open_stream(root, *place) as stream:
            if is_dicom(stream.read(BEGINNING)):
                headers[name] = read_header(stream)
    return [sorted(names, key=lambda name: (headers[name].instance_number or 0, name)) for names in stacks(headers)]


def _nothing_beside(name: str) -> bytes:
    raise Rejected("missing_file", "a header without its voxels, which lie in another file")


def _opened(data: bytes, name: str, beside: Callable[[str], bytes]) -> OpenedFile:
    header, suffix = data, _suffix(name, _VOXELS)
    # Voxels of a pair begin with anything: their name alone tells what they are, and only beside their header.
    if suffix and (found := _first_of(beside, name, suffix, _HEADERS)) is not None:
        header = found
    digest = hashlib.sha256(header)

    def read(other: str) -> bytes:
        try:
            voxels = beside(other)
        except Rejected as error:
            raise Rejected(error.reason, "the file of the voxels, which the header names") from None
        digest.update(voxels)
        return voxels

    with item_boundary(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Libraries warn about odd headers; what matters raises.
        volume = None
        if header is data and is_nifti(data):
            volume = nifti_volume(data)
        elif is_nifti_header(header):
            voxels = data if suffix else _first_of(beside, name, _suffix(name, _HEADERS), _VOXELS)
            if voxels is None:
                raise Rejected("missing_file", "the header of a pair, without its voxels (.img) beside it")
            digest.update(voxels)
            volume = nifti_pair(header, voxels)
        elif header is not data:
            raise Rejected("corrupt", "the header (.hdr) beside the voxels cannot be read")
        elif is_nrrd(data):
            volume = nrrd_volume(data, read)
        elif is_metaimage(data):
            volume = metaimage_volume(data, read)
    return OpenedFile(data=data if volume is None else b"", digest=digest, volume=volume)


def _suffix(name: str, suffixes: Iterable[str]) -> str:
    """The suffix of a name, as it stands there, that is one of some; '' where none is."""
    return next((name[-len(suffix) :] for suffix in suffixes if name.lower().endswith(suffix)), "")


def _first_of(beside: Callable[[str], bytes], name: str, suffix: str, others: Iterable[str]) -> bytes | None:
    """The first file that has a name's stem and another suffix; None where there is none."""
    stem = posixpath.basename(name)[: -len(suffix) or None]
    for other in others:
        try:
            return beside(stem + (other.upper() if suffix.isupper() else other))
        except Rejected as error:
            if error.reason not in ("missing_file", "missing_member"):
                raise
    return None
