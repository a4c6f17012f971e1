"""Region retrieval: which caption belongs to an annotated region?

A query is the crop of a test image's annotated region. `recall@k` ranks the different captions of all queries; regions
whose captions are equal share a candidate. `adjective_accuracy` is the fraction of regions whose own caption is nearer
than its five negatives, which differ in the adjective. Ties lose, so that a method that gives all inputs the same
embedding scores 0.

The captions are made from the annotations that the queries are cut from (oracle): no score of this task says how well a
method finds a region.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import numpy as np

from models.capabilities import EmbedsRegions, EmbedsText
from models.data.negatives import NEGATIVES
from pipelines.evaluate.config import Bootstrap, RecallConfig
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet, TruthRegion
from pipelines.evaluate.metrics.bootstrap import mean_score
from pipelines.evaluate.metrics.retrieval import Nearest, first_is_nearest, ranks
from pipelines.evaluate.task import (
    AMONG_SOURCE,
    QUOTED,
    GroupScores,
    ItemScore,
    Result,
    Task,
    independence_note,
    recall_note,
    score_by_source,
)


@dataclass(frozen=True)
class _RegionQuery:
    """A region, its embedding, and the cosines with its caption and its negatives (1 + negatives,)."""

    image: EvaluationImage
    region: TruthRegion
    embedding: np.ndarray
    cosines: np.ndarray


class RegionRetrieval(Task):
    """Recall of a region's caption, and the choice of its adjective among six, with chance beside each."""

    Config = RecallConfig
    needs: ClassVar[tuple[type, ...]] = (EmbedsRegions, EmbedsText)
    definitions: ClassVar[Mapping[str, str]] = {
        "recall@k": "Fraction of the annotated regions whose caption is among the k captions nearest to the region.",
        "adjective_accuracy": (
            "Fraction of the annotated regions whose caption is nearer than its five negatives, which differ "
            "from it in the adjective alone."
        ),
    }
    headline = ("recall@k", "adjective_accuracy")
    does = "matches regions with captions"

    @staticmethod
    def skip_reason(image: EvaluationImage) -> str | None:
        if not image.annotated:
            return "no_truth_region"
        return None if image.regions else "no_region_caption"

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        excluded = self.excluded_images(test.images)
        regions = [(index, region) for index, image in enumerate(test.images) for region in image.regions]
        if not regions:
            return Result(status="skipped", reason="no annotated test region has a caption", excluded=excluded)
        texts = list(
            dict.fromkeys(
                [
                    *(region.caption for _, region in regions),
                    *(text for _, region in regions for text in region.negatives),
                ]
            )
        )
        text_embeddings = dict(zip(texts, test.embed_texts(texts), strict=True))
        queries = _queries(test, regions, text_embeddings)

        among: list[Iterator[ItemScore]] = []

        def score_among(indices: Sequence[int]) -> GroupScores:
            chosen = [queries[index] for index in indices]
            rank, pool = _caption_ranks(chosen, text_embeddings)
            among.append(_ranks(chosen, rank, None, AMONG_SOURCE))
            return self._score(chosen, rank, pool, bootstrap)

        nearest = None if test.scores_only else Nearest.unknown(len(queries))
        rank, pool = _caption_ranks(queries, text_embeddings, nearest)
        scores = self._score(queries, rank, pool, bootstrap)
        frequent = frequent_adjective([region for _, region in regions])
        oracle = sum(region.oracle for _, region in regions)
        notes = [
            f"always choosing the adjective that most other regions have gives an adjective_accuracy of {frequent:.3f}",
            f"the captions of {oracle} of {len(regions)} regions were made from the annotations that the regions are "
            "cut out by (oracle)",
            independence_note("regions", "image or patient"),
            *recall_note(self.config.ks, scores.pool, "different captions"),
        ]
        if test.model.max_regions == 0:
            notes.append("the method was trained with whole images alone: a crop is new to it")
        return Result(
            scores=scores,
            by_source=score_by_source([query.image.source for query in queries], score_among),
            details={"oracle": oracle, "frequent_adjective": round(frequent, 6)},
            notes=notes,
            excluded=excluded,
            items=chain(_items(queries, rank, nearest), *among),
        )

    def _score(self, queries: Sequence[_RegionQuery], rank: np.ndarray, pool: int, bootstrap: Bootstrap) -> GroupScores:
        """All metrics of some queries, whose own captions are the candidates; the ranks are those among them."""
        metrics = {f"recall@{k}": mean_score(rank <= k, k / pool, bootstrap) for k in self.config.ks if k <= pool}
        frequent = frequent_adjective([query.region for query in queries])
        metrics["adjective_accuracy"] = mean_score(
            _adjective_hits(queries), 1 / (1 + NEGATIVES), bootstrap, {"most frequent adjective": frequent}
        )
        return GroupScores(items=len(queries), pool=pool, metrics=metrics)


