"""Precision at k, its chance and its majority baseline, against counts, all orders and scikit-learn."""

import itertools
import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import precision_score

from pipelines.evaluate.metrics import precision
from pipelines.evaluate.metrics.precision import (
    chance_precision,
    chance_precision_of_texts,
    majority_precision,
    precisions,
)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def at_angles(*degrees: float) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_by_hand() -> None:
    # The first query sees the candidates in the order 0, 1, 2, 3, the last in the order 3, 2, 1, 0.
    queries, candidates = at_angles(0, 25, 65, 90), at_angles(0, 30, 60, 90)
    labels = np.array([0, 1, 0, 1])
    found = precisions(queries, candidates, labels, [1, 2, 3, 4], exclude_own=False)
    # Orders: 0 1 2 3 (right: yes no yes no), 1 0 2 3 (yes no no yes), 2 3 1 0 (yes no no yes), 3 2 1 0 (yes no yes no).
    np.testing.assert_allclose(found[0], [1, 1, 1, 1])
    np.testing.assert_allclose(found[1], [1 / 2] * 4)
    np.testing.assert_allclose(found[2], [2 / 3, 1 / 3, 1 / 3, 2 / 3])
    np.testing.assert_allclose(found[3], [1 / 2] * 4)
    # Without its own: 1 2 3 (no yes no), 0 2 3 (no no yes), 3 1 0 (no no yes), 2 1 0 (no yes no).
    without = precisions(queries, candidates, labels, [1, 2, 3], exclude_own=True)
    np.testing.assert_allclose(without, [[0] * 4, [1 / 2, 0, 0, 1 / 2], [1 / 3] * 4])


@pytest.mark.parametrize("exclude_own", [False, True])
@pytest.mark.parametrize("block", [1, 137 * 7, 1 << 22])
def test_equals_a_sort_of_whole_rows_with_ties_and_repeated_texts(
    block: int, exclude_own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_BLOCK", block)
    random = np.random.default_rng(3)
    # Whole numbers: many similarities are equal, and the others are far from it.
    queries, candidates = (random.integers(-2, 3, (137, 4)).astype(np.float32) for _ in range(2))
    labels = random.integers(0, 9, 137)
    ks = [1, 5, 136, 30]
    found = precisions(queries, candidates, labels, ks, exclude_own=exclude_own)
    similarity = queries @ candidates.T
    right = labels[:, None] == labels[None, :]
    if exclude_own:
        np.fill_diagonal(similarity, -np.inf)
    # The highest first, of equal ones the wrong ones.
    order = np.lexsort((right, -similarity), axis=1)
    ranked = np.take_along_axis(right, order, 1)
    np.testing.assert_allclose(found, [ranked[:, :k].mean(axis=1) for k in ks], atol=1e-12)


def test_agrees_with_scikit_learn_where_the_first_k_are_what_is_predicted() -> None:
    random = np.random.default_rng(4)
    queries, candidates = unit(random.normal(size=(60, 6))), unit(random.normal(size=(60, 6)))
    labels = random.integers(0, 4, 60)
    found = precisions(queries, candidates, labels, [7], exclude_own=False)[0]
    for query, value in enumerate(found):
        first = np.argsort(-(candidates @ queries[query]))[:7]
        predicted = np.isin(np.arange(60), first)
        assert value == pytest.approx(precision_score(labels == labels[query], predicted))


def test_the_order_of_pairs_and_a_rotation_of_all_vectors_change_nothing() -> None:
    random = np.random.default_rng(5)
    queries, candidates = unit(random.normal(size=(50, 8))), unit(random.normal(size=(50, 8)))
    labels = random.integers(0, 5, 50)
    found = precisions(queries, candidates, labels, [1, 10], exclude_own=True)
    order = random.permutation(50)
    moved = precisions(queries[order], candidates[order], 7 - labels[order], [1, 10], exclude_own=True)
    np.testing.assert_array_equal(moved, found[:, order])
    rotation = np.linalg.qr(random.normal(size=(8, 8)))[0].astype(np.float32)
    turned = precisions(queries @ rotation, candidates @ rotation, labels, [1, 10], exclude_own=True)
    np.testing.assert_array_equal(turned, found)


@pytest.mark.parametrize("exclude_own", [False, True])
def test_a_collapsed_method_gains_nothing_by_ties(exclude_own: bool) -> None:
    same = unit(np.ones((40, 16)))
    noisy = same + np.linspace(0, 1e-7, 40, dtype=np.float32)[:, None]
    labels = np.arange(40) % 4
    # 30 wrong candidates stand before the first right one.
    assert (precisions(same, noisy, labels, [1, 10, 30], exclude_own=exclude_own) == 0).all()


@pytest.mark.parametrize("exclude_own", [False, True])
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2], [0, 0, 0, 1, 1], [0, 1, 2, 3, 4], [0, 0, 0, 0, 0]])
def test_chance_and_majority_equal_all_orders_counted(labels: list[int], exclude_own: bool) -> None:
    count = len(labels)
    sizes = {label: labels.count(label) for label in set(labels)}
    by_size = [
        [row for label in order for row in range(count) if labels[row] == label]
        for order in itertools.permutations(sizes)
        if [sizes[label] for label in order] == sorted(sizes.values(), reverse=True)
    ]
    for k in range(1, count - exclude_own + 1):

        def mean_over(orders: list, query: int, k: int = k) -> float:
            kept = [[row for row in order if not (exclude_own and row == query)][:k] for order in orders]
            return float(np.mean([np.mean([labels[row] == labels[query] for row in order]) for order in kept]))

        every = list(itertools.permutations(range(count)))
        chance = chance_precision(np.array(labels), exclude_own=exclude_own)
        np.testing.assert_allclose(chance, [mean_over(every, query) for query in range(count)], atol=1e-12)
        majority = majority_precision(np.array(labels), k, exclude_own=exclude_own)
        np.testing.assert_allclose(majority, [mean_over(by_size, query) for query in range(count)], atol=1e-12)


