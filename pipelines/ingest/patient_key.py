"""Makes the key for confidential patient ids (`pipelines.keys`), where there was none before.

Writes  patient.key (mode 0600) and patient.key.sha256 in the folder `ingest.keys`
Alone   python -m pipelines.ingest.patient_key, or `make patient-key`
"""

import hashlib
import os
import secrets
from pathlib import Path

from pipelines.config import load
from pipelines.errors import UserError
from pipelines.ingest.config import IngestConfig
from pipelines.keys import KEY_BYTES, digest_file, key_file, missing_key
from pipelines.stage import command


def main() -> None:
    folder = Path(load(IngestConfig, "ingest").keys)
    file = make_key(folder)
    print(f"{file} made: back it up where only you can read it, and add {digest_file(folder)} to git")


def make_key(folder: Path) -> Path:
    """Make the key, and the file with its digest.

    Returns:
        The key's file.

    Raises:
        UserError: There was one already, or the folder cannot be written to.
    """
    file, digest = key_file(folder), digest_file(folder)
    if digest.exists() and not file.exists():
        raise UserError(f"{missing_key(file)}. To start anew with other hashes, delete {digest} first")
    key = secrets.token_bytes(KEY_BYTES)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # O_EXCL: of two that run at once, one fails, and no link is followed.
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(key)
        digest.write_text(f"{hashlib.sha256(key).hexdigest()}  {file.name}\n", encoding="ascii")
    except FileExistsError:
        if not file.exists():
            raise UserError(
                f"{file} is a link to a file that is not there: delete the link, or bring the file back"
            ) from None
        raise UserError(f"{file} is there already and stays: another key would give other hashes") from None
    except OSError as error:
        raise UserError(f"{folder}: the key cannot be written ({error.strerror})") from None
    return file


if __name__ == "__main__":
    command(main)
