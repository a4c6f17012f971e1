"""Digests as DVC computes them, which dvc.lock holds, and what DVC's cache has of them.

That of a file is its MD5, that of a folder the MD5 of the list of its files. DVC remembers them by times and sizes, so
that unchanged files are not read again.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

from dvc.repo import Repo
from dvc_data.hashfile import load
from dvc_data.hashfile.build import build
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from models.urls import is_url
from pipelines.dvc_stages import digest_in, locked_stages


class Digests:
    """Those of one project; a context manager.

    Args:
        project: Folder with `.dvc`.
    """

    def __init__(self, project: Path) -> None:
        self._project = project.resolve()
        self._repo = Repo(str(project))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._repo.close()

    def of(self, path: str | Path) -> str | None:
        """Digest of what lies at a path now, relative to the project; None where there is nothing.

        Of a URL it is what DVC last found there, for no storage is asked.
        """
        if is_url(str(path)):
            deps = (one for entry in locked_stages(self._project).values() for one in entry.get("deps", []))
            return next((digest_in(one) for one in deps if one["path"] == path), None)
        file = self._project / path
        if not file.exists():
            return None
        cache = self._repo.cache.local
        _, _, found = build(cache, str(file), cache.fs, "md5", dry_run=True, ignore=self._repo.dvcignore)
        return str(found.hash_info.value)

    def members(self, digest: str) -> dict[str, str] | None:
        """Digest of each file of a folder, by its path there; None where DVC's cache does not have the list."""
        cache = self._repo.cache.local
        if not digest.endswith(".dir") or not cache.exists(digest):
            return None
        folder = load(cache, HashInfo("md5", digest))
        assert isinstance(folder, Tree), "its digest ends with .dir"
        return {"/".join(key): str(info.value) for key, _, info in folder if info is not None}

    def text(self, digest: str) -> str | None:
        """A file of DVC's cache; None where it is not there."""
        file = Path(self._repo.cache.local.oid_to_path(digest))
        return file.read_text(encoding="utf-8") if file.is_file() else None

    def cached(self, digest: str) -> bool:
        """Whether DVC's cache has a file, or a folder with all of its files."""
        cache = self._repo.cache.local
        if not digest.endswith(".dir"):
            return bool(cache.exists(digest))
        members = self.members(digest)
        return members is not None and all(cache.exists(member) for member in members.values())
