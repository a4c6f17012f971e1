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


def seen_images(training: ShardSet | None, split: ShardSet) -> SeenImages:
    """Compare the images of a split with those that a checkpoint was trained on.

    Image ids are compared: an id is that of a file's bytes, so that a copy in another format is unknown here
    (`pipelines/evaluate/contamination.py` looks for such copies).

    Args:
        training: Of `training_images`.
        split: What it is scored on.
    """
    if training is None:
        return SeenImages(
            images=None,
            text=f"whether any of the {len(split)} images was in the training data of this model cannot be told: its "
            "shards are neither here nor in the study",
        )
    both = len(image_keys(training) & image_keys(split))
    return SeenImages(
        images=both,
        text=f"{both} of {len(split)} images were in the training data of this model (files with equal bytes)",
    )


def image_keys(shards: ShardSet) -> set[str]:
    """The image_id of each image of a split."""
    return {sample.key for sample in shards.samples(with_image=False)}
