"""Folders whose files are checked against digests that were taken when they were written.

A stage's output folder holds `SHA256SUMS`: a line `<SHA-256>  <path relative to the folder>` for each file, as
`sha256sum -c` reads it, and a last line with the SHA-256 of the lines above, so that the list itself cannot change
unnoticed. The file is written last: a folder that has one is complete.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

SUMS = "SHA256SUMS"

_OWN = "# sha256 of the lines above: "


class DamagedError(ValueError):
    """A file whose bytes are not those that were written. The message is one line and says what to do."""


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(folder: Path, known: Mapping[str, str] | None = None) -> None:
    """Write `SHA256SUMS` over all files under a folder; an earlier one is replaced.

    Args:
        folder: The folder.
        known: Path relative to the folder -> SHA-256, of files that were hashed as they were written.
    """
    known = known or {}
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    _write_digests(folder, {name: known.get(name) or sha256_file(folder / name) for name in names if name != SUMS})


def record(path: Path) -> None:
    """Add a file, or its new digest, to the `SHA256SUMS` of its folder; the other lines stay.

    Raises:
        DamagedError: The list that is there is not the one that was written.
    """
    folder = path.parent
    digests = read_digests(folder) if (folder / SUMS).is_file() else {}
    _write_digests(folder, {**digests, path.name: sha256_file(path)})


def read_digests(folder: Path, remedy: str | None = None) -> dict[str, str]:
    """SHA-256 of each file by its path relative to the folder, as `SHA256SUMS` lists them.

    Args:
        folder: A sealed one.
        remedy: What to do where it is damaged; None: what makes a stage's output again.

    Raises:
        DamagedError: There is no list, or it is not the one that was written.
    """
    path, remedy = folder / SUMS, remedy or _remedy(folder)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DamagedError(f"{path} not found: {folder} was not completed; {remedy}") from None
    except UnicodeDecodeError:
        raise DamagedError(f"{path} is damaged: {remedy}") from None
    lines, _, own = text.rpartition(_OWN)
    if own != f"{_text_sha256(lines)}\n":
        raise DamagedError(f"{path} is damaged: {remedy}")
    pairs = (line.split("  ", 1) for line in lines.splitlines())
    return {name: digest for digest, name in pairs}


@contextmanager
def open_verified(path: Path) -> Iterator[BinaryIO]:
    """Open a file of a sealed folder for reading, after all of it was hashed through the same handle.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedError: Its bytes are not those that were written, or its folder is not sealed.
    """
    with path.open("rb") as stream:
        _compare(path, hashlib.file_digest(stream, "sha256").hexdigest())
        stream.seek(0)
        yield stream


def read_bytes(path: Path) -> bytes:
    """All bytes of a file of a sealed folder; raises as `open_verified`."""
    data = path.read_bytes()
    _compare(path, hashlib.sha256(data).hexdigest())
    return data


def verified_sha256(path: Path) -> str:
    """SHA-256 of a file of a sealed folder; raises as `open_verified`."""
    digest = sha256_file(path)
    _compare(path, digest)
    return digest


def verify_folder(folder: Path, remedy: str | None = None) -> dict[str, str]:
    """Hash every file of a sealed folder and compare; return the digests.

    Args:
        folder: A sealed one.
        remedy: As of `read_digests`.

    Raises:
        DamagedError: A file is missing, is new, or has other bytes.
    """
    remedy = remedy or _remedy(folder)
    digests = read_digests(folder, remedy)
    present = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()} - {SUMS}
    if differing := sorted(present ^ digests.keys()):
        fault = "is missing" if differing[0] in digests else f"is not listed in {SUMS}"
        raise DamagedError(f"{folder / differing[0]} {fault}: {remedy}")
    for name, digest in digests.items():
        if sha256_file(folder / name) != digest:
            raise _damaged(folder / name, remedy)
    return digests


def _write_digests(folder: Path, digests: Mapping[str, str]) -> None:
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    (folder / SUMS).write_text(f"{lines}{_OWN}{_text_sha256(lines)}\n", encoding="utf-8")


def _compare(path: Path, digest: str) -> None:
    folder = _sealed_folder(path)
    recorded = read_digests(folder).get(path.relative_to(folder).as_posix())
    if recorded is None:
        raise DamagedError(f"{path} is not listed in {folder / SUMS}: {_remedy(folder)}")
    if recorded != digest:
        raise _damaged(path, _remedy(folder))


def _sealed_folder(path: Path) -> Path:
    """The nearest folder above a file that holds `SHA256SUMS`; where none does, the file's own, which is at fault."""
    return next((folder for folder in path.parents if (folder / SUMS).is_file()), path.parent)


def _damaged(path: Path, remedy: str) -> DamagedError:
    return DamagedError(f"{path} has other bytes than were written: {remedy}")


def _remedy(folder: Path) -> str:
    return f"delete {folder} and run `dvc repro`; if it comes back, run `python -m pipelines.verify`"


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
