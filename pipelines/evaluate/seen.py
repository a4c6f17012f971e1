"""Which images a checkpoint was trained on, where a study still has the shards that it names."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from models import checkpoint as checkpoints
from models.data.format import MANIFEST
from models.data.shards import Sample, ShardSet
from models.verified import verified_sha256
from pipelines.files import read_output
from pipelines.stage import progress


def trained_on(checkpoint: Path) -> str | None:
    """SHA-256 of the manifest of the image shards that a checkpoint was trained on; None: it does not say."""
    found: str | None = read_output(checkpoint / checkpoints.CURVE).get("shards", {}).get("images")
    return found


def learned_sources(checkpoint: Path) -> list[str] | None:
    """The sources of these shards whose images it learned from, none if nothing was trained; None: it does not say."""
    found: list[str] | None = read_output(checkpoint / checkpoints.CURVE).get("sources")
    return found


def training_images(checkpoint: Path, studies: Iterable[Path]) -> Iterator[Sample] | None:
    """The training images of the sources that a checkpoint learned from, or of all where it does not say from which.

    None: no study has the shards that it names by the digest of their manifest.

    Args:
        checkpoint: Its folder.
        studies: Folders that may hold these shards under data/shards.
    """
    sources = learned_sources(checkpoint)
    if sources == []:
        return iter(())
    shards = _training_split(trained_on(checkpoint), studies)
    if shards is None:
        return None
    samples = progress(shards.samples(), "training images looked at", total=len(shards))
    return (sample for sample in samples if sources is None or sample.meta.source in sources)


def _training_split(manifest: str | None, studies: Iterable[Path]) -> ShardSet | None:
    for study in dict.fromkeys(studies):
        images = study / "data/shards/images"
        if manifest is not None and (images / MANIFEST).is_file() and verified_sha256(images / MANIFEST) == manifest:
            return ShardSet(images, study / "data/shards/captions", "train")
    return None