def _captions(queries: Sequence[_RegionQuery]) -> list[str]:
    """The different captions of some queries."""
    return list(dict.fromkeys(query.region.caption for query in queries))


def _caption_ranks(
    queries: Sequence[_RegionQuery], text_embeddings: Mapping[str, np.ndarray], nearest: Nearest | None = None
) -> tuple[np.ndarray, int]:
    """(queries,) rank of each region's caption among the different captions of all, and how many these are."""
    captions = {text: number for number, text in enumerate(_captions(queries))}
    own = np.array([captions[query.region.caption] for query in queries])
    (rank,) = ranks(
        np.stack([query.embedding for query in queries]),
        np.stack([text_embeddings[text] for text in captions]),
        [(own, np.arange(len(captions)))],
        nearest,
    )
    return rank, len(captions)


def _adjective_hits(queries: Sequence[_RegionQuery]) -> np.ndarray:
    """(queries,) bool: whether a region's caption is nearer than its negatives."""
    return first_is_nearest(np.stack([query.cosines for query in queries]))


def _items(queries: Sequence[_RegionQuery], rank: np.ndarray, nearest: Nearest | None) -> Iterator[ItemScore]:
    """The region is what is asked; answers are the caption that is nearest of all, and of its own and the negatives."""
    yield from _ranks(queries, rank, nearest)
    for query, value in zip(queries, _adjective_hits(queries).tolist(), strict=True):
        choice = (query.region.caption, *query.region.negatives)[int(query.cosines.argmax())]
        yield _item(query, "adjective_accuracy", value, {"nearest": choice[:QUOTED]})


def _ranks(
    queries: Sequence[_RegionQuery], rank: np.ndarray, nearest: Nearest | None, within: str = ""
) -> Iterator[ItemScore]:
    captions = _captions(queries)
    for row, (query, value) in enumerate(zip(queries, rank.tolist(), strict=True)):
        output = None if nearest is None else {"nearest": captions[nearest.places[row]][:QUOTED]}
        yield _item(query, f"{within}rank", value, output)


def _item(query: _RegionQuery, metric: str, value: float, output: Mapping[str, str] | None) -> ItemScore:
    region = query.region
    return ItemScore(query.image, metric, float(value), item=region.region_id, label=region.term, output=output)


def _queries(
    test: EvaluationSet, regions: Sequence[tuple[int, TruthRegion]], text_embeddings: Mapping[str, np.ndarray]
) -> list[_RegionQuery]:
    embeddings = test.region_embeddings([(index, region.number) for index, region in regions])
    return [
        _RegionQuery(
            test.images[index],
            region,
            embedding,
            np.stack([text_embeddings[text] for text in (region.caption, *region.negatives)]) @ embedding,
        )
        for (index, region), embedding in zip(regions, embeddings, strict=True)
    ]


def frequent_adjective(regions: Sequence[TruthRegion]) -> float:
    """Accuracy of a choice that depends on no image: the adjective that most of the other regions have.

    It may be above chance, for negatives may have adjectives that no region of the data set has.
    """
    common = Counter(_adjective(region.caption, region) for region in regions)

    def right(region: TruthRegion) -> bool:
        others = common[_adjective(region.caption, region)] - 1
        return all(others > common[_adjective(text, region)] for text in region.negatives)

    return sum(map(right, regions)) / len(regions)


def _adjective(text: str, region: TruthRegion) -> str:
    return text.partition(f" {region.term} ")[0]
