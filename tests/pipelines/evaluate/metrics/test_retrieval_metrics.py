"""Ranks, recall, chance and intervals against slow references and hand values."""

import itertools
import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.metrics import retrieval
from pipelines.evaluate.metrics.median_chance import median_rank_of_images, median_rank_of_texts
from pipelines.evaluate.metrics.retrieval import (
    chance_recall,
    first_is_nearest,
    ranks,
    retrieval_ranks,
    retrieval_scores,
)
from pipelines.evaluate.metrics.text_chance import chance_recall_of_texts

QUICK = Bootstrap(samples=200, seed=1)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def scores_of(images: np.ndarray, texts: np.ndarray, groups: np.ndarray, ks: list[int], bootstrap: Bootstrap) -> dict:
    return retrieval_scores(retrieval_ranks(images, texts, groups), groups, ks, bootstrap)


def slow_rank(similarity: np.ndarray, right: list[int]) -> int:
    best = max(similarity[j] for j in right)
    return 1 + sum(similarity[j] >= best - 1e-6 for j in range(len(similarity)) if j not in right)


def test_ranks_by_hand() -> None:
    # Cosines of query 0 to the candidates: 0, 1, 0.6. Its own is the third-best; with group 0 = {0, 2}, second-best.
    queries = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    candidates = np.array([[0, 1], [1, 0], [0.6, 0.8]], np.float32)
    own, groups = np.arange(3), np.array([0, 1, 0])
    found = ranks(queries, candidates, [(own, own), (groups, groups)])
    assert [of_grouping.tolist() for of_grouping in found] == [[3, 3, 2], [2, 3, 2]]


@pytest.mark.parametrize("block", [7, 1 << 22])
def test_ranks_equal_a_slow_count_whatever_the_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "_BLOCK", block)
    random = np.random.default_rng(0)
    queries, candidates = unit(random.normal(size=(40, 5))), unit(random.normal(size=(40, 5)))
    candidates[10:14] = candidates[3]
    groups = random.integers(0, 12, 40)
    expected = [
        slow_rank(candidates @ query, [j for j in range(40) if groups[j] == groups[i]])
        for i, query in enumerate(queries)
    ]
    assert ranks(queries, candidates, [(groups, groups)])[0].tolist() == expected


@pytest.mark.parametrize("block", [1, 1000, 137 * 7, 1 << 22])
@pytest.mark.parametrize("different", [1, 12, 137])
def test_ranks_equal_a_sort_of_whole_rows_with_ties_and_repeated_texts(
    different: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "_BLOCK", block)
    random = np.random.default_rng(different)
    # Whole numbers: many similarities are equal, and the others are far from it.
    images = random.integers(-2, 3, (137, 4)).astype(np.float32)
    groups = random.integers(0, different, 137)
    texts = random.integers(-2, 3, (different, 4)).astype(np.float32)[groups]
    found = retrieval_ranks(images, texts, groups)
    similarity = images @ texts.T
    for name, of_queries in (("i2t", similarity), ("t2i", similarity.T)):
        for variant, numbers in ((name, groups), (f"{name}_own", np.arange(137))):
            right = numbers[:, None] == numbers[None, :]
            # The highest first, of equal ones the wrong ones.
            order = np.lexsort((right, -of_queries), axis=1)
            assert found[variant].tolist() == (1 + np.take_along_axis(right, order, 1).argmax(axis=1)).tolist()


