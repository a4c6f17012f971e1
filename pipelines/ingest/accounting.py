"""Every file under a source's root, by whether the source names it, and what a user should hear about the source.

The names of files that no row names are private and stay out of what is passed on: the summary counts their suffixes.
"""

import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.verified import SUMS
from pipelines.archives import is_archive, list_members
from pipelines.errors import Rejected
from pipelines.ingest.record import SourceRecord, UnusableRow

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


@dataclass(frozen=True, kw_only=True)
class SourceFiles:
    """The files under a root.

    Attributes:
        listed: How many the source names, as an image, a mask or a listing, also in rows that are rejected.
        unlisted: The others, sorted. An archive of which no member is named is one file.
        linked_folders: Folders that are links, from which nothing is named: what lies there is not read.
    """

    listed: int
    unlisted: tuple[str, ...]
    linked_folders: int

    @property
    def suffixes(self) -> dict[str, int]:
        """How many unlisted files have each suffix."""
        return dict(sorted(Counter(map(suffix_of, self.unlisted)).items()))

    @property
    def unlisted_images(self) -> int:
        return sum(suffix_of(name) in IMAGE_SUFFIXES for name in self.unlisted)


def source_files(
    root: Path, listings: Iterable[str], records: Iterable[SourceRecord], unusable: Iterable[UnusableRow]
) -> SourceFiles:
    """Compare the files under a root with the names that its source gives.

    Args:
        root: Folder or archive.
        listings: Files that the adapter read.
        records: All rows, before `limit` chooses.
        unusable: Rows that the adapter cannot use.
    """
    named = {SUMS, *map(posixpath.normpath, listings)}
    for record in records:
        parts = (name for marked in record.masks for name in marked.files)
        masks = (record.mask, *parts, *(region.mask for region in record.regions))
        named.update(posixpath.normpath(name) for name in (record.name, *masks) if name)
    named |= {posixpath.normpath(row.path) for row in unusable if row.path and row.reason != "unlisted_file"}
    named |= {other for name in named for other in _beside(name)}
    names, links = (list_members(root), set[str]()) if root.is_file() else _walk(root)
    archives = set(filter(is_archive, _folders(named)))
    files = {file for name in names for file in (_members(root, name) if name in archives else [name])}
    return SourceFiles(
        listed=len(files & named),
        unlisted=tuple(sorted(files - named)),
        linked_folders=len(links - _folders(named)),
    )


def _walk(root: Path) -> tuple[list[str], set[str]]:
    """The names of all files, and of the folders that are links, which no walk follows."""
    names, links = [], set()
    for folder, folders, files in os.walk(root):
        where = posixpath.relpath(folder, root)
        names += [posixpath.normpath(posixpath.join(where, file)) for file in files]
        links |= {
            posixpath.normpath(posixpath.join(where, one)) for one in folders if os.path.islink(f"{folder}/{one}")
        }
    return names, links


def _beside(name: str) -> Iterator[str]:
    """Names that the other file of a pair may have."""
    for suffix, others in _BESIDE.items():
        if name.lower().endswith(suffix):
            yield from (name[: -len(suffix)] + other for other in others)


def _members(root: Path, name: str) -> list[str]:
    try:
        return [f"{name}/{member}" for member in list_members(root / name)]
    except Rejected:  # its rows are rejected too
        return [name]


def _folders(names: Iterable[str]) -> set[str]:
    """All that names lie in, folders and archives."""
    found: set[str] = set()
    for name in names:
        folder = posixpath.dirname(name)
        while folder and folder not in found:
            found.add(folder)
            folder = posixpath.dirname(folder)
    return found


def may_be_image(name: str) -> bool:
    """Whether a file that no listing names may be an image: it is not hidden, and of no suffix that says otherwise."""
    return not posixpath.basename(name).startswith(".") and suffix_of(name) in (*IMAGE_SUFFIXES, "other", "none")


def suffix_of(name: str) -> str:
    """A file's suffix in small letters; `other` where it is none of the usual ones, `none` without one."""
    base = posixpath.basename(name).lower()
    found = [suffix for suffix in _SUFFIXES if base.endswith(suffix)]
    return max(found, key=len) if found else "other" if "." in base.strip(".") else "none"
