"""Image-to-text and text-to-image retrieval over the test images that have a text of their own.

The text of an image is its report. Texts that a source repeats are all right answers for each other's images (`i2t_`,
`t2i_`); under `_own_` only the image's own row counts. Every other candidate with the same similarity is ranked before
the right one, so that a model that gives all inputs the same embedding scores 0, never 1.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.stats
from matplotlib.figure import Figure

from models.capabilities import EmbedsImages, EmbedsText
from models.text import normalise
from pipelines.evaluate.bootstrap import Score, score
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationSet, Item
from pipelines.evaluate.task import Result

# Cosines in float32 differ by about this much with the order of summation: smaller differences are ties.
TIE = 1e-6
# Similarities held at a time.
_BLOCK = 1 << 22


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Options of the task.

    Attributes:
        ks: The k of each recall at k.
    """

    ks: list[int]

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1:
            raise ValueError("ks must hold numbers of at least 1, such as [1, 5, 10]")


class Retrieval:
    """R@k and median rank, both ways, with chance beside each."""

    Config = RetrievalConfig
    needs: ClassVar[tuple[type, ...]] = (EmbedsImages, EmbedsText)

    def __init__(self, config: RetrievalConfig) -> None:
        self.config = config

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        excluded = {item.key: reason for item in test.items if (reason := skip_reason(item))}
        kept = [index for index, item in enumerate(test.items) if item.key not in excluded]
        if len(kept) < 2:
            reason = f"{len(kept)} test images have a text that was not made from their own annotations; two are needed"
            return Result(status="skipped", reason=reason, excluded=excluded)
        sources = np.array([test.items[index].source for index in kept])
        reports = [test.items[index].report or "" for index in kept]
        images, texts = test.image_embeddings[kept], test.embed_texts(reports)
        groups = _groups(reports)

        def scored(chosen: np.ndarray) -> dict[str, Score]:
            return score_retrieval(images[chosen], texts[chosen], groups[chosen], self.config.ks, bootstrap)

        everything = np.arange(len(kept))
        parts: dict[str, dict[str, Any]] = {}
        notes = [f"{len(set(groups))} different texts among {len(kept)}"]
        if len(set(sources)) > 1:
            for source in sorted(set(sources)):
                chosen = everything[sources == source]
                if len(chosen) < 2:
                    notes.append(f"{source}: one item, no score by itself")
                    continue
                by_name = {name: asdict(value) for name, value in scored(chosen).items()}
                parts[str(source)] = {"items": len(chosen), "pool": len(chosen), "metrics": by_name}
        ks = [k for k in self.config.ks if k <= len(kept)]
        if left_out := [k for k in self.config.ks if k > len(kept)]:
            notes.append(f"R@k for k in {left_out} left out: the pool holds {len(kept)} candidates")
        metrics = scored(everything)
        return Result(
            items=len(kept),
            pool=len(kept),
            metrics=metrics,
            by_source=parts,
            notes=notes,
            excluded=excluded,
            figure=_figure(metrics, ks) if ks else None,
        )


def skip_reason(item: Item) -> str | None:
    """Reason code for which an image takes no part in retrieval, or None."""
    if item.status in ("rejected", "failed"):
        return f"caption_{item.status}"
    if item.status == "unannotated":
        return "unannotated"
    if not item.report or not normalise(item.report):
        return "no_text"
    return "oracle" if item.oracle else None