def test_memory_of_ranks_does_not_grow_with_the_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "_BLOCK", 1 << 14)
    peaks = []
    for count in (1_000, 4_000):
        images, texts = (np.random.default_rng(seed).normal(size=(count, 2)).astype(np.float32) for seed in (0, 1))
        tracemalloc.start()
        retrieval_ranks(images, texts, np.arange(count) // 2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 5 * peaks[0]
    # A byte for each pair would be 16 MB.
    assert peaks[1] < 2e6


def test_tied_candidates_rank_before_the_right_one_even_when_summed_in_another_order() -> None:
    same = unit(np.ones((6, 16)))
    noisy = same + np.linspace(0, 1e-7, 6, dtype=np.float32)[:, None]
    assert ranks(same, noisy, [(np.arange(6), np.arange(6))])[0].tolist() == [6] * 6


def test_ranks_of_candidates_without_a_row_of_their_own() -> None:
    # Query 0 is nearest to candidate 1; query 1 lies between 0 and 2, which tie.
    queries = np.array([[1, 0], [0, 1]], np.float32)
    candidates = np.array([[0.6, 0.8], [1, 0], [-0.6, 0.8]], np.float32)
    assert ranks(queries, candidates, [(np.array([0, 0]), np.arange(3))])[0].tolist() == [2, 2]
    random = np.random.default_rng(0)
    queries, candidates = random.normal(size=(30, 4)), random.normal(size=(9, 4))
    own = random.integers(0, 9, 30)
    similarity = queries @ candidates.T
    expected = [1 + sum(row > row[right]) for row, right in zip(similarity, own, strict=True)]
    assert ranks(queries, candidates, [(own, np.arange(9))])[0].tolist() == expected


def test_the_first_choice_is_nearest_by_hand_and_loses_ties() -> None:
    similarity = np.array([[0.5, 0.4, 0.3], [0.5, 0.6, 0.1], [0.5, 0.5, 0.1], [0.5, 0.5 - 1e-8, 0.1]])
    assert first_is_nearest(similarity).tolist() == [True, False, False, False]


@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4], [0, 0, 1, 2, 2], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]])
def test_chance_equals_all_orders_counted(groups: list[int]) -> None:
    pool = len(groups)
    relevant = np.array([groups.count(group) for group in groups])
    firsts = np.array(
        [
            1 + min(order.index(j) for j in range(pool) if groups[j] == groups[query])
            for query in range(pool)
            for order in itertools.permutations(range(pool))
        ]
    )
    for k in range(1, pool + 1):
        assert chance_recall(relevant, pool, k) == pytest.approx(np.mean(firsts <= k), abs=1e-12)


@pytest.mark.parametrize(
    "groups", [[0, 1, 2, 3, 4], [0, 0, 1, 2, 2], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [3, 0, 1, 0, 2, 0, 1]]
)
def test_chance_of_texts_equals_all_orders_of_the_different_ones_counted(groups: list[int]) -> None:
    copies = [groups.count(group) for group in groups]
    before = np.array(
        [
            [sum(groups.count(other) for other in order[: order.index(group)]) for group in groups]
            for order in itertools.permutations(sorted(set(groups)))
        ]
    )
    numbers = np.array(groups)
    for k in range(1, len(groups) + 1):
        chance, of_own = (chance_recall_of_texts(numbers, k, own=own) for own in (False, True))
        assert chance == pytest.approx(np.mean(before + 1 <= k), abs=1e-12)
        # The own copy is the last of the equal ones, as ties are counted.
        assert of_own == pytest.approx(np.mean(before + copies <= k), abs=1e-12)


def test_chance_of_many_equal_texts_is_what_guesses_give() -> None:
    groups = np.repeat(np.arange(60), np.random.default_rng(1).integers(1, 30, 60))
    random = np.random.default_rng(2)
    found = []
    for _ in range(40):
        images, texts = unit(random.normal(size=(len(groups), 8))), unit(random.normal(size=(60, 8)))[groups]
        found.append(np.mean(ranks(images, texts, [(groups, groups)])[0] <= 10))
    chance = chance_recall_of_texts(groups, 10)
    assert np.mean(found) == pytest.approx(chance, abs=3 * np.std(found) / 40**0.5)
    # A random order of the copies themselves has their text far more often among the first.
    assert chance_recall(np.bincount(groups)[groups], len(groups), 10) > 2 * chance


