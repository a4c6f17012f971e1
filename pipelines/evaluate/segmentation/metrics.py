"""Dice, IoU and accuracy from the counts of pixels of each image.

A row of counts is (true positive, false positive, false negative, true negative). The literature means two things by
the same names: the mean over images (LViT, RecLMIS) and the value of all pixels together (Ariadne, TMCA); they differ
by several points on the same masks, so both stand beside each other here.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluate.bootstrap import Score, score
from pipelines.evaluate.config import Bootstrap

Counts = NDArray[np.int64]
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


def count(found: Mask, target: Mask) -> list[int]:
    """The row of one image; both masks (height, width)."""
    both, either = int((found & target).sum()), int((found | target).sum())
    positive, true = int(found.sum()), int(target.sum())
    return [both, positive - both, true - both, target.size - either]


def dice(counts: Counts) -> Values:
    """2 TP / (2 TP + FP + FN): (..., 4) -> (...); 1 where nothing is to be found and nothing was."""
    common = 2 * counts[..., 0]
    return _share(common, common + counts[..., 1] + counts[..., 2])


def iou(counts: Counts) -> Values:
    """TP / (TP + FP + FN), otherwise as `dice`."""
    return _share(counts[..., 0], counts[..., :3].sum(axis=-1))


def accuracy(counts: Counts) -> Values:
    """Share of the pixels that are right."""
    return _share(counts[..., 0] + counts[..., 3], counts.sum(axis=-1))


def _share(part: Counts, whole: Counts) -> Values:
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


# Each (..., images, 4) -> (...).
METRICS: dict[str, Callable[[Counts], Values]] = {
    "dice_per_image": lambda counts: dice(counts).mean(axis=-1),
    "dice_pooled": lambda counts: dice(counts.sum(axis=-2)),
    "iou_per_image": lambda counts: iou(counts).mean(axis=-1),
    "iou_pooled": lambda counts: iou(counts.sum(axis=-2)),
    "accuracy": lambda counts: accuracy(counts.sum(axis=-2)),
}


def scores(counts: Counts, bootstrap: Bootstrap) -> tuple[dict[str, Score], dict[str, str]]:
    """Every metric of some images, and the constant answer that its `chance` is the score of.

    Args:
        counts: (images, 4).
        bootstrap: Images are resampled; a pooled metric is the ratio of the sums of each resample.
    """
    found, answers = {}, {}
    for name, metric in METRICS.items():
        constant = {answer: float(metric(changed)) for answer, changed in constant_answers(counts).items()}
        answers[name] = max(constant, key=lambda answer: constant[answer])
        found[name] = score(
            [len(counts)],
            lambda index, metric=metric: metric(counts[index]),
            float(metric(counts)),
            constant[answers[name]],
            bootstrap,
        )
    return found, answers


def constant_answers(counts: Counts) -> dict[str, Counts]:
    """The counts of two methods that look at nothing."""
    true = counts[:, 0] + counts[:, 2]
    false = counts[:, 1] + counts[:, 3]
    nothing = np.zeros_like(true)
    return {
        "every pixel": np.stack([true, false, nothing, nothing], axis=1),
        "no pixel": np.stack([nothing, nothing, true, false], axis=1),
    }
