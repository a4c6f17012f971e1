"""The test images that a model may have met in training: the same files, and near-duplicates of what it learnt from.

The training images of a checkpoint are known where a study still has the shards that it names. Test images are compared
with them as in the split (`pipelines.split.near_duplicates`): perceptual hash, then thumbnails, but as they stand in
the shards, without the padding of the square. Images that are nearly uniform are like each other and say nothing.

Of published weights that a checkpoint started from nobody knows the images: what their publisher says stands beside.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models import checkpoint as checkpoints
from models.data.shards import Sample, ShardSet
from pipelines.evaluate.kept import KeptEvaluation, recomputed
from pipelines.evaluate.seen import image_keys, training_images
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


def contamination(checkpoint: Path, studies: Sequence[Path], split: ShardSet) -> Contamination:
    """Look for the images of a split, and for near-duplicates of them, in the training data of a checkpoint.

    Args:
        checkpoint: Its folder.
        studies: Folders that may hold the shards that it was trained on, under data/shards.
        split: What it is scored on.
    """
    training = training_images(checkpoint, studies)
    not_known = list(_weights(checkpoint))
    if training is None:
        not_known.insert(0, "the images that it was trained on: its shards are neither here nor in the study")
        return Contamination(images=None, not_known=not_known)
    return Contamination(images=in_training(split, training), not_known=not_known)


def _weights(checkpoint: Path) -> Iterator[str]:
    """What its curve.json says of published weights that training started from."""
    weights = read_output(checkpoint / checkpoints.CURVE).get("weights")
    if weights is None:
        yield "whether it started from published weights: its curve.json does not say"
        return
    for name, said in weights.items():
        yield f"the images of {name}, from which it started; its publisher says: {said}"


def in_training(split: ShardSet, training: ShardSet) -> dict[str, str]:
    """image_id -> `same_bytes` or `near_duplicate` of the images of a split that training images show, too."""
    same = image_keys(split) & image_keys(training)
    tested = list(_looks(progress(split.samples(), "images looked at", total=len(split))))
    words, thumbnails = _as_arrays(tested)
    near = np.zeros(len(tested), dtype=bool)
    remaining = _looks(progress(training.samples(), "training images looked at", total=len(training)))
    while batch := list(islice(remaining, _BATCH)):
        others = _as_arrays(batch)
        for start in range(0, len(near), _ROWS):
            rows = slice(start, start + _ROWS)
            near[rows] |= _near(words[rows], thumbnails[rows], *others)
    found = {key: NEAR_DUPLICATE for (key, _, _), is_near in zip(tested, near.tolist(), strict=True) if is_near}
    return dict(sorted((found | dict.fromkeys(same, SAME_BYTES)).items()))


def _looks(samples: Iterator[Sample]) -> Iterator[tuple[str, str, bytes]]:
    """Key, perceptual hash and thumbnail of each image that is not nearly uniform."""
    for sample in samples:
        picture = Image.fromarray(without_padding(sample, sample.image))
        small = thumbnail(picture)
        if not is_near_uniform(small):
            yield sample.key, perceptual_hash(picture), small


def _as_arrays(looks: Sequence[tuple[str, str, bytes]]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """(images, 4) words of the hashes, and (images, pixels) thumbnails."""
    thumbnails = np.frombuffer(b"".join(small for _, _, small in looks), dtype=np.uint8)
    return hash_words([look for _, look, _ in looks]), thumbnails.reshape(len(looks), math.prod(THUMBNAIL))


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
        near = sum(how == NEAR_DUPLICATE for how in found.images.values())
        lines.append(f"{near} of {images} images have a near-duplicate in the training data of this model")
    return lines + [f"not known: {sentence}" for sentence in found.not_known]
