"""Digests as DVC computes them: MD5 of a file, and of the list of a folder's files; unchanged files are not read again."""

from pathlib import Path
from types import TracebackType
from typing import Self

from dvc.repo import Repo
from dvc_data.hashfile.build import build


class Digests:
    """The digests of a project's files, which DVC remembers in `.dvc/tmp` by their times and sizes.

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
        """Digest of a file or folder, relative to the project, as dvc.lock holds it; None where there is none."""
        file = self._project / path
        if not file.exists():
            return None
        cache = self._repo.cache.local
        _, _, found = build(cache, str(file), cache.fs, "md5", dry_run=True, ignore=self._repo.dvcignore)
        return str(found.hash_info.value)

    def cached(self, digest: str) -> bool:
        """Whether DVC's cache has a file or folder with a digest; of a folder, all of its files."""
        objects = self._repo.cache.local
        if not objects.exists(digest):
            return False
        if not digest.endswith(".dir"):
            return True
        from dvc_data.hashfile import load
        from dvc_data.hashfile.hash_info import HashInfo

        return all(objects.exists(info.value) for _, _, info in load(objects, HashInfo("md5", digest)))