def _groups(texts: Sequence[str]) -> np.ndarray:
    """Number of each text's group of equal texts; equal means: as the encoders read them."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(normalise(text), len(numbers)) for text in texts])


def score_retrieval(
    images: np.ndarray, texts: np.ndarray, groups: np.ndarray, ks: Sequence[int], bootstrap: Bootstrap
) -> dict[str, Score]:
    """All metrics of one pool.

    Args:
        images: (n, dimensions), of length 1.
        texts: (n, dimensions), of length 1; row i belongs to image i.
        groups: (n,) equal numbers for equal texts.
        ks: The k of each recall; those above n are left out.
        bootstrap: Resamples of the queries.
    """
    pool = len(groups)
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    own = np.arange(pool)
    variants = {
        "i2t": (ranks(images, texts, groups, groups), counts[inverse]),
        "t2i": (ranks(texts, images, groups, groups), counts[inverse]),
        "i2t_own": (ranks(images, texts, own, own), np.ones(pool, int)),
        "t2i_own": (ranks(texts, images, own, own), np.ones(pool, int)),
    }
    metrics = {}
    for name, (rank, relevant) in variants.items():
        for k in ks:
            if k <= pool:
                metrics[f"{name}_recall@{k}"] = _recall(rank, k, chance_recall(relevant, pool, k), bootstrap)
        median = float(np.median(rank))
        chance = float(chance_median_rank(relevant, pool))
        metrics[f"{name}_median_rank"] = score(
            [pool], lambda index, rank=rank: np.median(rank[index], axis=-1), median, chance, bootstrap
        )
    return metrics


def _recall(rank: np.ndarray, k: int, chance: float, bootstrap: Bootstrap) -> Score:
    hits = rank <= k
    return score([len(hits)], lambda index: hits[index].mean(axis=-1), float(hits.mean()), chance, bootstrap)


def ranks(queries: np.ndarray, candidates: np.ndarray, wanted: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Rank, from 1, of each query's best right candidate; wrong candidates with a tied similarity stand before it.

    Args:
        queries: (n, dimensions), of length 1.
        candidates: (m, dimensions), of length 1.
        wanted: (n,) candidate j is right for query i where `wanted[i] == groups[j]`.
        groups: (m,).

    Returns:
        (n,) int. Similarities are computed in blocks of rows: memory does not grow with n times m.
    """
    found = np.empty(len(queries), dtype=np.int64)
    rows = max(1, _BLOCK // len(candidates))
    for start in range(0, len(queries), rows):
        block = slice(start, start + rows)
        similarity = queries[block] @ candidates.T
        right = wanted[block, None] == groups[None, :]
        best = np.where(right, similarity, -np.inf).max(axis=1, keepdims=True)
        found[block] = 1 + ((similarity >= best - TIE) & ~right).sum(axis=1)
    return found


def chance_recall(relevant: np.ndarray, pool: int, k: int) -> float:
    """Expected recall at k of a random order of the candidates, exactly.

    A query with m right candidates among n misses all of them in its first k with probability C(n - m, k) / C(n, k)
    (hypergeometric), so the expected recall is the mean over the queries of 1 - C(n - m, k) / C(n, k); k / n for m = 1.

    Args:
        relevant: (queries,) m of each query.
        pool: n.
        k: At most n.
    """
    return float(scipy.stats.hypergeom.sf(0, pool, relevant, k).mean())


def chance_median_rank(relevant: np.ndarray, pool: int) -> int:
    """The smallest rank by which a random order has found a right candidate for half of the queries, on average."""
    low, high = 1, pool
    while low < high:
        middle = (low + high) // 2
        # The tail sums round: an exact half may come out a few units of the last place below it.
        if chance_recall(relevant, pool, middle) >= 0.5 - 1e-12:
            high = middle
        else:
            low = middle + 1
    return low


def _figure(metrics: dict[str, Score], ks: Sequence[int]) -> Figure:
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, label in (("i2t", "image to text"), ("t2i", "text to image")):
        scores = [metrics[f"{name}_recall@{k}"] for k in ks]
        (line,) = axes.plot(range(len(ks)), [one.value for one in scores], marker="o", label=label)
        lows, highs = zip(*(one.bounds for one in scores), strict=True)
        axes.fill_between(range(len(ks)), lows, highs, color=line.get_color(), alpha=0.2)
    chances = [metrics[f"i2t_recall@{k}"].chance for k in ks]
    axes.plot(range(len(ks)), chances, linestyle="--", color="grey", label="chance")
    axes.set_xticks(range(len(ks)), [f"R@{k}" for k in ks])
    axes.set_ylim(0, 1)
    axes.set_ylabel("recall, 95 % interval")
    axes.legend()
    return figure
