"""Ranks, recall at k and median rank, with their values for a random order of the candidates.

Of texts as candidates the different ones are put in a random order (`pipelines/evaluate/metrics/text_chance.py`; median
ranks: `median_chance.py`). Texts as queries are resampled as different ones, each with all of its images: equal texts
have one embedding, and are found or missed together.
Recall at k is the fraction of queries with a right candidate among their first k (Karpathy and Fei-Fei 2015,
arXiv:1412.2306). Every wrong candidate with the same similarity is ranked before the right one, so that a model that
gives all inputs the same embedding scores 0, never 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.stats

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.metrics.bootstrap import Score, clustered_score, mean_score
from pipelines.evaluate.metrics.median_chance import median_rank_of_images, median_rank_of_texts
from pipelines.evaluate.metrics.text_chance import chance_recall_of_texts

# Cosines in float32 differ by about this much with the order of summation: smaller differences are ties.
TIE = 1e-6
# Similarities held at a time.
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Nearest:
    """The nearest candidate of each query, which `ranks` finds on its way; of tied ones the first.

    Attributes:
        places: (queries,) int, its place among the candidates.
        similarities: (queries,) float32.
    """

    places: np.ndarray
    similarities: np.ndarray

    @classmethod
    def unknown(cls, queries: int) -> Self:
        """Of so many queries, to be found."""
        return cls(np.empty(queries, dtype=np.int64), np.empty(queries, dtype=np.float32))


def retrieval_scores(
    rank_of: Mapping[str, np.ndarray], groups: np.ndarray, ks: Sequence[int], bootstrap: Bootstrap
) -> dict[str, Score]:
    """Recall at k and median rank of one pool.

    Args:
        rank_of: From `retrieval_ranks`.
        groups: (n,) equal numbers for equal texts.
        ks: The k of each recall; those above n are left out.
        bootstrap: Resamples of the queries: of the images, or of the different texts.
    """
    pool = len(groups)
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    metrics = {}
    for name, rank in rank_of.items():
        own = name.endswith("_own")
        relevant = np.ones(pool, int) if own else counts[inverse]
        of_texts, clusters = not asks_with_texts(name), queries_of(name, groups)
        for k in ks:
            if k <= pool:
                chance = chance_recall_of_texts(groups, k, own=own) if of_texts else chance_recall(relevant, pool, k)
                metrics[f"{name}_recall@{k}"] = mean_score(rank <= k, chance, bootstrap, clusters=clusters)
        median = (median_rank_of_texts if of_texts else median_rank_of_images)(groups, own=own)
        metrics[f"{name}_median_rank"] = clustered_score(
            clusters,
            lambda index, rank=rank: np.median(rank[index], axis=-1),
            float(np.median(rank)),
            median,
            bootstrap,
        )
    return metrics


def asks_with_texts(metric: str) -> bool:
    """Whether texts are the queries of a metric of retrieval, by its name."""
    return metric.startswith("t2i")


def queries_of(metric: str, groups: np.ndarray) -> np.ndarray:
    """(n,) equal numbers for queries that are one observation: equal texts, but no two images.

    Args:
        metric: Its name, or that of its ranks.
        groups: (n,) equal numbers for equal texts.
    """
    return groups if asks_with_texts(metric) else np.arange(len(groups))


def retrieval_ranks(
    images: np.ndarray, texts: np.ndarray, groups: np.ndarray, nearest: Mapping[str, Nearest] | None = None
) -> dict[str, np.ndarray]:
    """Variant -> (n,) int, rank of each query's best right answer.

    `i2t` goes from image to text, `t2i` from text to image. Equal texts are right answers for each other's images; in
    `i2t_own` and `t2i_own` only the query's own row counts.

    Args:
        images: (n, dimensions), of length 1.
        texts: (n, dimensions), of length 1; row i belongs to image i.
        groups: (n,) equal numbers for equal texts.
        nearest: By `i2t` and `t2i`; is filled with what is nearest to each image, and to each text.
    """
    own, found = np.arange(len(groups)), nearest or {}
    i2t, i2t_own = ranks(images, texts, [(groups, groups), (own, own)], found.get("i2t"))
    t2i, t2i_own = ranks(texts, images, [(groups, groups), (own, own)], found.get("t2i"))
    return {"i2t": i2t, "t2i": t2i, "i2t_own": i2t_own, "t2i_own": t2i_own}


def distinct_ranks(images: np.ndarray, texts: np.ndarray, groups: np.ndarray) -> dict[str, np.ndarray]:
    """Variant -> (queries,) int, rank of each query's best right answer where each text stands in the pool once.

    `i2t_distinct` goes from each image to the different texts, of which its own is right; `t2i_distinct` from each
    different text, in the order of `np.unique(groups)`, to the images, of which all that have it are right. The first
    of equal texts stands for all.

    Args:
        images: (n, dimensions), of length 1.
        texts: (n, dimensions), of length 1; row i belongs to image i.
        groups: (n,) equal numbers for equal texts.
    """
    _, first, of_image = np.unique(groups, return_index=True, return_inverse=True)
    numbers = np.arange(len(first))
    (i2t,) = ranks(images, texts[first], [(of_image, numbers)])
    (t2i,) = ranks(texts[first], images, [(numbers, of_image)])
    return {"i2t_distinct": i2t, "t2i_distinct": t2i}


def distinct_scores(
    rank_of: Mapping[str, np.ndarray], groups: np.ndarray, ks: Sequence[int], bootstrap: Bootstrap
) -> dict[str, Score]:
    """Recall at k of one pool in which each text stands once; a k that is larger than a direction's pool is left out.

    The majority text ranks the texts by how many images have them. For texts as queries there is none: each is one.

    Args:
        rank_of: From `distinct_ranks`.
        groups: (n,) equal numbers for equal texts.
        ks: The k of each recall.
        bootstrap: Resamples of the queries.
    """
    _, counts = np.unique(groups, return_counts=True)
    frequent = np.sort(counts)[::-1].cumsum() / len(groups)
    metrics = {}
    for k in ks:
        if k <= len(counts):
            chance, majority = k / len(counts), {"majority text": float(frequent[k - 1])}
            hits = rank_of["i2t_distinct"] <= k
            metrics[f"i2t_distinct_recall@{k}"] = mean_score(hits, chance, bootstrap, majority)
        if k <= len(groups):
            chance, hits = chance_recall(counts, len(groups), k), rank_of["t2i_distinct"] <= k
            metrics[f"t2i_distinct_recall@{k}"] = mean_score(hits, chance, bootstrap)
    return metrics


def ranks(
    queries: np.ndarray,
    candidates: np.ndarray,
    groupings: Sequence[tuple[np.ndarray, np.ndarray]],
    nearest: Nearest | None = None,
) -> list[np.ndarray]:
    """Rank, from 1, of each query's best right candidate; wrong candidates with a tied similarity stand before it.

    Args:
        queries: (n, dimensions), of length 1.
        candidates: (m, dimensions), of length 1.
        groupings: What is right, in one way or another: numbers of the queries (n,) and of the candidates (m,), a
            candidate being right for the queries that have its number. Each query has one at least.
        nearest: Is filled, where it is given.

    Returns:
        Of each grouping (n,) int. Similarities are computed once, in blocks of rows: memory does not grow with n times
        m.
    """
    right = [_right_candidates(*grouping) for grouping in groupings]
    result = [np.empty(len(queries), dtype=np.int64) for _ in groupings]
    rows = max(1, _BLOCK // len(candidates))
    for start in range(0, len(queries), rows):
        # A row stays in the processor's cache while it is counted; operations on the whole block would not.
        for query, row in enumerate(queries[start : start + rows] @ candidates.T, start):
            for of_grouping, (order, firsts, lasts) in zip(result, right, strict=True):
                own = row[order[firsts[query] : lasts[query]]]
                least = own.max() - TIE
                of_grouping[query] = 1 + np.count_nonzero(row >= least) - np.count_nonzero(own >= least)
            if nearest is not None:
                place = int(np.argmax(row >= row.max() - TIE))
                nearest.places[query], nearest.similarities[query] = place, row[place]
    return result


def _right_candidates(of_queries: np.ndarray, of_candidates: np.ndarray) -> tuple[np.ndarray, list[int], list[int]]:
    """The candidates by number, and of each query where in this order its right ones begin and end."""
    order = np.argsort(of_candidates, kind="stable")
    numbers = of_candidates[order]
    firsts, lasts = (np.searchsorted(numbers, of_queries, side).tolist() for side in ("left", "right"))
    return order, firsts, lasts


def first_is_nearest(similarity: np.ndarray) -> np.ndarray:
    """(queries, choices) -> (queries,) bool: whether the first choice is nearer than every other; a tie is not."""
    return similarity[:, 0] > similarity[:, 1:].max(axis=1) + TIE


def chance_recall(relevant: np.ndarray, pool: int, k: int) -> float:
    """Expected recall at k of a random order of the candidates, exactly.

    A query with m right candidates among n misses all of them in its first k with probability C(n - m, k) / C(n, k)
    (hypergeometric), so the expected recall is the mean over the queries of 1 - C(n - m, k) / C(n, k); k / n for m = 1.

    Args:
        relevant: (queries,) m of each query.
        pool: n.
        k: At most n.
    """
    return float(_hit(pool, relevant, k).mean())


def majority_recall(groups: np.ndarray, k: int) -> float:
    """Expected recall at k of one order for all queries: the candidates by how frequent their text is.

    Candidates of equal text stand together; texts that are equally frequent stand in a random order. A query whose text
    stands c times, behind B candidates with more frequent texts and beside T texts that are as frequent (its own
    included), has its first right candidate among the first k for ceil((k - B) / c) of the T places.

    Args:
        groups: (n,) equal numbers for equal texts.
        k: At most n.
    """
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sizes, of_size, alike = np.unique(counts, return_inverse=True, return_counts=True)
    rows = sizes * alike
    before = rows.sum() - rows.cumsum()
    # Rounded up: -(-a // b).
    hits = np.clip(-((before - k) // sizes), 0, alike)[of_size] / alike[of_size]
    return float(hits[inverse].mean())


def known_recall(groups: np.ndarray, known: np.ndarray, k: int) -> float:
    """Expected recall at k, from texts to images, of a random order of the images of which the same is known.

    All other images stand behind them. Of M such images m are right, the query's own among them; the expectation is
    that of `chance_recall` for them, and 1 where k reaches M. From images to texts: `known_recall_of_texts`.

    Args:
        groups: (n,) equal numbers for equal texts.
        known: (n,) equal numbers for what is known.
        k: At least 1.
    """
    _, of_known, sizes = np.unique(known, return_inverse=True, return_counts=True)
    _, of_both, right = np.unique(of_known * (groups.max() + 1) + groups, return_inverse=True, return_counts=True)
    pool = sizes[of_known]
    return float(_hit(pool, right[of_both], k).mean())


def _hit(pool: np.ndarray | int, right: np.ndarray, k: int) -> np.ndarray:
    """(queries,) 1 - C(pool - right, k) / C(pool, k), and 1 where k is more; computed once for equal numbers."""
    # One takes 45 microseconds in a pool of 22,000, and the time grows with the pool.
    pools = np.broadcast_to(pool, right.shape)
    _, first, of_query = np.unique(pools * (right.max() + 1) + right, return_index=True, return_inverse=True)
    pools, right = pools[first], right[first]
    return np.asarray(scipy.stats.hypergeom.sf(0, pools, right, np.minimum(k, pools)))[of_query]
