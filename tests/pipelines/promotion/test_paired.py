"""Scores from item rows by hand, and the paired bootstrap against scipy's."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from pipelines.errors import UserError
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.kept import kept_difference
from pipelines.promotion.paired import Difference, check_metric, difference, value_of
from tests.pipelines.promotion.promotion_world import items

BOOTSTRAP = Bootstrap(samples=4000, seed=0)
RANDOM = np.random.default_rng(1)


def classes(scores: list[float], truth: list[int], label: str = "lump", source: str = "one") -> list:
    count = len(scores)
    return items("cosine_difference", scores, "zero_shot", truth=truth, label=[label] * count, source=[source] * count)


def test_values_by_hand() -> None:
    rows = items("i2t_rank", [1, 2, 6, 5]) + items("t2i_rank", [9, 9, 9, 9])
    assert value_of(rows, "i2t_recall@1") == 0.25
    assert value_of(rows, "i2t_recall@5") == 0.75
    assert value_of(rows, "t2i_recall@5") == 0
    assert value_of(items("rank", [3, 1], "region_retrieval"), "recall@2") == 0.5
    assert value_of(items("own/dice", [0.25, 0.5], "segmentation"), "own/dice_per_image") == 0.375
    assert value_of(items("pointing", [1, 0, 0, 0], "grounding"), "pointing") == 0.25
    # Two findings: of 2 x 1 pairs one is in order, of 1 x 2 pairs both are.
    rows = classes([0.1, 0.5, 0.3], [0, 0, 1]) + classes([0.9, 0.1, 0.1], [1, 0, 0], label="node")
    assert value_of(rows, "auc_macro") == pytest.approx((0.5 + 1) / 2)
    assert value_of(classes([0.1, 0.2], [1, 1]), "auc_macro") is None
    assert value_of(rows, "i2t_recall@1") is None


def test_the_interval_of_a_mean_difference_is_scipys() -> None:
    ours, theirs = RANDOM.normal(0.2, 1, 80), RANDOM.normal(0, 1, 80)
    theirs += ours
    found = difference(items("cnr_signed", list(ours)), items("cnr_signed", list(theirs)), "cnr_signed", BOOTSTRAP)
    assert found is not None
    reference = scipy.stats.bootstrap(
        (ours, theirs),
        lambda one, other, axis: (one - other).mean(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=20000,
        rng=0,
    ).confidence_interval
    # The standard error of a percentile of so many resamples is about 0.005.
    assert found.score.value == pytest.approx((ours - theirs).mean(), abs=1e-6)
    assert (found.score.low, found.score.high) == pytest.approx((reference.low, reference.high), abs=0.02)
    assert (found.items, found.left_out) == (80, 0)
    # Taken by themselves the two differ far less certainly.
    unpaired = scipy.stats.bootstrap(
        (ours, theirs),
        lambda one, other, axis: one.mean(axis=axis) - other.mean(axis=axis),
        method="percentile",
        n_resamples=2000,
        rng=0,
    ).confidence_interval
    assert unpaired.high - unpaired.low > 1.2 * (found.score.high - found.score.low)


def test_the_interval_of_an_auc_difference_is_scipys() -> None:
    truth = np.arange(60) % 3 == 0
    ours = truth + RANDOM.normal(0, 0.8, 60)
    theirs = truth + RANDOM.normal(0, 1.6, 60)
    found = difference(
        classes(list(ours), truth.astype(int).tolist()),
        classes(list(theirs), truth.astype(int).tolist()),
        "auc_macro",
        Bootstrap(samples=1000, seed=0),
    )
    assert found is not None
    reference = scipy.stats.bootstrap(
        (truth, ours, theirs),
        lambda right, one, other: roc_auc_score(right, one) - roc_auc_score(right, other),
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=400,
        rng=0,
    ).confidence_interval
    assert found.score.value == pytest.approx(roc_auc_score(truth, ours) - roc_auc_score(truth, theirs), abs=1e-6)
    assert (found.score.low, found.score.high) == pytest.approx((reference.low, reference.high), abs=0.05)


def test_sources_are_resampled_by_themselves() -> None:
    rows = items(
        "cosine_difference",
        [0, 1, 1, 0],
        "zero_shot",
        truth=[0, 1, 0, 1],
        label=["lump"] * 4,
        source=["one", "one", "two", "two"],
    )
    worse = [replace(row, value=0.0) for row in rows]
    found = difference(rows, worse, "auc_macro", BOOTSTRAP)
    assert found is not None
    # The mean of 1 and 0, less 0.5 of a method that tells nothing apart. Drawn from all four images, the two sources
    # would often come with other numbers of images.
    assert (found.score.value, found.items) == (0, 4)
    assert (found.score.low, found.score.high) == (-0.5, 0.5)


def test_equal_models_differ_by_nothing_and_items_of_one_alone_are_counted() -> None:
    rows = items("i2t_rank", [1, 4, 2, 8])
    found = difference(rows, rows[:3] + items("t2i_rank", [1]), "i2t_recall@1", BOOTSTRAP)
    assert found is not None
    assert (found.score.value, found.score.low, found.score.high) == (0, 0, 0)
    assert (found.items, found.left_out) == (3, 1)
    assert difference(rows, items("t2i_rank", [1]), "i2t_recall@1", BOOTSTRAP) is None


def test_equal_texts_are_one_observation_for_promotion_and_for_comparison_alike() -> None:
    """A text that stands for half of the images is found by ours alone; a resample may well be without it."""
    copies = [20, *[2] * 5, *[1] * 10]
    texts = [f"Text {number}{'.' * (place % 2)}" for number, count in enumerate(copies) for place in range(count)]
    ours, theirs = np.full(40, 30), RANDOM.integers(20, 40, len(copies)).repeat(copies)
    ours[:20] = 1
    rows = items("t2i_rank", list(ours), prompt=texts), items("t2i_rank", list(theirs), prompt=texts)
    groups, random = np.arange(len(copies)).repeat(copies), np.random.default_rng(3)
    statistics = {
        "t2i_recall@25": lambda drawn: np.mean(ours[drawn] <= 25) - np.mean(theirs[drawn] <= 25),
        "t2i_median_rank": lambda drawn: np.median(ours[drawn]) - np.median(theirs[drawn]),
    }
    reference: dict[str, list[float]] = {name: [] for name in statistics}
    for _ in range(4000):
        drawn = np.concatenate([np.flatnonzero(groups == text) for text in random.integers(len(copies), size=16)])
        for name, of in statistics.items():
            reference[name].append(of(drawn))
    for name, values in reference.items():
        found = kept_difference(*rows, name, BOOTSTRAP)
        assert found is not None
        assert found.score.value == pytest.approx(statistics[name](np.arange(40)), abs=1e-6)
        low, high = np.percentile(values, [2.5, 97.5])
        near = 0.03 if "recall" in name else 1
        assert (found.score.low, found.score.high) == pytest.approx((low, high), abs=near)
        assert found.items == 40
    assert difference(*rows, "t2i_recall@25", BOOTSTRAP) == kept_difference(*rows, "t2i_recall@25", BOOTSTRAP)
    # With images as queries each is one.
    images = [[replace(row, metric="i2t_rank", prompt=None) for row in of_model] for of_model in rows]
    alone = kept_difference(*images, "i2t_recall@25", BOOTSTRAP)
    assert alone is not None
    assert alone.score.low is not None
    assert alone.score.low > low_of(difference(*rows, "t2i_recall@25", BOOTSTRAP)) + 0.1


def low_of(found: Difference | None) -> float:
    assert found is not None
    assert found.score.low is not None
    return found.score.low


def test_the_same_seed_gives_the_same_interval() -> None:
    pair = items("i2t_rank", [1, 9, 1, 9]), items("i2t_rank", [1, 1, 9, 9])
    first, second, other = (difference(*pair, "i2t_recall@1", Bootstrap(samples=20, seed=seed)) for seed in (0, 0, 1))
    assert first == second != other


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("i2t_median_rank", r"less is better: choose from i2t_recall@1, own/dice_per_image$"),
        ("own/dice_pooled", r"no value for each item, so two models do not pair: choose from i2t_recall@1"),
        ("accuracy", "no value for each item"),
        ("published/accuracy", "of a head that has seen the test images, for comparison with print alone: choose from"),
    ],
)
def test_metrics_that_cannot_be_gates_are_refused_with_the_alternatives(metric: str, message: str) -> None:
    known = [
        "i2t_median_rank",
        "i2t_recall@1",
        "own/dice_pooled",
        "own/dice_per_image",
        "accuracy",
        "published/accuracy",
    ]
    rows = items("i2t_rank", [1]) + items("own/dice", [1]) + items("published/accuracy", [1])
    check_metric("i2t_recall@1", known, rows)
    with pytest.raises(UserError, match=f"promote.metric: {metric} cannot be a gate, for .*{message}"):
        check_metric(metric, known, rows)