def guessed_medians(copies: list[int], guesses: int) -> dict[str, np.ndarray]:
    """Metric -> (guesses,) its value, with an order of the texts drawn for each image, of the images for each text."""
    random, groups = np.random.default_rng(7), np.repeat(np.arange(len(copies)), copies)
    found: dict[str, list[float]] = {name: [] for name in ("i2t", "i2t_own", "t2i", "t2i_own")}
    for _ in range(guesses):
        ranks_of: dict[str, list[int]] = {name: [] for name in found}
        for group in groups:
            order = random.permutation(len(copies)).tolist()
            before = sum(copies[other] for other in order[: order.index(group)])
            ranks_of["i2t"].append(before + 1)
            ranks_of["i2t_own"].append(before + copies[group])
        for group in range(len(copies)):
            places = np.flatnonzero(groups[random.permutation(len(groups))] == group) + 1
            ranks_of["t2i"] += [int(places.min())] * copies[group]
            ranks_of["t2i_own"] += places.tolist()
        for name, of_guess in ranks_of.items():
            found[name].append(float(np.median(of_guess)))
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize(
    "copies", [[60, 30, 5, 5], [40, *[1] * 40], [20, 20, 20, *[1] * 30], [10] * 6, [3, 2, 2, 1, 1]]
)
def test_chance_of_a_median_rank_is_the_mean_of_what_guesses_give(copies: list[int]) -> None:
    groups, guesses = np.repeat(np.arange(len(copies)), copies), 300
    embedding = np.eye(len(groups), dtype=np.float32)
    scores = scores_of(embedding, embedding, groups, [1], QUICK)
    for name, medians in guessed_medians(copies, guesses).items():
        # Four standard errors of the reference, and one thousandth of the pool for the simulation.
        error = 4 * medians.std() / guesses**0.5 + len(groups) / 1000
        assert scores[f"{name}_median_rank"].chance == pytest.approx(medians.mean(), abs=error), name


def test_chance_of_a_median_rank_where_one_text_stands_for_half_of_the_images() -> None:
    groups = np.r_[np.zeros(500, int), np.arange(1, 501)]
    # A fraction x of the other texts are before the frequent one's images for x of them. Of the others, which have the
    # frequent text before them with probability x, as many as x - x^2 / 2 are among the first 500 x. Together half of
    # all at x = 2 - sqrt(2); the median of each text's own median is 375.
    assert median_rank_of_texts(groups) == pytest.approx(500 * (2 - 2**0.5), abs=3)


def test_chance_with_one_right_candidate_is_k_over_n() -> None:
    assert chance_recall(np.ones(200, int), 200, 5) == pytest.approx(5 / 200)
    # The two in the middle of 200 ranks that are as likely each.
    assert median_rank_of_texts(np.arange(200)) == median_rank_of_images(np.arange(200)) == 100.5


def test_perfect_embeddings_and_their_negatives() -> None:
    vectors = np.eye(20, dtype=np.float32)
    perfect = scores_of(vectors, vectors, np.arange(20), [1, 5], QUICK)
    assert asdict(perfect["i2t_recall@1"]) == {"value": 1.0, "low": 1.0, "high": 1.0, "chance": 0.05, "baselines": {}}
    assert asdict(perfect["t2i_own_recall@5"]) == {
        "value": 1.0,
        "low": 1.0,
        "high": 1.0,
        "chance": 0.25,
        "baselines": {},
    }
    assert perfect["i2t_median_rank"].value == 1
    worst = scores_of(vectors, -vectors, np.arange(20), [1, 5], QUICK)
    assert worst["i2t_recall@5"].value == 0
    assert worst["t2i_median_rank"].value == 20


