"""Close hashes by tables and by blocks, against all distances worked out another way."""

import math
from collections import Counter

import numpy as np
import pytest

from pipelines.split.close_hashes import (
    EXHAUSTIVE,
    MISSED,
    SearchPlan,
    agreement,
    choose_plan,
    close_pairs,
    tables_needed,
)
from pipelines.split.pairs import LISTED, FoundPairs

RADIUS = 48
BLOCKS = SearchPlan(bits=0, tables=1)
TABLES = SearchPlan(bits=10, tables=tables_needed(10, RADIUS))
BOTH = pytest.mark.parametrize("plan", [BLOCKS, TABLES], ids=["blocks", "tables"])


def random_words(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, size=(count, 4), dtype=np.uint64)


def flipped(word: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """A hash with the bits at some positions turned."""
    bits = np.unpackbits(word.view(np.uint8))
    bits[positions] ^= 1
    return np.packbits(bits).view(np.uint64)


def found(words: np.ndarray, plan: SearchPlan, max_distance: int = RADIUS) -> dict[tuple[int, int], int]:
    pairs = FoundPairs(len(words))
    result: dict[tuple[int, int], int] = {}
    for left, right, distance in close_pairs(words, max_distance, plan, pairs):
        pairs.add(left, right, distance, np.ones(len(left)))
        new = dict(zip(zip(left.tolist(), right.tolist(), strict=True), distance.tolist(), strict=True))
        assert len(new) == len(left)
        assert not result.keys() & new.keys()
        result |= new
    assert all(i < j for i, j in result)
    return result


def every_distance(words: np.ndarray, max_distance: int = RADIUS) -> dict[tuple[int, int], int]:
    """All close pairs by one product of matrices: |a - b| = |a| + |b| - 2 ab for bits."""
    bits = np.unpackbits(words.view(np.uint8), axis=1).astype(np.float32)
    ones = bits.sum(axis=1)
    distance = (ones[:, None] + ones - 2 * bits @ bits.T).astype(int)
    i, j = np.nonzero(np.triu(distance <= max_distance, 1))
    return dict(zip(zip(i.tolist(), j.tolist(), strict=True), distance[i, j].tolist(), strict=True))


def components(count: int, pairs: dict[tuple[int, int], int]) -> set[frozenset[int]]:
    """Groups by repeated naming after the smallest neighbour."""
    ends = np.array(list(pairs), dtype=int).reshape(-1, 2)
    names = np.arange(count)
    while True:
        before = names.copy()
        np.minimum.at(names, ends[:, 0], before[ends[:, 1]])
        np.minimum.at(names, ends[:, 1], before[ends[:, 0]])
        if (names == before).all():
            return {frozenset(np.flatnonzero(names == name).tolist()) for name in np.unique(names)}


@BOTH
def test_neighbours_at_every_distance_are_found_and_none_beyond(plan: SearchPlan) -> None:
    """Planted: 12 at each of 0 to 49 bits, so that some of 3,000 hashes have several."""
    rng = np.random.default_rng(1)
    words = random_words(3600)
    for copy in range(600):
        words[3000 + copy] = flipped(words[rng.integers(3000)], rng.choice(256, copy // 12, replace=False))
    words = words[rng.permutation(len(words))]
    expected = every_distance(words)
    assert found(words, plan) == expected
    assert set(expected.values()) >= set(range(RADIUS + 1))
    beyond = every_distance(words, RADIUS + 1)
    assert 12 <= len(beyond) - len(expected) <= 30


@BOTH
def test_hashes_that_share_many_bits_are_told_apart(plan: SearchPlan) -> None:
    """As radiographs: half of the bits are alike in all, so that buckets are large and thousands of pairs are close."""
    words = random_words(1500, seed=2)
    words[:, :2] = words[0, :2]
    expected = every_distance(words)
    assert len(expected) > 3000
    assert max(Counter(end for pair in expected for end in pair).values()) < LISTED
    assert found(words, plan) == expected


@BOTH
@pytest.mark.parametrize("count", [1, 2, 70, 4000])
def test_equal_hashes_are_all_joined_by_few_pairs(plan: SearchPlan, count: int) -> None:
    words = np.repeat(random_words(1), count, axis=0)
    result = found(words, plan)
    assert components(count, result) == {frozenset(range(count))}
    assert set(result.values()) <= {0}
    listed = Counter(end for pair in result for end in pair)
    assert all(listed[image] >= min(LISTED, count - 1) for image in range(count))
    assert len(result) <= count * 2 * LISTED


@BOTH
def test_distinct_hashes_have_no_pair(plan: SearchPlan) -> None:
    assert found(random_words(3000), plan) == {}


@BOTH
def test_who_is_near_to_one_of_a_crowd_alone_is_found(plan: SearchPlan) -> None:
    """Two crowds of like images, and 21 strangers, each of whom is near to one member."""
    rng = np.random.default_rng(3)
    centres = random_words(2, seed=3)
    crowds = [flipped(centre, rng.choice(256, 20, replace=False)) for centre in centres for _ in range(300)]
    strangers, expected = [], {}
    for number, member in enumerate(rng.choice(600, 21, replace=False).tolist()):
        alike = np.flatnonzero(np.unpackbits((crowds[member] ^ centres[member // 300]).view(np.uint8)) == 0)
        strangers.append(flipped(crowds[member], rng.choice(alike, 44, replace=False)))
        expected[member, 600 + number] = 44
    words = np.array([*crowds, *strangers])
    near = every_distance(words)
    assert {pair: distance for pair, distance in near.items() if pair[1] >= 600} == expected
    result = found(words, plan)
    assert expected.items() <= result.items() <= near.items()
    assert components(len(words), result) == components(len(words), near)
    assert len(result) < len(words) * 2 * LISTED < len(near)


@BOTH
@pytest.mark.parametrize(("radius", "groups"), [(40, 1), (39, 12)])
def test_crowds_in_a_row_are_one_group_where_neighbours_are_close(plan: SearchPlan, radius: int, groups: int) -> None:
    """Twelve crowds of 90 equal hashes, each 40 bits from the one before it."""
    rng = np.random.default_rng(4)
    centres = [random_words(1, seed=4)[0]]
    for _ in range(11):
        centres.append(flipped(centres[-1], rng.choice(256, 40, replace=False)))
    words = np.repeat(np.array(centres), 90, axis=0)[rng.permutation(12 * 90)]
    near = every_distance(words, radius)
    joined = components(len(words), found(words, plan, radius))
    assert len(joined) == groups
    assert joined == components(len(words), near)


def test_agreement_by_hand() -> None:
    assert agreement(0, 17) == 1
    assert agreement(128, 1) == 0.5
    assert agreement(48, 2) == pytest.approx(208 / 256 * 207 / 255)
    assert agreement(254, 2) == pytest.approx(1 / (256 * 255 / 2))
    assert agreement(240, 17) == 0


@pytest.mark.parametrize(("bits", "radius"), [(4, 48), (10, 48), (20, 48), (20, 10), (1, 255)])
def test_one_table_less_would_miss_more_than_is_allowed(bits: int, radius: int) -> None:
    missed = 1 - math.comb(256 - radius, bits) / math.comb(256, bits)
    assert missed ** tables_needed(bits, radius) <= MISSED < missed ** (tables_needed(bits, radius) - 1)


def test_few_tables_find_the_share_that_the_formula_says() -> None:
    """1,000 pairs at 48 bits: half of them are found by five tables of 10 bits (0.48, standard error 0.016)."""
    rng = np.random.default_rng(5)
    words = random_words(2000, seed=5)
    for pair in range(1000):
        words[1000 + pair] = flipped(words[pair], rng.choice(256, RADIUS, replace=False))
    share = len(found(words, SearchPlan(bits=10, tables=5))) / 1000
    assert share == pytest.approx(1 - (1 - agreement(RADIUS, 10)) ** 5, abs=0.06)


def test_many_hashes_are_sorted_into_buckets_unless_nearly_all_are_close() -> None:
    assert choose_plan(random_words(EXHAUSTIVE), RADIUS) == BLOCKS
    words = random_words(EXHAUSTIVE + 1)
    plan = choose_plan(words, RADIUS)
    assert plan.bits >= 10
    assert plan.tables == tables_needed(plan.bits, RADIUS)
    assert choose_plan(words, 0).tables == 1
    assert choose_plan(words, 200) == choose_plan(words, 256) == BLOCKS
