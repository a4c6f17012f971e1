"""The test images that a model may have met in training: the same images, and near-duplicates of what it learnt from.

The training images of a checkpoint are known where a study still has the shards that it names; they are those of
the sources that it learned from. Test images are compared with them as in the split
(`pipelines.split.near_duplicates`): perceptual hash, then thumbnails, but as they stand in the shards, without the
padding of the square. Images that are nearly uniform are like each other and say nothing.

Which images are the same their bytes in the shards say, not their ids alone: an id is also that of the place, so that
one file from an archive here and from a folder there has two. Of a nearly uniform image the id alone says it.

Of published weights that a checkpoint started from nobody knows the images: what their publisher says stands beside.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models import checkpoint as checkpoints
from models.data.format import IMAGE
from models.data.shards import Sample, ShardSet
from pipelines.evaluate.kept import KeptEvaluation, recomputed
from pipelines.evaluate.seen import training_images
from pipelines.evaluate.segmentation.masks import without_padding
from pipelines.files import read_output
from pipelines.images import THUMBNAIL, is_near_uniform, perceptual_hash, thumbnail
from pipelines.split.config import NearDuplicates
from pipelines.split.near_duplicates import hash_words, pearson
from pipelines.stage import progress

# Those of params.yaml (split.near_duplicates): one measure for all models, whatever a study splits by.
THRESHOLDS = NearDuplicates(max_distance=48, min_correlation=0.93)
SAME_BYTES, NEAR_DUPLICATE = "same_bytes", "near_duplicate"

# Training images that are held at a time, test images whose hashes are compared with them at a time, and pairs of
# thumbnails.
_BATCH, _ROWS, _PAIRS = 2048, 128, 2048


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """What a model may know of the images that it is scored on.

    Attributes:
        images: image_id -> `same_bytes` or `near_duplicate`, in the order of the ids; None: nobody knows the training
            images any more.
        not_known: A sentence on each part of its training data of which the images are not known.
    """

    images: Mapping[str, str] | None
    not_known: Sequence[str]

    @property
    def seen(self) -> int | None:
        """How many images were in training themselves; None: nobody knows."""
        return None if self.images is None else sum(how == SAME_BYTES for how in self.images.values())


def contamination(checkpoint: Path, studies: Sequence[Path], split: ShardSet) -> Contamination:
    """Look for the images of a split, and for near-duplicates of them, in the training data of a checkpoint.

    Args:
        checkpoint: Its folder.
        studies: Folders that may hold the shards that it was trained on, under data/shards.
        split: What it is scored on.
    """
    training = training_images(checkpoint, studies)
    not_known = list(not_known_of_weights(checkpoint))
    if training is None:
        not_known.insert(0, "the images that it was trained on: its shards are neither here nor in the study")
        return Contamination(images=None, not_known=not_known)
    return Contamination(images=in_training(split, training), not_known=not_known)


def not_known_of_weights(checkpoint: Path) -> Iterator[str]:
    """What its curve.json says of published weights that training started from, a sentence on each."""
    weights = read_output(checkpoint / checkpoints.CURVE).get("weights")
    if weights is None:
        yield "whether it started from published weights: its curve.json does not say"
        return
    for name, said in weights.items():
        yield f"the images of {name}, from which it started; its publisher says: {said}"


def in_training(split: ShardSet, training: Iterable[Sample]) -> dict[str, str]:
    """image_id -> `same_bytes` or `near_duplicate` of the images of a split that training images show, too.

    Args:
        split: What is scored.
        training: The training images.
    """
    every = list(_looks(progress(split.samples(), "images looked at", total=len(split))))
    tested = [look for look in every if look.tells]
    keys, of_bytes = {look.key for look in every}, defaultdict[str, list[str]](list)
    for look in tested:
        of_bytes[look.sha256].append(look.key)
    same: set[str] = set()
    words, thumbnails = _as_arrays(tested)
    near = np.zeros(len(tested), dtype=bool)
    remaining = _looks(training)
    while batch := list(islice(remaining, _BATCH)):
        same |= keys.intersection(look.key for look in batch)
        same.update(key for look in batch for key in of_bytes.get(look.sha256, ()))
        others = _as_arrays([look for look in batch if look.tells])
        for start in range(0, len(near), _ROWS):
            rows = slice(start, start + _ROWS)
            near[rows] |= _near(words[rows], thumbnails[rows], *others)
    found = {look.key: NEAR_DUPLICATE for look, is_near in zip(tested, near.tolist(), strict=True) if is_near}
    return dict(sorted((found | dict.fromkeys(same, SAME_BYTES)).items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What images are compared by.

    Attributes:
        key: The image_id.
        sha256: Of the bytes in the shards.
        perceptual: Perceptual hash; empty of an image that is nearly uniform.
        small: Thumbnail; empty as well.
    """

    key: str
    sha256: str
    perceptual: str = ""
    small: bytes = b""

    @property
    def tells(self) -> bool:
        """Whether the image holds enough to be known by."""
        return bool(self.small)


