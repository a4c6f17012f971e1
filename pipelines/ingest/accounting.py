"""Every file under a source's root, by whether the source names it, and what a user should hear about the source.

The names of files that no row names are private and stay out of what is passed on: the summary counts their suffixes.
"""

import heapq
import os
import posixpath
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from models.verified import SUMS
from pipelines import storage
from pipelines.archives import files_in, is_archive, is_archive_root, list_members
from pipelines.ingest.key_index import hash_of
from pipelines.ingest.record import SourceRecord, UnusableRow
from pipelines.storage import Remote, Root

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".bmp", ".gif", ".webp", ".btf"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".nii", ".nii.gz", ".nrrd", ".nhdr"),
    *(".mha", ".mhd", ".hdr", ".hdr.gz", ".img", ".img.gz"),
)
# What lies beside one file of a pair, under the same name: a source names one of the two.
_BESIDE = {
    ".hdr": (".img", ".img.gz"),
    ".hdr.gz": (".img", ".img.gz"),
    ".img": (".hdr", ".hdr.gz"),
    ".img.gz": (".hdr", ".hdr.gz"),
    ".mhd": (".raw", ".zraw"),
    ".nhdr": (".raw", ".raw.gz"),
}
# A suffix that is not listed may be part of a name.
_SUFFIXES = (
    *IMAGE_SUFFIXES,
    *(
        ".csv",
        ".tsv",
        ".json",
        ".jsonl",
        ".ndjson",
        ".parquet",
        ".xlsx",
        ".xls",
        ".txt",
        ".xml",
        ".md",
        ".pdf",
        ".html",
    ),
    *(
        ".zip",
        ".tar",
        ".tar.gz",
        ".tgz",
        ".gz",
        ".raw",
        ".zraw",
        ".raw.gz",
        ".rar",
        ".7z",
        ".npy",
        ".npz",
        ".mat",
        ".h5",
        ".db",
        ".py",
        ".yaml",
    ),
)
# So many names are looked up at a time, and of so many unlisted files a page tells the names.
_BATCH, _SHOWN = 8192, 20


@dataclass(frozen=True, kw_only=True)
class SourceFiles:
    """The files under a root.

    Attributes:
        listed: How many the source names, as an image, a mask or a listing, also in rows that are rejected.
        unlisted: How many others there are. An archive of which no member is named is one file.
        first_unlisted: Names of some of these, the first ones by name.
        suffixes: How many unlisted files have each suffix.
        linked_folders: Folders that are links, from which nothing is named: what lies there is not read.
    """

    listed: int
    unlisted: int
    first_unlisted: tuple[str, ...]
    suffixes: dict[str, int]
    linked_folders: int

    @property
    def unlisted_images(self) -> int:
        return sum(count for suffix, count in self.suffixes.items() if suffix in IMAGE_SUFFIXES)


class NamedFiles:
    """The files that a source names: 8 bytes of a hash for each time that it does, for texts would fill the memory.

    With 64 bits, of 100 million named and a million unlisted files one is taken for a listed one with a probability of
    5 in a million.

    Attributes:
        folders: All that the files lie in, folders and archives.
    """

    def __init__(self) -> None:
        self._hashes = array("Q")
        self.folders: set[str] = set()
        self.add([SUMS])

    def add_record(self, record: SourceRecord) -> None:
        """Add the files of a row."""
        parts = (name for marked in record.masks for name in marked.files)
        masks = (record.mask, *parts, *(region.mask for region in record.regions))
        self.add(name for name in (record.name, *masks) if name)

    def add_unusable(self, row: UnusableRow) -> None:
        """Add the file of a row that the adapter cannot use, unless it is no row's."""
        if row.path and row.reason != "unlisted_file":
            self.add([row.path])

    def add(self, names: Iterable[str]) -> None:
        for name in map(posixpath.normpath, names):
            self._hashes.extend(map(hash_of, (name, *_beside(name))))
            folder = posixpath.dirname(name)
            while folder and folder not in self.folders:
                self.folders.add(folder)
                folder = posixpath.dirname(folder)

    def hashes(self) -> NDArray[np.uint64]:
        """The hashes of all names, sorted."""
        return np.unique(np.array(self._hashes))


def source_files(root: Root, named: NamedFiles) -> SourceFiles:
    """Compare the files under a root with the names that its source gives.

    Args:
        root: Folder or archive.
        named: What all rows name, before `limit` chooses, and the listings.
    """
    links: set[str] = set()
    names = _walk(root, links)
    archives = set(filter(is_archive, named.folders))
    files = (file for name in names for file in (files_in(root, name) if name in archives else [name]))
    hashes, listed = named.hashes(), 0
    suffixes: Counter[str] = Counter()
    first: list[str] = []
    while batch := list(islice(files, _BATCH)):
        ours = np.array(list(map(hash_of, batch)), dtype=np.uint64)
        nearest = hashes[np.searchsorted(hashes[:-1], ours)]
        others = [name for name, is_listed in zip(batch, (nearest == ours).tolist(), strict=True) if not is_listed]
        listed += len(batch) - len(others)
        suffixes.update(map(suffix_of, others))
        first = heapq.nsmallest(_SHOWN, [*first, *others])
    return SourceFiles(
        listed=listed,
        unlisted=suffixes.total(),
        first_unlisted=tuple(first),
        suffixes=dict(sorted(suffixes.items())),
        linked_folders=len(links - named.folders),
    )


def _walk(root: Root, links: set[str]) -> Iterator[str]:
    """The names of all files; to `links` come the folders that are links, which no walk follows."""
    if is_archive_root(root):
        yield from list_members(root)
        return
    if isinstance(root, Remote):
        yield from storage.names(root)
        return
    for folder, folders, files in os.walk(root):
        where = posixpath.relpath(folder, root)
        yield from (posixpath.normpath(posixpath.join(where, file)) for file in files)
        links |= {
            posixpath.normpath(posixpath.join(where, one)) for one in folders if os.path.islink(f"{folder}/{one}")
        }


def _beside(name: str) -> Iterator[str]:
    """Names that the other file of a pair may have."""
    for suffix, others in _BESIDE.items():
        if name.lower().endswith(suffix):
            yield from (name[: -len(suffix)] + other for other in others)


def may_be_image(name: str) -> bool:
    """Whether a file that no listing names may be an image: it is not hidden, and of no suffix that says otherwise."""
    return not posixpath.basename(name).startswith(".") and suffix_of(name) in (*IMAGE_SUFFIXES, "other", "none")


def suffix_of(name: str) -> str:
    """A file's suffix in small letters; `other` where it is none of the usual ones, `none` without one."""
    base = posixpath.basename(name).lower()
    found = [suffix for suffix in _SUFFIXES if base.endswith(suffix)]
    return max(found, key=len) if found else "other" if "." in base.strip(".") else "none"
