"""Precision at k over labels, with its values for a random order of the candidates and for one order for all queries.

Of the k candidates nearest to a query, the fraction that has the query's label (Manning, Raghavan and Schütze 2008,
"Introduction to Information Retrieval", section 8.4; over the classes of images and reports as in Zhang et al. 2020,
arXiv:2010.00747). As in `retrieval.py`, every wrong candidate with the same similarity stands before the right one, so
that a model that gives all inputs the same embedding gains nothing by ties. Of texts as candidates the different ones
are put in a random order (`text_chance.py`), each with all of its copies.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from pipelines.evaluate.metrics.retrieval import TIE
from pipelines.evaluate.metrics.text_chance import copies_before

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


def chance_precision_of_texts(labels: np.ndarray, groups: np.ndarray, k: int, *, exclude_own: bool) -> np.ndarray:
    """(n,) expected precision of each image in a random order of the different texts, exactly.

    Equal texts have one embedding and stand together, those with a wrong label first. Where no text stands twice, it is
    `chance_precision`; where few texts stand for most images, it depends on k.

    Args:
        labels: As in `precisions`.
        groups: (n,) equal numbers for equal texts.
        k: As in `precisions`.
        exclude_own: As in `precisions`.
    """
    _, text, copies = np.unique(groups, return_inverse=True, return_counts=True)
    kinds, of_row, right = np.unique(
        np.stack([labels, copies[text], text]), axis=1, return_inverse=True, return_counts=True
    )
    texts: dict[int, Counter[tuple[int, int]]] = defaultdict(Counter)
    for label, size, rights in zip(*kinds[:2].tolist(), right.tolist(), strict=True):
        texts[label][size, rights] += 1
    sizes = Counter(copies.tolist())
    # Images of one label whose own texts are alike expect the same.
    known: dict[tuple[int, int, int], float] = {}
    for label, size, rights in zip(*kinds[:2].tolist(), right.tolist(), strict=True):
        if (label, size, rights) not in known:
            own = Counter({(size, rights): 1}) if exclude_own else Counter()
            known[label, size, rights] = _expected_right(sizes, texts[label], own, k) / k
    of_kind = [known[kind] for kind in zip(*kinds[:2].tolist(), right.tolist(), strict=True)]
    return np.array(of_kind)[of_row]


def _expected_right(
    sizes: Counter[int], of_label: Counter[tuple[int, int]], own: Counter[tuple[int, int]], k: int
) -> float:
    """Right copies that are expected among the first k.

    Args:
        sizes: Copies of a text -> number of texts.
        of_label: (Copies, right ones of them) -> number of texts that have some.
        own: The text, likewise, of which a right copy is no candidate; empty: all are candidates.
        k: Candidates that count.
    """
    of_label, sizes = of_label - own, sizes - Counter(size for size, _ in own)
    for size, right in own:
        if size > 1:
            sizes[size - 1] += 1
            of_label[size - 1, right - 1] += 1
    before = copies_before(*zip(*sorted(sizes.items()), strict=True), k)
    places = k - np.arange(k)
    return sum(
        number * float(before[size] @ np.clip(np.minimum(size, places) - (size - right), 0, None))
        for (size, right), number in of_label.items()
    )


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
