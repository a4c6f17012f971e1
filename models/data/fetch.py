"""Files of a family of shards from a folder or a URL; a tar is compared with its manifest before any of it is used.

A path is read as it is, http and https by the standard library, every other URL through fsspec: `s3://bucket/shards`
with the package s3fs installed. Credentials come from where fsspec's packages look for them, never from a URL.
"""

import hashlib
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from models.data.format import MANIFEST, ShardError, ShardFile
from models.urls import HTTP, is_url

# Seconds in which a server must send something.
TIMEOUT_S = 60.0

_CHUNK = 1 << 20
# What HTTP says of a server that may answer a little later: RFC 9110, section 15, and RFC 6585.
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


def check_same_manifest(folder: Path, location: str) -> None:
    """Refuse a location whose shards are not those of a folder, before any tar is read.

    Args:
        folder: A family's folder, which was checked.
        location: Folder or URL of the same family elsewhere.

    Raises:
        ShardError: Its manifest is missing, or another one.
        ConnectionError: It cannot be reached at present.
    """
    own = (folder / MANIFEST).read_bytes()
    if _read(location, MANIFEST, len(own)) != own:
        raise ShardError(f"{location} holds other shards than {folder}: copy {folder} there")


def fetch(location: str, shard: ShardFile) -> bytes:
    """All bytes of a tar.

    Args:
        location: Folder or URL of the family.
        shard: What its manifest says of the tar.

    Raises:
        ShardError: It is missing, or not the one that was written; or its storage refuses or cannot be asked.
        ConnectionError: The network or the server failed; the same may pass later.
    """
    url = f"{location}/{shard.file}"
    data = _read(location, shard.file, shard.bytes)
    if len(data) != shard.bytes:
        # No more is read than one byte beyond.
        found = "more" if len(data) > shard.bytes else len(data)
        raise ShardError(f"{url} has {found} bytes, its manifest says {shard.bytes}: {_again(location)}")
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise ShardError(f"{url} has other bytes than its manifest says: {_again(location)}")
    return data


def _again(location: str) -> str:
    return "copy the shards there again" if is_url(location) else f"delete {location} and run `dvc repro`"


def _read(location: str, file: str, size: int) -> bytes:
    """At most one byte more than `size`, so that another file in the place of a tar does not fill the memory."""
    url = f"{location}/{file}"
    try:
        with _opened(url) as stream:
            chunks, left = [], size + 1
            while left > 0 and (chunk := stream.read(min(left, _CHUNK))):
                chunks.append(chunk)
                left -= len(chunk)
            if isinstance(stream, HTTPResponse) and left > 0 and stream.length:
                raise ConnectionError(f"the connection ended {stream.length} bytes early")
            return b"".join(chunks)
    except FileNotFoundError:
        raise ShardError(f"{url} is missing: {_again(location)}") from None
    except HTTPError as error:
        if error.code in _LATER:
            raise ConnectionError(f"{url}: HTTP {error.code} {error.reason}") from None
        raise ShardError(f"{url} cannot be read: HTTP {error.code} {error.reason}") from None
    except URLError as error:
        raise ConnectionError(f"{url}: {error.reason}") from None
    except (ConnectionError, TimeoutError, HTTPException) as error:
        raise ConnectionError(f"{url}: {str(error) or type(error).__name__}") from None
    except Exception as error:
        if not is_url(url):
            raise
        # Packages of storages raise anything, also where they are not installed: it ends the run with their words.
        raise ShardError(f"{url} cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from None


def _opened(url: str) -> IO[bytes]:
    if not is_url(url):
        return Path(url).open("rb")
    if urlsplit(url).scheme in HTTP:
        response: IO[bytes] = urlopen(url, timeout=TIMEOUT_S)
        return response
    # Imported where it is used: a study on a disk needs none of it.
    import fsspec

    opened: IO[bytes] = fsspec.open(url, "rb").open()
    return opened
