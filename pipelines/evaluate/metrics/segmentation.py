"""Dice, IoU and accuracy from the pixel counts of each image.

A row of counts is (true positive, false positive, false negative, true negative). The literature means two things by
the same names: the mean over images (LViT, RecLMIS) and the value of all pixels together (Ariadne, TMCA); they differ
by several points on the same masks, so both stand beside each other here.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.geometry import Mask
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.metrics.bootstrap import Score, bootstrap_score

# Predictions that depend on no image.
EVERY_PIXEL, NO_PIXEL = "every pixel", "no pixel"

Counts = NDArray[np.int64]
Values = NDArray[np.float64]


def confusion_counts(predicted: Mask, target: Mask) -> list[int]:
    """The row of one image; both masks (height, width)."""
    intersection, union = int((predicted & target).sum()), int((predicted | target).sum())
    positives, true = int(predicted.sum()), int(target.sum())
    return [intersection, positives - intersection, true - intersection, target.size - union]


def dice(counts: Counts) -> Values:
    """2 TP / (2 TP + FP + FN) (Dice 1945): (..., 4) -> (...); 1 where target and prediction are empty."""
    common = 2 * counts[..., 0]
    return _ratio(common, common + counts[..., 1] + counts[..., 2])


def iou(counts: Counts) -> Values:
    """TP / (TP + FP + FN) (Jaccard 1912), otherwise as `dice`."""
    return _ratio(counts[..., 0], counts[..., :3].sum(axis=-1))


def accuracy(counts: Counts) -> Values:
    """(TP + TN) / all pixels: (..., 4) -> (...)."""
    return _ratio(counts[..., 0] + counts[..., 3], counts.sum(axis=-1))


def _ratio(part: Counts, whole: Counts) -> Values:
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


# Each (..., images, 4) -> (...).
METRICS: dict[str, Callable[[Counts], Values]] = {
    "dice_per_image": lambda counts: dice(counts).mean(axis=-1),
    "dice_pooled": lambda counts: dice(counts.sum(axis=-2)),
    "iou_per_image": lambda counts: iou(counts).mean(axis=-1),
    "iou_pooled": lambda counts: iou(counts.sum(axis=-2)),
    "accuracy": lambda counts: accuracy(counts.sum(axis=-2)),
}


def segmentation_scores(counts: Counts, bootstrap: Bootstrap) -> tuple[dict[str, Score], dict[str, str]]:
    """Every metric of some images, and for each metric the constant prediction that its `chance` is the score of.

    Args:
        counts: (images, 4).
        bootstrap: Images are resampled; a pooled metric is the ratio of the sums of each resample.
    """
    scores, baselines = {}, {}
    for name, metric in METRICS.items():
        constant = {prediction: float(metric(changed)) for prediction, changed in constant_predictions(counts).items()}
        baselines[name] = max(constant, key=lambda prediction: constant[prediction])
        scores[name] = bootstrap_score(
            [len(counts)],
            lambda index, metric=metric: metric(counts[index]),
            float(metric(counts)),
            constant[baselines[name]],
            bootstrap,
        )
    return scores, baselines


def constant_predictions(counts: Counts) -> dict[str, Counts]:
    """The counts of two predictions that depend on no image: every pixel is foreground, or none is."""
    positives = counts[:, 0] + counts[:, 2]
    negatives = counts[:, 1] + counts[:, 3]
    zero = np.zeros_like(positives)
    return {
        EVERY_PIXEL: np.stack([positives, negatives, zero, zero], axis=1),
        NO_PIXEL: np.stack([zero, zero, positives, negatives], axis=1),
    }