@pytest.mark.parametrize("exclude_own", [False, True])
@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        ([0, 0, 1, 1, 2], [0, 0, 1, 1, 2]),
        # Copies of one text with several labels: the wrong ones stand first.
        ([0, 1, 0, 1, 2], [7, 7, 7, 3, 5]),
        ([0, 1, 0, 0, 1], [0, 0, 1, 1, 1]),
        ([0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 2, 2]),
        ([0, 1, 0, 1], [4, 4, 4, 4]),
        ([0, 0, 1, 1], [0, 1, 2, 3]),
    ],
)
def test_chance_among_texts_equals_all_orders_of_the_different_ones_counted(
    labels: list[int], groups: list[int], exclude_own: bool
) -> None:
    count = len(labels)

    def first(order: tuple[int, ...], query: int, k: int) -> list[int]:
        rows = [
            row
            for text in order
            for row in sorted(range(count), key=lambda row: labels[row] == labels[query])
            if groups[row] == text and not (exclude_own and row == query)
        ]
        return rows[:k]

    orders = list(itertools.permutations(set(groups)))
    for k in range(1, count - exclude_own + 1):
        expected = [
            np.mean([[labels[row] == labels[query] for row in first(order, query, k)] for order in orders])
            for query in range(count)
        ]
        found = chance_precision_of_texts(np.array(labels), np.array(groups), k, exclude_own=exclude_own)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        if len(set(groups)) == count:
            np.testing.assert_allclose(found, chance_precision(np.array(labels), exclude_own=exclude_own), atol=1e-12)


@pytest.mark.parametrize("exclude_own", [False, True])
def test_one_text_for_half_of_the_images_is_found_seldom_and_then_fills_all_places(exclude_own: bool) -> None:
    # 60 copies of a text with label 0 beside 60 texts with label 1, by what random vectors score.
    labels, groups = np.repeat([0, 1], 60), np.concatenate([np.zeros(60, int), np.arange(1, 61)])
    random = np.random.default_rng(8)
    found = np.zeros(120)
    for _ in range(60):
        texts = unit(random.normal(size=(61, 16)))[groups]
        found += precisions(unit(random.normal(size=(120, 16))), texts, labels, [5], exclude_own=exclude_own)[0] / 60
    chance = chance_precision_of_texts(labels, groups, 5, exclude_own=exclude_own)
    assert chance[:60].mean() < 0.06
    assert chance[60:].mean() > 0.9
    assert [found[:60].mean(), found[60:].mean()] == pytest.approx([chance[:60].mean(), chance[60:].mean()], abs=0.02)


def test_random_vectors_score_like_chance() -> None:
    random = np.random.default_rng(6)
    queries, candidates = unit(random.normal(size=(800, 16))), unit(random.normal(size=(800, 16)))
    labels = random.integers(0, 5, 800)
    found = precisions(queries, candidates, labels, [10], exclude_own=True)[0].mean()
    assert found == pytest.approx(chance_precision(labels, exclude_own=True).mean(), abs=0.02)


def test_memory_does_not_grow_with_the_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_BLOCK", 1 << 14)
    peaks = []
    for count in (1_000, 4_000):
        images, texts = (np.random.default_rng(seed).normal(size=(count, 2)).astype(np.float32) for seed in (0, 1))
        tracemalloc.start()
        precisions(images, texts, np.arange(count) % 7, [1, 10], exclude_own=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 5 * peaks[0]
    # A byte for each pair would be 16 MB.
    assert peaks[1] < 2e6
