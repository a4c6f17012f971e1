"""Dice, IoU and accuracy: by hand, and against scikit-learn on flattened masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, jaccard_score

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.metrics.segmentation import METRICS, confusion_counts, segmentation_scores

BOOTSTRAP = Bootstrap(samples=200, seed=0)


def mask(rows: str) -> np.ndarray:
    return np.array([[letter == "x" for letter in row] for row in rows.split()])


def values(counts: list[list[int]]) -> dict[str, float]:
    return {name: float(metric(np.array(counts))) for name, metric in METRICS.items()}


def test_counts_by_hand() -> None:
    assert confusion_counts(mask("xx. ..x"), mask("x.. .xx")) == [2, 1, 1, 2]


def test_metrics_by_hand() -> None:
    # Dice 4/6 and 0/10, IoU 2/4 and 0/10; together Dice 4/16, IoU 2/14, 8 of 20 pixels right.
    metrics = values([[2, 1, 1, 6], [0, 9, 1, 0]])
    assert metrics == pytest.approx(
        {
            "dice_per_image": 1 / 3,
            "dice_pooled": 4 / 16,
            "iou_per_image": 1 / 4,
            "iou_pooled": 2 / 14,
            "accuracy": 8 / 20,
        }
    )


def test_an_empty_target_scores_one_with_an_empty_prediction_and_zero_otherwise() -> None:
    assert values([[0, 0, 0, 9]]) == dict.fromkeys(METRICS, 1.0)
    assert values([[0, 1, 0, 8]]) == {**dict.fromkeys(METRICS, 0.0), "accuracy": pytest.approx(8 / 9)}
    # The empty image is worth as much as any other in the mean, and nothing in the pooled value.
    both = values([[0, 0, 0, 9], [1, 1, 1, 6]])
    assert (both["dice_per_image"], both["dice_pooled"]) == (0.75, 0.5)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_metrics_equal_scikit_learn(seed: int, images: int) -> None:
    random = np.random.default_rng(seed)
    pairs = [random.random((2, 4, int(random.integers(1, 6)))) < 0.4 for _ in range(images)]
    flat = [(predicted.ravel(), target.ravel()) for predicted, target in pairs]
    predicted, target = (np.concatenate(parts) for parts in zip(*flat, strict=True))
    assert values([confusion_counts(*pair) for pair in pairs]) == pytest.approx(
        {
            "dice_per_image": np.mean([f1_score(target, predicted, zero_division=1) for predicted, target in flat]),
            "dice_pooled": f1_score(target, predicted, zero_division=1),
            "iou_per_image": np.mean([jaccard_score(target, predicted, zero_division=1) for predicted, target in flat]),
            "iou_pooled": jaccard_score(target, predicted, zero_division=1),
            "accuracy": accuracy_score(target, predicted),
        }
    )


def test_chance_is_the_better_constant_prediction() -> None:
    # Two images of 10 pixels, whose targets have 4 and 0.
    scores, baselines = segmentation_scores(np.array([[4, 0, 0, 6], [0, 0, 0, 10]]), BOOTSTRAP)
    chance = {name: score.chance for name, score in scores.items()}
    # Every pixel: Dice 8/14 and 0, together 8/24. No pixel: 0 and 1, together 0; 16 of 20 pixels right.
    assert chance == pytest.approx(
        {"dice_per_image": 0.5, "dice_pooled": 8 / 24, "iou_per_image": 0.5, "iou_pooled": 4 / 20, "accuracy": 0.8},
        abs=1e-6,
    )
    assert baselines == {
        "dice_per_image": "no pixel",
        "dice_pooled": "every pixel",
        "iou_per_image": "no pixel",
        "iou_pooled": "every pixel",
        "accuracy": "no pixel",
    }


def test_intervals_resample_images() -> None:
    counts = np.array([[4, 0, 0, 6], [1, 9, 0, 0], [2, 2, 2, 4]])
    scores, _ = segmentation_scores(counts, BOOTSTRAP)
    drawn = np.random.default_rng(0).integers(3, size=(200, 3))
    slow = []
    for row in drawn:
        tp, fp, fn, _ = (sum(int(counts[n][kind]) for n in row) for kind in range(4))
        slow.append(2 * tp / (2 * tp + fp + fn))
    low, high = np.percentile(slow, [2.5, 97.5])
    assert (scores["dice_pooled"].low, scores["dice_pooled"].high) == pytest.approx((low, high), abs=1e-6)
    assert low < scores["dice_pooled"].value < high
    assert segmentation_scores(counts[:1], BOOTSTRAP)[0]["dice_pooled"].low is None
