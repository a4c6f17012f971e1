"""What a random order of texts gives where several images have the same text.

Equal texts have one embedding, and stand beside each other in every order that an encoder can give: what a guess puts
in a random order are the different texts, each with all of its copies.
"""

from math import comb

import numpy as np


def chance_recall_of_texts(groups: np.ndarray, k: int, *, own: bool = False) -> float:
    """Expected recall at k of such an order, from images to texts, exactly; k / n where no text stands twice.

    Of G different texts any m of the others, m from 0 to G - 1, are before a query's own one with probability
    1 / G / C(G - 1, m). A copy of its text is among the first k where these have fewer than k copies together.

    Args:
        groups: (n,) equal numbers for equal texts; a query has each.
        k: At most n.
        own: Whether the query's own copy alone is right, which stands behind the equal ones.
    """
    _, copies = np.unique(groups, return_counts=True)
    sizes, alike = (values.tolist() for values in np.unique(copies, return_counts=True))
    ways, different = _ways(sizes, alike, k), len(copies)
    hits = 0.0
    for size, number in zip(sizes, alike, strict=True):
        before = _without_one(ways, size)[: min(k, different), : max(0, k - size + 1 if own else k)].sum(axis=1)
        probability = sum(count / (different * comb(different - 1, m)) for m, count in enumerate(before.tolist()))
        hits += size * number * probability
    return hits / len(groups)


def chance_median_rank_of_texts(groups: np.ndarray, *, own: bool = False) -> int:
    """Median over the images of the rank that their text has, or their own copy of it, in half of such orders.

    The copies before a text and those behind it are as many by chance: half of the others each.

    Args:
        groups: (n,) equal numbers for equal texts.
        own: As of `chance_recall_of_texts`.
    """
    _, inverse, copies = np.unique(groups, return_inverse=True, return_counts=True)
    before = (len(groups) - copies[inverse]) // 2
    return int(np.median(before + (copies[inverse] if own else 1)))


def _ways(sizes: list[int], alike: list[int], k: int) -> np.ndarray:
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