@pytest.mark.parametrize("groups", [np.arange(30), np.arange(30) // 3])
def test_a_collapsed_method_scores_no_better_than_chance(groups: np.ndarray) -> None:
    same = unit(np.ones((30, 4)))
    for name, score in scores_of(same, same, groups, [1, 5, 10], QUICK).items():
        if "recall" in name:
            assert score.value <= score.chance, name
        else:
            assert score.value >= score.chance, name


def test_random_embeddings_score_like_chance() -> None:
    random = np.random.default_rng(3)
    images, texts = unit(random.normal(size=(600, 16))), unit(random.normal(size=(600, 16)))
    groups = random.integers(0, 150, 600)
    metrics = scores_of(images, texts, groups, [10], QUICK)
    # Texts of one group are the same text to an encoder.
    texts = texts[np.unique(groups, return_index=True)[1]][np.unique(groups, return_inverse=True)[1]]
    metrics = scores_of(images, texts, groups, [10], QUICK)
    assert metrics["t2i_recall@10"].value == pytest.approx(metrics["t2i_recall@10"].chance, abs=0.05)
    for name in ("i2t_recall@10", "i2t_own_recall@10"):
        assert metrics[name].value == pytest.approx(metrics[name].chance, abs=0.02)


def test_equal_texts_as_queries_are_one_observation() -> None:
    """As in QaTa-COV19: one of 128 texts stands for 316 of 1,099 images, and it alone is found."""
    copies = np.array([316, *[6] * 106, *[7] * 21])
    assert (len(copies), copies.sum()) == (128, 1099)
    groups = np.repeat(np.arange(len(copies)), copies)
    found = np.where(groups == 0, 1, 900)
    rank_of = {"t2i": found, "t2i_own": found, "i2t": found}
    scores = retrieval_scores(rank_of, groups, [1], Bootstrap(samples=1000, seed=0))
    random = np.random.default_rng(1)
    fractions, medians = [], []
    for _ in range(2000):
        drawn = random.integers(len(copies), size=len(copies))
        of_resample = np.concatenate([found[groups == text] for text in drawn])
        fractions.append(np.mean(of_resample <= 1))
        medians.append(np.median(of_resample))
    low, high = np.percentile(fractions, [2.5, 97.5])
    for name in ("t2i", "t2i_own"):
        score = scores[f"{name}_recall@1"]
        assert (score.value, score.low) == (pytest.approx(316 / 1099, abs=1e-6), 0)
        assert low == 0
        # The text is drawn three times or four, which differ by 0.07.
        assert score.high == pytest.approx(high, abs=0.08)
        median = scores[f"{name}_median_rank"]
        assert [median.low, median.high] == np.percentile(medians, [2.5, 97.5]).tolist() == [1, 900]
    # Each image is another query.
    of_images = scores["i2t_recall@1"]
    assert of_images.low == pytest.approx(0.2875 - 1.96 * (0.2875 * 0.7125 / 1099) ** 0.5, abs=0.004)
    assert scores["i2t_median_rank"].low == 900


def test_where_no_text_repeats_both_directions_are_resampled_alike() -> None:
    found = np.random.default_rng(0).integers(1, 60, 60)
    scores = retrieval_scores({"t2i": found, "i2t": found}, np.arange(60), [5], QUICK)
    assert scores["t2i_recall@5"] == scores["i2t_recall@5"]
    assert scores["t2i_median_rank"] == scores["i2t_median_rank"]


def test_one_text_for_all_images_has_no_interval() -> None:
    scores = retrieval_scores({"t2i": np.ones(9), "i2t": np.ones(9)}, np.zeros(9, int), [1], QUICK)
    assert (scores["t2i_recall@1"].low, scores["t2i_median_rank"].high) == (None, None)
    assert scores["i2t_recall@1"].low == 1


def test_intervals_hold_the_binomial_error_and_follow_the_seed() -> None:
    random = np.random.default_rng(5)
    images = unit(random.normal(size=(400, 8)))
    texts = unit(images + 0.6 * unit(random.normal(size=(400, 8))))
    first, again, other = (
        scores_of(images, texts, np.arange(400), [1], Bootstrap(samples=2000, seed=seed))["i2t_recall@1"]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    error = 1.96 * np.sqrt(first.value * (1 - first.value) / 400)
    assert first.low == pytest.approx(first.value - error, abs=0.01)
    assert first.high == pytest.approx(first.value + error, abs=0.01)
