"""Precision at k over labels, with its values for a random order of the candidates and for one order for all queries.

Of the k candidates nearest to a query, the fraction that has the query's label (Manning, Raghavan and Schütze 2008,
"Introduction to Information Retrieval", section 8.4; over the classes of images and reports as in Zhang et al. 2020,
arXiv:2010.00747). As in `retrieval.py`, every wrong candidate with the same similarity stands before the right one, so
that a model that gives all inputs the same embedding gains nothing by ties.
"""

from collections.abc import Sequence

import numpy as np

from pipelines.evaluate.metrics.retrieval import TIE

# Similarities held at a time.
_BLOCK = 1 << 22


def precisions(
    queries: np.ndarray, candidates: np.ndarray, labels: np.ndarray, ks: Sequence[int], *, exclude_own: bool
) -> np.ndarray:
    """(ks, n) precision at each k of each query, 0 to 1.

    Similarities are computed in blocks of rows: memory does not grow with n times n.

    Args:
        queries: (n, dimensions), of length 1.
        candidates: (n, dimensions), of length 1; row i is the one that belongs to query i.
        labels: (n,) equal numbers for equal labels, of a query as of its own candidate.
        ks: Each at least 1 and at most n, or n - 1 where the own candidate is excluded.
        exclude_own: Whether a query's own candidate is left out of those that it is ranked against.
    """
    count, most = len(queries), max(ks)
    found = np.empty((len(ks), count))
    wanted = np.asarray(ks)
    rows = max(1, _BLOCK // count)
    for start in range(0, count, rows):
        for query, row in enumerate(queries[start : start + rows] @ candidates.T, start):
            if exclude_own:
                row[query] = -np.inf
            # Behind the last of the `most` nearest nothing decides, but for what is tied with it.
            least = np.partition(row, count - most)[count - most] - TIE
            near = np.flatnonzero(row >= least)
            right = labels[near] == labels[query]
            hits, misses = np.sort(row[near[right]])[::-1], np.sort(row[near[~right]])
            before = len(misses) - np.searchsorted(misses, hits - TIE)
            ranks = 1 + np.arange(len(hits)) + before
            found[:, query] = np.searchsorted(ranks, wanted, side="right") / wanted
    return found


def chance_precision(labels: np.ndarray, *, exclude_own: bool) -> np.ndarray:
    """(n,) expected precision of each query in a random order of its candidates, exactly and at any k.

    Of its first k candidates each is as likely any of them: the fraction of its candidates that is right.

    Args:
        labels: As in `precisions`; at least two.
        exclude_own: As in `precisions`.
    """
    _, of_label, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    own = int(exclude_own)
    return np.asarray((sizes[of_label] - own) / (len(labels) - own))


def majority_precision(labels: np.ndarray, k: int, *, exclude_own: bool) -> np.ndarray:
    """(n,) expected precision of each query in one order for all: the candidates by how frequent their label is.

    Candidates of a label stand together, labels that are equally frequent in a random order. A query whose label has c
    candidates, behind B with more frequent labels and beside T labels that are as frequent (its own included), has
    min(max(k - B - p c, 0), c) right ones among its first k if p of the T stand before its own: the mean over p = 0 to
    T - 1. Without its own candidate the upper limit is c - 1.

    Args:
        labels: As in `precisions`.
        k: As in `precisions`.
        exclude_own: As in `precisions`.
    """
    _, of_label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sizes, of_size, alike = np.unique(counts, return_inverse=True, return_counts=True)
    of_sizes = sizes * alike
    before = of_sizes.sum() - of_sizes.cumsum()
    expected = np.array(
        [
            np.clip(k - behind - size * np.arange(same), 0, size - int(exclude_own)).mean() / k
            for size, same, behind in zip(sizes, alike, before, strict=True)
        ]
    )
    return expected[of_size][of_label]
