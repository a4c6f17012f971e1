"""Raw data without its names: a digest of each file's name with its bytes, so that two folders can be compared.

A recipe must not tell how the files of a clinic are called. The digest covers the name and the SHA-256 of the bytes
together: it can be checked by whoever has the file, and tells a name to nobody else.
"""

import hashlib
from pathlib import Path

from models.verified import sha256_file
from pipelines import storage
from pipelines.copies import open_copy
from pipelines.errors import Rejected, UserError
from pipelines.storage import Remote, Root, is_archive


def digests(root: Root) -> dict[str, str]:
    """Digest -> name relative to the root, of a folder's files or of an archive (''). All bytes of storage are fetched.

    Raises:
        UserError: A file vanished, or storage does not answer.
    """
    if isinstance(root, Remote):
        found = ("",) if is_archive(root.url) else storage.names(root)
        return {_digest(name, _sha256(root, name)): name for name in found}
    files = [file for file in root.rglob("*") if file.is_file()] if root.is_dir() else [root]
    names = {file: file.relative_to(root).as_posix() if root.is_dir() else "" for file in files}
    return {_digest(name, sha256_file(file)): name for file, name in names.items()}


def _sha256(root: Remote, name: str) -> str:
    try:
        with open_copy(root, name) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (Rejected, OSError):
        raise UserError(f"{root}: a file cannot be read any more: run `dvc repro` first") from None


def _digest(name: str, sha256: str) -> str:
    return hashlib.sha256(f"{name}\0{sha256}".encode("utf-8", "surrogateescape")).hexdigest()


def difference(root: Path, wanted: set[str]) -> str | None:
    """How a folder or archive differs from the one that was packed, in words; None where it is the same.

    Args:
        root: Where the raw data should lie.
        wanted: Digests of the packed files.
    """
    if not root.exists():
        return "is not there"
    found = digests(root)
    changed = sorted(name for digest, name in found.items() if digest not in wanted)
    missing = len(wanted - found.keys())
    if not changed and not missing:
        return None
    if not root.is_dir():
        return "has other bytes than the packed archive"
    named = f" ({', '.join(changed[:3])}{', ...' if len(changed) > 3 else ''})" if changed else ""
    return f"has {len(changed)} files{named} that were not packed so, and lacks {missing} of {len(wanted)} that were"
