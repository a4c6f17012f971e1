"""The key that confidential patient ids are hashed with; `pipelines.ingest.patient_key` makes it, once.

It lies in the folder that `ingest.keys` names, as `patient.key`: 32 random bytes that only their owner may read. Beside
it lies `patient.key.sha256`, which git keeps: a checkout elsewhere learns from it that there is a key, and which. The
key itself is never logged or printed.
"""

import hashlib
import logging
from pathlib import Path

from pipelines.errors import UserError

logger = logging.getLogger(__name__)

KEY_BYTES = 32
ABSENT = "absent"


def key_file(folder: Path) -> Path:
    return folder / "patient.key"


def digest_file(folder: Path) -> Path:
    """The file that tells which key belongs into the folder, as `sha256sum` writes it."""
    return folder / "patient.key.sha256"


def key_digest(file: Path) -> str:
    """SHA-256 of the key's bytes, or `absent`.

    Raises:
        UserError: It cannot be read.
    """
    data = _bytes(file)
    return ABSENT if data is None else hashlib.sha256(data).hexdigest()


def read_key(folder: Path) -> bytes:
    """The 32 bytes of the key.

    Raises:
        UserError: There is none, it is not the one that `patient.key.sha256` names, or it cannot be used.
    """
    file = key_file(folder)
    key, known = _bytes(file), _known_digest(folder)
    if key is None and known:
        raise UserError(missing_key(file))
    if key is None:
        raise UserError(
            f"{file} not found, which confidential patient ids are hashed with: copy it here if these patients were "
            "hashed before, else run `make patient-key`; write patient_ids: public where the set is published with "
            "its ids"
        )
    if len(key) != KEY_BYTES:
        raise UserError(f"{file} holds {len(key)} bytes instead of {KEY_BYTES}: copy the key here again")
    if known is None:
        logger.warning("%s not found: nothing tells whether %s is the key of before", digest_file(folder), file)
    if file.stat().st_mode & 0o077:
        logger.warning("%s can be read by others: run `chmod 600 %s`", file, file)
    if known not in (None, hashlib.sha256(key).hexdigest()):
        raise UserError(f"{file} is not the key that {digest_file(folder)} names: copy the right one here")
    return key


def missing_key(file: Path) -> str:
    """What to do where patients were hashed with a key that is not here."""
    return (
        f"{file} not found, with which patient ids were hashed before: copy it here from where it was made; "
        "a new key gives other hashes"
    )


def _known_digest(folder: Path) -> str | None:
    data = _bytes(digest_file(folder))
    return None if data is None else data.decode("ascii", errors="replace").partition(" ")[0]


def _bytes(file: Path) -> bytes | None:
    if file.exists() and not file.is_file():
        raise UserError(f"{file} is no regular file: move it away, and put the key there")
    try:
        with file.open("rb") as stream:
            return stream.read(4096)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): it belongs to whoever runs the stages") from None
