"""Pairs of perceptual hashes that differ in few bits: all of them compared, or, of many images, those that share bits.

Up to `EXHAUSTIVE` images every hash is compared with every other one, in blocks. Beyond, the hashes are sorted into
buckets by some of their bits, drawn at random without regard to the data, and compared within a bucket; and again by
other bits, table after table (bit sampling: Indyk and Motwani, "Approximate nearest neighbors: towards removing the
curse of dimensionality", STOC 1998). Two hashes that differ in d of 256 bits agree in k drawn ones with the probability
C(256 - d, k) / C(256, k), so there are tables enough to miss a pair at the largest distance with a probability of
`MISSED` at most; a nearer one is missed far more rarely. The number of images decides how many bits are cheapest, and
the work grows with about its power 1.4.

Exact ways do not get below the square at 48 bits of 256. Multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012; in
faiss IndexBinaryMultiHash) looks up each of 16 pieces of 16 bits with up to 2 of them flipped: 2,192 look-ups an image,
which compare it with 12 % of the others in QaTa-COV19 (900 images) and with 23 % in Kvasir-SEG (560), for images of one
kind share most of their coarse bits.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from pipelines.split.pairs import FoundPairs
from pipelines.stage import progress

BITS = 256
EXHAUSTIVE = 20_000  # images of which all pairs are compared: seconds
MISSED = 1e-6

ROWS, COLUMNS = 128, 4096  # hashes a block: 4 MiB of differing words
AT_ONCE = 2**13  # pairs of a table that are compared at once: 512 KiB, which caches hold
CANDIDATES = 4096  # pairs that the caller gets at once; its thumbnails of them take 64 MiB
LARGE = 64  # hashes of a bucket from which on it is compared in blocks

_MOST_BITS = 32  # of a key, so that key and index share a word of 64
_SAMPLE = 2**16  # pairs from which it is estimated how many share a bucket
_MOST_CLOSE = 0.1  # the part of them from which on nothing is gained by buckets
# What one image costs in a table, and one pair of a bucket, in units of one pair of a block.
_SORTING, _LOOKING = 12, 5

Close = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """How hashes are compared.

    Attributes:
        bits: What hashes of one bucket share, 0 to 32; 0: all are in one bucket, and every pair is compared.
        tables: How often they are sorted into buckets, each time by other bits.
    """

    bits: int
    tables: int


def choose_plan(words: NDArray[np.uint64], max_distance: int) -> SearchPlan:
    """The cheapest way to find the close pairs; by a sample of pairs, for hashes of like images share many bits.

    Args:
        words: n x 4 words of 64 bits.
        max_distance: 0 to 256.
    """
    count = len(words)
    best = SearchPlan(bits=0, tables=1)
    if count <= EXHAUSTIVE:
        return best
    left, right = np.random.default_rng(0).integers(0, count, (2, _SAMPLE))
    sampled = np.bincount(_distances(words, left, right), minlength=BITS + 1)
    if sampled[: max_distance + 1].sum() > _MOST_CLOSE * _SAMPLE:
        return best
    sampled[: max_distance + 1] = 0  # Close pairs of a crowd are settled by the first tables.
    pairs = count * (count - 1) / 2
    least = pairs
    for bits in range(1, min(_MOST_BITS, BITS - max_distance) + 1):
        tables = tables_needed(bits, max_distance)
        shared = sum(number * agreement(distance, bits) for distance, number in enumerate(sampled.tolist()) if number)
        cost = tables * (_SORTING * count + _LOOKING * pairs * shared / _SAMPLE)
        if cost < least:
            best, least = SearchPlan(bits=bits, tables=tables), cost
    return best


def agreement(distance: int, bits: int) -> float:
    """The probability, 0 to 1, that two hashes agree in `bits` drawn ones if they differ in `distance`."""
    return math.comb(BITS - distance, bits) / math.comb(BITS, bits)


def tables_needed(bits: int, max_distance: int) -> int:
    """How many tables miss a pair at the largest distance with a probability of `MISSED` at most.

    Args:
        bits: What each table draws, 1 to 256 - `max_distance`.
        max_distance: 0 to 255.
    """
    found = agreement(max_distance, bits)
    return 1 if found == 1 else math.ceil(math.log(MISSED) / math.log1p(-found))


def close_pairs(words: NDArray[np.uint64], max_distance: int, plan: SearchPlan, pairs: FoundPairs) -> Iterator[Close]:
    """Pairs of hashes that differ in at most `max_distance` bits, each once.

    Args:
        words: n x 4 words of 64 bits.
        max_distance: 0 to 256.
        plan: How they are compared.
        pairs: What the caller has found so far, among these; a pair that is settled there may be left out.

    Yields:
        Rows i, rows j (i < j) and Hamming distances, at most `CANDIDATES` at once.
    """
    count = len(words)
    if not plan.bits:
        steps = progress(range(0, count, ROWS), "split: comparing hashes (blocks)")
        yield from _unsettled(_compare_all(words, np.arange(count), max_distance, pairs, steps), pairs)
        return
    by_word = np.ascontiguousarray(words.T)
    random = Random(0)
    known = np.empty(0, dtype=np.int64)
    for _ in progress(range(plan.tables), "split: comparing hashes (tables)"):
        order, sizes = _buckets(by_word, random.sample(range(BITS), plan.bits))
        found = [known]
        for left, right, distance in _unsettled(_compare_buckets(words, order, sizes, max_distance, pairs), pairs):
            # One table has a pair once, but those before it may have had it too.
            names = left * count + right
            new = ~_among(names, known)
            if new.any():
                found.append(names[new])
                yield left[new], right[new], distance[new]
        if len(found) > 1:
            known = np.sort(np.concatenate(found), kind="stable")


def _buckets(by_word: NDArray[np.uint64], positions: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows sorted by some bits of their hashes (of equal ones by row), and the lengths of the runs that share them."""
    count = by_word.shape[1]
    key = np.zeros(count, dtype=np.uint64)
    for position in positions:
        key <<= np.uint64(1)
        key |= (by_word[position // 64] >> np.uint64(position % 64)) & np.uint64(1)
    width = np.uint64(count.bit_length())
    key = (key << width) | np.arange(count, dtype=np.uint64)
    key.sort()
    order = (key & np.uint64((1 << int(width)) - 1)).astype(np.int64)
    key >>= width
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    return order, np.diff(starts, append=count)


def _compare_buckets(
    words: NDArray[np.uint64],
    order: NDArray[np.int64],
    sizes: NDArray[np.int64],
    max_distance: int,
    pairs: FoundPairs,
) -> Iterator[Close]:
    """The close pairs within each bucket."""
    ends = np.cumsum(sizes)
    for end, size in zip(ends[sizes > LARGE], sizes[sizes > LARGE], strict=True):
        yield from _compare_all(words, order[end - size : end], max_distance, pairs, range(0, size, ROWS))
    # All small buckets at once: each hash with the next one of its bucket, then with the next but one, and so on.
    followers = np.repeat(np.where(sizes > LARGE, 0, ends), sizes) - np.arange(len(order)) - 1
    places = np.flatnonzero(followers > 0)
    for step in range(1, LARGE):
        places = places[followers[places] >= step]
        for start in range(0, len(places), AT_ONCE):
            part = places[start : start + AT_ONCE]
            left, right = order[part], order[part + step]
            distance = _distances(words, left, right)
            near = distance <= max_distance
            if near.any():
                left, right = left[near], right[near]
                yield np.minimum(left, right), np.maximum(left, right), distance[near].astype(np.int64)


def _compare_all(
    words: NDArray[np.uint64], members: NDArray[np.int64], max_distance: int, pairs: FoundPairs, steps: Iterable[int]
) -> Iterator[Close]:
    """The close pairs among some rows, `ROWS` of them with all that remain at each step, until the rest is settled."""
    remaining = members
    for _ in steps:
        unsettled = pairs.unsettled(remaining)
        if not unsettled.any():
            return
        unsettled[np.flatnonzero(unsettled)[ROWS:]] = False
        rows = remaining[unsettled]
        remaining = np.concatenate([rows, remaining[~unsettled]])
        by_word = np.ascontiguousarray(words[rows].T)
        for start in range(0, len(remaining), COLUMNS):
            columns = remaining[start : start + COLUMNS]
            # uint16, for the distance of two opposite hashes, 256, would wrap round to 0 in the counts' own uint8.
            distance = np.zeros((len(rows), len(columns)), dtype=np.uint16)
            for of_rows, of_columns in zip(by_word, np.ascontiguousarray(words[columns].T), strict=True):
                distance += np.bitwise_count(of_rows[:, None] ^ of_columns)
            i, j = np.nonzero(distance <= max_distance)
            later = i < j + start  # The rows are the first columns.
            i, j = i[later], j[later]
            if len(i):
                left, right = rows[i], columns[j]
                yield np.minimum(left, right), np.maximum(left, right), distance[i, j].astype(np.int64)
        remaining = remaining[len(rows) :]


def _unsettled(found: Iterable[Close], pairs: FoundPairs) -> Iterator[Close]:
    """What is not settled of some blocks, at most `CANDIDATES` at once: the caller settles pairs between two."""
    for columns in found:
        for start in range(0, len(columns[0]), CANDIDATES):
            left, right, distance = (column[start : start + CANDIDATES] for column in columns)
            needed = ~pairs.settled(left, right)
            if needed.any():
                yield left[needed], right[needed], distance[needed]


def _among(values: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which values occur in `known`, which is sorted."""
    places = np.searchsorted(known, values)
    inside = places < len(known)
    inside[inside] = known[places[inside]] == values[inside]
    return inside


def _distances(words: NDArray[np.uint64], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Differing bits of each row that `left` names and the one that `right` does."""
    counts = np.bitwise_count(words.take(left, axis=0) ^ words.take(right, axis=0))
    # Added column by column, which numpy does seven times faster than along rows of four.
    return counts.T.astype(np.uint16, order="C").sum(axis=0, dtype=np.uint16)
