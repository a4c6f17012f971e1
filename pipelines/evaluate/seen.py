"""Which images of a split were in the training data of a checkpoint, as far as that can be told."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from models import checkpoint as checkpoints
from models.data.format import MANIFEST
from models.data.shards import ShardSet
from models.verified import verified_sha256
from pipelines.files import read_output


@dataclass(frozen=True, kw_only=True)
class SeenImages:
    """What is known of the overlap.

    Attributes:
        images: Images of the split that were in training too; None: nobody knows the training images any more.
        text: The same for a person.
    """

    images: int | None
    text: str


def trained_on(checkpoint: Path) -> str | None:
    """SHA-256 of the manifest of the image shards that a checkpoint was trained on; None: it does not say."""
    found: str | None = read_output(checkpoint / checkpoints.CURVE).get("shards", {}).get("images")
    return found


def seen_images(checkpoint: Path, studies: Iterable[Path], split: ShardSet) -> SeenImages:
    """Compare the images of a split with those that a checkpoint was trained on.

    A checkpoint names the image shards it was trained on by the digest of their manifest. Where one of the studies
    still has them, image ids are compared: an id is that of a file's bytes, so a copy in another format is unknown.

    Args:
        checkpoint: Its folder.
        studies: Folders that may hold these shards under data/shards.
        split: What it is scored on.
    """
    shards = trained_on(checkpoint)
    for study in dict.fromkeys(studies):
        images = study / "data/shards/images"
        if shards is not None and (images / MANIFEST).is_file() and verified_sha256(images / MANIFEST) == shards:
            train = ShardSet(images, study / "data/shards/captions", "train")
            both = len(_keys(train) & _keys(split))
            return SeenImages(
                images=both,
                text=f"{both} of {len(split)} images were in the training data of this model (files with equal bytes)",
            )
    return SeenImages(
        images=None,
        text=f"whether any of the {len(split)} images was in the training data of this model cannot be told: its "
        "shards are neither here nor in the study",
    )


def _keys(shards: ShardSet) -> set[str]:
    return {sample.key for sample in shards.samples(with_image=False)}
