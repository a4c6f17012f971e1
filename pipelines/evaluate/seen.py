"""Which images a checkpoint was trained on, where a study still has the shards that it names."""

from collections.abc import Iterable
from pathlib import Path

from models import checkpoint as checkpoints
from models.data.format import MANIFEST
from models.data.shards import ShardSet
from models.verified import verified_sha256
from pipelines.files import read_output


def trained_on(checkpoint: Path) -> str | None:
    """SHA-256 of the manifest of the image shards that a checkpoint was trained on; None: it does not say."""
    found: str | None = read_output(checkpoint / checkpoints.CURVE).get("shards", {}).get("images")
    return found


def training_images(checkpoint: Path, studies: Iterable[Path]) -> ShardSet | None:
    """The training split that a checkpoint names by the digest of its shards' manifest; None: no study has it.

    Args:
        checkpoint: Its folder.
        studies: Folders that may hold these shards under data/shards.
    """
    shards = trained_on(checkpoint)
    for study in dict.fromkeys(studies):
        images = study / "data/shards/images"
        if shards is not None and (images / MANIFEST).is_file() and verified_sha256(images / MANIFEST) == shards:
            return ShardSet(images, study / "data/shards/captions", "train")
    return None
