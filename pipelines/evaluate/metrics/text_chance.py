"""What a random order of texts gives where several images have the same text.

Equal texts have one embedding, and stand beside each other in every order that an encoder can give: what a guess puts
in a random order are the different texts, each with all of its copies.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import comb

import numpy as np


def chance_recall_of_texts(groups: np.ndarray, k: int, *, own: bool = False) -> float:
    """Expected recall at k of such an order, from images to texts, exactly; k / n where no text stands twice.

    Args:
        groups: (n,) equal numbers for equal texts; a query has each.
        k: At most n.
        own: Whether the query's own copy alone is right, which stands behind the equal ones.
    """
    _, copies = np.unique(groups, return_counts=True)
    return _hits(copies, copies, k, own=own) / len(groups)


def known_recall_of_texts(groups: np.ndarray, known: np.ndarray, k: int) -> float:
    """Expected recall at k, from images to texts, of a random order of the texts of which the same is known.

    Before all others stand the different texts of the images of which the same is known as of the query, in a random
    order, each with all of its copies: those of images of which something else is known have the same embedding.

    Args:
        groups: (n,) equal numbers for equal texts.
        known: (n,) equal numbers for what is known of the images.
        k: At least 1.
    """
    _, of_row, copies = np.unique(groups, return_inverse=True, return_counts=True)
    hits = 0.0
    order = np.argsort(known, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(known[order])) + 1):
        texts, queries = np.unique(of_row[rows], return_counts=True)
        hits += _hits(copies[texts], queries, k)
    return hits / len(groups)


def _hits(copies: np.ndarray, queries: np.ndarray, k: int, *, own: bool = False) -> float:
    """Expected number of queries that have their text among the first k.

    Args:
        copies: (texts,) of each different text.
        queries: (texts,) how many queries it is right for.
        k: Candidates that count.
        own: As of `chance_recall_of_texts`.
    """
    sizes, of_size, alike = np.unique(copies, return_inverse=True, return_counts=True)
    before = copies_before(tuple(sizes.tolist()), tuple(alike.tolist()), k)
    # A copy of the text is among the first k where fewer than k stand before it; its last one where all have room.
    probabilities = [before[size][: max(0, k - size + 1 if own else k)].sum() for size in sizes.tolist()]
    return float(np.bincount(of_size, weights=queries) @ probabilities)


# Many groups of images of which the same is known have texts with as many copies.
@lru_cache(maxsize=1024)
def copies_before(sizes: tuple[int, ...], alike: tuple[int, ...], k: int) -> dict[int, np.ndarray]:
    """Copies of a text -> (k,) how probably 0, 1, ... k - 1 copies of others stand before it in a random order.

    Of G different texts any m of the others, m from 0 to G - 1, are before it with probability 1 / G / C(G - 1, m).

    Args:
        sizes: Numbers of copies that texts have.
        alike: How many texts have each.
        k: At least 1.
    """
    ways, different = _ways(sizes, alike, k), sum(alike)
    result = {}
    for size in sizes:
        of_others = _without_one(ways, size)[: min(k, different)].tolist()
        probabilities = [
            [count / (different * comb(different - 1, m)) for count in row] for m, row in enumerate(of_others)
        ]
        result[size] = np.array(probabilities).sum(axis=0)
    return result


def _ways(sizes: Sequence[int], alike: Sequence[int], k: int) -> np.ndarray:
    """(k, k) exact integers: in how many ways m of the texts can be chosen that have t copies together."""
    ways = np.zeros((k, k), dtype=object)
    ways[0, 0] = 1
    for size, number in zip(sizes, alike, strict=True):
        chosen = ways.copy()
        for some in range(1, min(number, (k - 1) // size) + 1):
            chosen[some:, some * size :] += comb(number, some) * ways[: k - some, : k - some * size]
        ways = chosen
    return ways


def _without_one(ways: np.ndarray, size: int) -> np.ndarray:
    """`_ways` of the texts without one that has `size` copies."""
    others = ways.copy()
    for some in range(1, len(ways)):
        others[some, size:] -= others[some - 1, : max(0, len(ways) - size)]
    return others
