"""Region retrieval: an annotated region is given, which caption is its own?

A query is the crop of a test image's annotated region. `recall@k` ranks the different captions of all queries; regions
whose captions are equal share a candidate. `adjective_accuracy` asks for the region's caption among itself and its five
negatives, which differ in the adjective. Ties lose, so that a method that gives all inputs the same embedding scores 0.

The captions are made from the annotations that they are asked about (oracle): that is what this task is, and why none
of its figures says how well a method finds a region.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from models.capabilities import EmbedsRegions, EmbedsText
from models.data.batches import NEGATIVES
from pipelines.evaluate.bootstrap import Score, score
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationSet, Item, TruthRegion
from pipelines.evaluate.task import Result
from pipelines.evaluate.tasks.retrieval import TIE, ranks


@dataclass(frozen=True, kw_only=True)
class RegionRetrievalConfig:
    """Options of the task.

    Attributes:
        ks: The k of each recall at k.
    """

    ks: list[int]

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1:
            raise ValueError("ks must hold numbers of at least 1, such as [1, 5, 10]")


@dataclass(frozen=True)
class _Query:
    """A region, its embedding, and the cosines with its caption and its negatives (1 + negatives,)."""

    source: str
    region: TruthRegion
    embedding: np.ndarray
    choice: np.ndarray


class RegionRetrieval:
    """Recall of a region's caption, and whether its adjective is told from five others; chance beside each."""

    Config = RegionRetrievalConfig
    needs: ClassVar[tuple[type, ...]] = (EmbedsRegions, EmbedsText)

    def __init__(self, config: RegionRetrievalConfig) -> None:
        self.config = config

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        excluded = {item.key: reason for item in test.items if (reason := skip_reason(item))}
        asked = [(place, region) for place, item in enumerate(test.items) for region in item.regions]
        if not asked:
            return Result(status="skipped", reason="no annotated test region has a caption", excluded=excluded)
        captions = list(dict.fromkeys(region.caption for _, region in asked))
        texts = list(dict.fromkeys([*captions, *(text for _, region in asked for text in region.negatives)]))
        embedded = dict(zip(texts, test.embed_texts(texts), strict=True))
        embeddings = test.region_embeddings([(place, region.number) for place, region in asked])
        queries = [
            _Query(
                test.items[place].source,
                region,
                embedding,
                np.stack([embedded[text] for text in (region.caption, *region.negatives)]) @ embedding,
            )
            for (place, region), embedding in zip(asked, embeddings, strict=True)
        ]
        metrics, pool = self._score(queries, embedded, bootstrap)
        parts: dict[str, dict[str, Any]] = {}
        sources = sorted({query.source for query in queries})
        for source in sources if len(sources) > 1 else []:
            mine = [query for query in queries if query.source == source]
            by_name, candidates = self._score(mine, embedded, bootstrap)
            values = {name: asdict(value) for name, value in by_name.items()}
            parts[source] = {"items": len(mine), "pool": candidates, "metrics": values}
        frequent = frequent_adjective([region for _, region in asked])
        notes = [
            f"adjective_accuracy of always taking the adjective that most other regions have: {frequent:.3f}",
            f"the captions of {sum(region.oracle for _, region in asked)} of {len(asked)} regions were made from the "
            "annotations that they are asked about (oracle)",
            "intervals resample regions as if they were independent; those of one image or patient are not",
        ]
        if left_out := [k for k in self.config.ks if k > pool]:
            notes.append(f"recall@k for k in {left_out} left out: there are {pool} different captions")
        if test.model.max_regions == 0:
            notes.append("the method saw whole images alone in training: a crop is new to it")
        return Result(
            items=len(queries),
            pool=pool,
            metrics=metrics,
            by_source=parts,
            details={"oracle": sum(region.oracle for _, region in asked), "frequent_adjective": round(frequent, 6)},
            notes=notes,
            excluded=excluded,
        )

    def _score(
        self, queries: Sequence[_Query], embedded: dict[str, np.ndarray], bootstrap: Bootstrap
    ) -> tuple[dict[str, Score], int]:
        """All metrics of some queries, whose own captions are the candidates, and the number of these."""
        captions = {text: number for number, text in enumerate(dict.fromkeys(one.region.caption for one in queries))}
        pool = len(captions)
        rank = ranks(
            np.stack([query.embedding for query in queries]),
            np.stack([embedded[text] for text in captions]),
            np.array([captions[query.region.caption] for query in queries]),
            np.arange(pool),
        )
        hits = {f"recall@{k}": (rank <= k, k / pool) for k in self.config.ks if k <= pool}
        choices = np.stack([query.choice for query in queries])
        hits["adjective_accuracy"] = (chooses_first(choices), 1 / (1 + NEGATIVES))
        return {name: _share(hit, chance, bootstrap) for name, (hit, chance) in hits.items()}, pool


def skip_reason(item: Item) -> str | None:
    """Reason code for which an image takes no part, or None."""
    if not item.annotated:
        return "no_truth_region"
    return None if item.regions else "no_region_caption"


def frequent_adjective(regions: Sequence[TruthRegion]) -> float:
    """Accuracy of a choice that never looks at a region: the adjective that most of the other regions have.

    Negatives may have adjectives that no region of the data set has, and these are easily ruled out.
    """
    common = Counter(_adjective(region.caption, region) for region in regions)

    def right(region: TruthRegion) -> bool:
        own = common[_adjective(region.caption, region)] - 1
        return all(own > common[_adjective(text, region)] for text in region.negatives)

    return sum(map(right, regions)) / len(regions)


def _adjective(text: str, region: TruthRegion) -> str:
    return text.partition(f" {region.term} ")[0]


def chooses_first(similarity: np.ndarray) -> np.ndarray:
    """(queries, choices) -> (queries,) bool: whether the first choice is nearer than every other."""
    return similarity[:, 0] > similarity[:, 1:].max(axis=1) + TIE


def _share(hits: np.ndarray, chance: float, bootstrap: Bootstrap) -> Score:
    return score([len(hits)], lambda index: hits[index].mean(axis=-1), float(hits.mean()), chance, bootstrap)