def _looks(samples: Iterable[Sample]) -> Iterator[_Look]:
    for sample in samples:
        digest = hashlib.sha256(sample.members[IMAGE]).hexdigest()
        picture = Image.fromarray(without_padding(sample, sample.image))
        small = thumbnail(picture)
        if is_near_uniform(small):
            yield _Look(key=sample.key, sha256=digest)
        else:
            yield _Look(key=sample.key, sha256=digest, perceptual=perceptual_hash(picture), small=small)


def _as_arrays(looks: Sequence[_Look]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """(images, 4) words of the hashes, and (images, pixels) thumbnails."""
    thumbnails = np.frombuffer(b"".join(look.small for look in looks), dtype=np.uint8)
    return hash_words([look.perceptual for look in looks]), thumbnails.reshape(len(looks), math.prod(THUMBNAIL))


def _near(
    words: NDArray[np.uint64],
    thumbnails: NDArray[np.uint8],
    other_words: NDArray[np.uint64],
    other_thumbnails: NDArray[np.uint8],
) -> NDArray[np.bool_]:
    """(images,) bool: which of some images is a near-duplicate of any of the others."""
    distance = np.bitwise_count(words[:, None] ^ other_words[None]).sum(axis=2, dtype=np.uint16)
    left, right = np.nonzero(distance <= THRESHOLDS.max_distance)
    near = np.zeros(len(words), dtype=bool)
    for start in range(0, len(left), _PAIRS):
        some, others = left[start : start + _PAIRS], right[start : start + _PAIRS]
        same = pearson(thumbnails[some], other_thumbnails[others]) >= THRESHOLDS.min_correlation
        near[some[same]] = True
    return near


def as_json(found: Contamination, evaluation: KeptEvaluation) -> dict[str, Any]:
    """For metrics.json: what was found and by which measure, and the scores without these images beside those with.

    A score without them is made from the kept rows: of a rank among all candidates, of an image's own score. One that
    the rows do not give, or that no other image has, is null.

    Args:
        found: Of the split that was scored.
        evaluation: What was scored.
    """
    images = found.images or {}
    return {
        "images": found.images,
        "not_known": list(found.not_known),
        "thresholds": asdict(THRESHOLDS),
        "scores": {
            task: {
                metric: {"with": score["value"], "without": _without(evaluation, task, metric, images)}
                for metric, score in result["metrics"].items()
            }
            for task, result in evaluation.results["tasks"].items()
            if images
        },
    }


def _without(evaluation: KeptEvaluation, task: str, metric: str, images: Mapping[str, str]) -> float | None:
    value = recomputed([row for row in evaluation.rows.get(task, []) if row.image_id not in images], metric)
    return None if value is None else round(value, 6)


def in_words(found: Contamination, images: int) -> list[str]:
    """For the log: a line on what was found, and one on each part that nobody knows.

    Args:
        found: Of a split.
        images: Of that split.
    """
    lines = []
    if found.images is not None:
        how = Counter(found.images.values())
        lines.append(
            f"{how[SAME_BYTES]} of {images} images were in the training data of this model (by file or pixels)"
        )
        lines.append(
            f"{how[NEAR_DUPLICATE]} of {images} images have a near-duplicate in the training data of this model"
        )
    return lines + [f"not known: {sentence}" for sentence in found.not_known]
