"""The image of a table's row: its file is read once, compared with the row, and decoded from these very bytes."""

import functools
import hashlib
from pathlib import Path

from PIL import Image

from pipelines.archives import read_bytes
from pipelines.errors import Rejected
from pipelines.images import decode
from pipelines.records import SplitImageRow
from pipelines.sources import Sources


def open_raw(sources: Sources, row: SplitImageRow) -> Image.Image:
    """The image of a row, as `pipelines.images.decode` gives it.

    Raises:
        Rejected: The file is no longer the one that was ingested (changed_since_ingest), or cannot be read; the module
            docstring of `pipelines.images` lists the other reason codes.
        OSError: The disk failed.
    """
    # The frames of a volume follow each other, so that its bytes are kept for the next.
    read = _read_verified if row.frame is None else _read_verified_and_keep
    data = read(sources.roots[row.source], row.path, row.member, row.sha256)
    return decode(data, row.frame, sources.max_pixels)


def _read_verified(root: Path, path: str, member: str | None, sha256: str) -> bytes:
    data = read_bytes(root, path, member)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Rejected("changed_since_ingest", "the file has other bytes than the table says: run `dvc repro`")
    return data


# One file at a time, of at most `pipelines.archives.MAX_BYTES`.
_read_verified_and_keep = functools.lru_cache(maxsize=1)(_read_verified)
