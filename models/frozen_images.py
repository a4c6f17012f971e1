"""Features of a frozen image encoder, computed once for each image and kept on disk between runs.

A key is the SHA-256 of the pixels; the file is named by all else that decides the features. So an image that changed is
another image, and other weights or code have another file. Files may be deleted: then everything is computed again.
"""

import hashlib
import logging
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from models.loading import UNREAD, first_part

logger = logging.getLogger(__name__)

# Raise it when `models/encoders.py` or `models/token_layout.py` reads other features from the same weights and pixels.
FORMAT = 1
_TABLE = """
CREATE TABLE IF NOT EXISTS features (
    key BLOB PRIMARY KEY,
    tokens INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    value BLOB NOT NULL
)
"""

Encode = Callable[[Tensor], tuple[Tensor, Tensor]]


class ImageFeatureStore:
    """Encodes an image the first time that it comes, and reads its features back afterwards.

    Several processes may share a file (SQLite in write-ahead mode). Features that do not fit their checksum are
    computed again.

    Args:
        folder: Where the file lies; made where it is absent.
        encoder: Whose weights name the file; they never change.
        facts: All else that decides the features but the pixels, in words: its settings above all.

    Attributes:
        computed: Images that were encoded, of all that were asked for.
    """

    def __init__(self, folder: Path, encoder: nn.Module, facts: str) -> None:
        self.computed = 0
        self._path = folder / f"{identity(encoder, facts)[:24]}.sqlite"
        self._database: sqlite3.Connection | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy of the model, for another process or an average of weights, opens the file for itself.
        return {**vars(self), "_database": None}

    @torch.no_grad()
    def __call__(self, pixels: Tensor, encode: Encode) -> tuple[Tensor, Tensor]:
        """Whole (batch, width) and patches (batch, patches, width) of images (batch, 3, side, side) uint8."""
        features = torch.stack([self._features(image, encode) for image in pixels]).to(pixels.device)
        return features[:, 0], features[:, 1:]

    def _features(self, image: Tensor, encode: Encode) -> Tensor:
        """The whole and the patches of one image: (1 + patches, width), on the CPU."""
        key = hashlib.sha256(f"{tuple(image.shape)} ".encode() + image.cpu().numpy().tobytes()).digest()
        row = self._execute("SELECT tokens, checksum, value FROM features WHERE key = ?", (key,))
        if row is not None and _checksum(key, row[0], row[2]) == row[1]:
            return torch.frombuffer(bytearray(row[2]), dtype=torch.float32).view(row[0], -1)
        # Alone: the last bits of an image in a batch depend on the others.
        whole, patches = encode(image[None])
        found = torch.cat([whole[:, None], patches], dim=1)[0].float().cpu()
        if not found.isfinite().all():
            raise FloatingPointError("a frozen image encoder gives features that are not finite: look at its weights")
        value = found.contiguous().numpy().tobytes()
        self._execute(
            "INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)",
            (key, len(found), _checksum(key, len(found), value), value),
        )
        self.computed += 1
        return found

    def _execute(self, statement: str, values: tuple[Any, ...]) -> Any:
        """The first row; a damaged file is set aside, and a new one begun."""
        try:
            return self._open().execute(statement, values).fetchone()
        except sqlite3.OperationalError as error:
            # A full disk, or a lock: nothing is wrong with the file, which SQLite does not name.
            error.filename = str(self._path)  # type: ignore[attr-defined]
            raise
        except sqlite3.DatabaseError as error:
            logger.warning("%s is damaged (%s) and was set aside", self._path, error)
            if self._database is not None:
                self._database.close()
                self._database = None
            for file in self._path.parent.glob(f"{self._path.name}*"):
                file.replace(file.with_name(f"damaged-{file.name}"))
            return self._open().execute(statement, values).fetchone()

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(_TABLE)
        return self._database


def _checksum(key: bytes, tokens: int, value: bytes) -> int:
    """Over the key too: a damaged index may lead to the features of another image."""
    return zlib.crc32(value, zlib.crc32(key + tokens.to_bytes(8)))


def identity(encoder: nn.Module, facts: str) -> str:
    """SHA-256 of the weights, and of all but the pixels that decides the features."""
    digest = hashlib.sha256(f"{FORMAT} {torch.__version__} {transformers.__version__} {facts}".encode())
    # What a file may lack is drawn at random, and nothing reads it.
    weights = {name: value for name, value in encoder.state_dict().items() if first_part(name) not in UNREAD}
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype} ".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
