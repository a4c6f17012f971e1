"""Image-to-text and text-to-image retrieval over the test images that have a text of their own.

The text of an image is its report. `pipelines/evaluate/metrics/retrieval.py` defines the metrics. Beside chance stand
the order of the texts by frequency (`majority text`) and what known facts of the images would give (`ceiling: ...`).
Where few texts stand for many images, the images are also ranked by what the texts say (`label_auc`).

Two further views are options, off by default: precision over labels (`pipelines/evaluate/retrieval/labels.py` says
which texts are right) and recall in a pool in which each text stands once, as texts that many images share, such as
"no acute process", otherwise decide the recall.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure
from matplotlib.typing import ColorType

from models.capabilities import EmbedsImages, EmbedsText
from models.text import normalise
from pipelines.evaluate.config import Bootstrap, RecallConfig
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet
from pipelines.evaluate.metrics.bootstrap import Score
from pipelines.evaluate.metrics.retrieval import (
    Nearest,
    distinct_ranks,
    distinct_scores,
    majority_recall,
    retrieval_ranks,
    retrieval_scores,
)
from pipelines.evaluate.retrieval.known import baseline, ceiling_notes, ceilings, knowledge
from pipelines.evaluate.retrieval.labels import (
    SourcePrecision,
    labelled_sources,
    precision_notes,
    precision_scores,
    query_counts,
    source_precision,
)
from pipelines.evaluate.retrieval.statements import few, label_aucs, statement_counts, statement_notes
from pipelines.evaluate.task import (
    AMONG_SOURCE,
    GroupScores,
    ItemScore,
    Result,
    Task,
    independence_note,
    other_reports_note,
    recall_note,
    score_by_source,
)


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig(RecallConfig):
    """Options of the task.

    Attributes:
        precision_ks: The k of each precision over labels; empty: none is scored.
        exclude_own: Whether, for precision, a query's own text or image is no candidate.
        deduplicate: Whether recall is scored also in a pool in which each text stands once.
    """

    precision_ks: list[int] = field(default_factory=list)
    exclude_own: bool = False
    deduplicate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.precision_ks, default=1) < 1:
            raise ValueError("precision_ks must hold numbers of at least 1, such as [1, 5, 10]")
        if self.exclude_own and not self.precision_ks:
            raise ValueError("exclude_own is for precision alone: give precision_ks, such as [1, 5, 10]")


class Retrieval(Task):
    """Recall at k and median rank in both directions, with chance beside each."""

    Config = RetrievalConfig
    needs: ClassVar[tuple[type, ...]] = (EmbedsImages, EmbedsText)
    definitions: ClassVar[Mapping[str, str]] = {
        "i2t_recall@k": (
            "Fraction of the images of which a right text is among the k texts nearest to the image; equal "
            "texts are all right."
        ),
        "t2i_recall@k": "Fraction of the texts of which a right image is among the k images nearest to the text.",
        "i2t_median_rank": "Half of the images have their best right text at this rank or before it; 1 is the nearest.",
        "t2i_median_rank": "Half of the texts have their best right image at this rank or before it; 1 is the nearest.",
        "i2t_own_recall@k": (
            "As i2t_recall@k, but only the image's own text counts, not an equal text of another image."
        ),
        "t2i_own_recall@k": "As t2i_recall@k, but only the text's own image counts.",
        "i2t_own_median_rank": "As i2t_median_rank, of the image's own text.",
        "t2i_own_median_rank": "As t2i_median_rank, of the text's own image.",
        "i2t_distinct_recall@k": (
            "As i2t_recall@k among the different texts, each of which stands once; the image's own is right."
        ),
        "t2i_distinct_recall@k": (
            "As t2i_recall@k, with each different text as one query; every image that has it is right."
        ),
        "i2t_precision@k": (
            "Of the k texts nearest to an image, among those of its source, the fraction whose image has the same "
            "labels."
        ),
        "t2i_precision@k": (
            "Of the k images nearest to a text, among those of its source, the fraction with the labels of the text's "
            "own image."
        ),
        "label_auc": (
            "Area under the ROC curve of what the texts say (side: left or right; extent: uni- or bilateral; number of "
            "areas), mean over the values: how often an image whose text says the value is nearer to the texts that "
            "say it than an image whose text says another."
        ),
    }
    headline = ("i2t_recall@k", "t2i_recall@k", "side/label_auc", "extent/label_auc", "number/label_auc")
    does = "retrieves"

    @staticmethod
    def skip_reason(image: EvaluationImage) -> str | None:
        if image.status in ("rejected", "failed"):
            return f"caption_{image.status}"
        if image.status == "unannotated":
            return "unannotated"
        if not image.report or not normalise(image.report):
            return "no_text"
        return "oracle" if image.oracle else None

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        excluded = self.excluded_images(test.images)
        indices = [index for index, image in enumerate(test.images) if image.key not in excluded]
        pool = len(indices)
        if pool < 2:
            reason = f"{pool} test images have a text that was not made from their own annotations; two are needed"
            return Result(status="skipped", reason=reason, excluded=excluded)
        pairs = [test.images[index] for index in indices]
        reports = [pair.report or "" for pair in pairs]
        images, texts = test.image_embeddings[indices], test.embed_texts(reports)
        groups = _text_groups(reports)
        ks = [k for k in self.config.ks if k <= pool]
        nearest = {} if test.scores_only else {name: Nearest.unknown(pool) for name in ("i2t", "t2i")}
        rank_of = retrieval_ranks(images, texts, groups, nearest)
        rank_of_distinct = distinct_ranks(images, texts, groups) if self.config.deduplicate else {}
        precision, precision_said = self._precision(pairs, images, texts, groups)

        among: list[Iterator[ItemScore]] = []

        def score_among(rows: Sequence[int]) -> GroupScores:
            chosen = np.array(rows)
            of_rows = images[chosen], texts[chosen], groups[chosen]
            found = retrieval_ranks(*of_rows), distinct_ranks(*of_rows) if self.config.deduplicate else {}
            among.append(_ranks([pairs[row] for row in rows], groups[chosen], *found, {}, AMONG_SOURCE))
            return score(rows, *found)

        def score(
            rows: Sequence[int], rank_of: Mapping[str, np.ndarray], of_distinct: Mapping[str, np.ndarray]
        ) -> GroupScores:
            chosen = np.array(rows)
            metrics = retrieval_scores(rank_of, groups[chosen], self.config.ks, bootstrap)
            of_rows = [pairs[row] for row in rows]
            metrics = _beside_baselines(metrics, of_rows, groups[chosen], [k for k in ks if k <= len(rows)])
            if of_distinct:
                metrics |= distinct_scores(of_distinct, groups[chosen], self.config.ks, bootstrap)
            present = {pair.source for pair in of_rows}
            metrics |= precision_scores([one for one in precision if one.labelled.source in present], groups, bootstrap)
            # Which of them are few is a property of the split: a source has the scores that the split has.
            if few(groups):
                said = [reports[row] for row in rows]
                metrics |= label_aucs(images[chosen], texts[chosen], said, groups[chosen], bootstrap)
            return GroupScores(items=len(rows), pool=len(rows), metrics=metrics)

        sources = [pair.source for pair in pairs]
        scores = score(range(pool), rank_of, rank_of_distinct)
        known = ceilings(knowledge(pairs), groups, ks)
        said = statement_counts(reports) if few(groups) else {}
        different = len(set(groups))
        counts = {name: sum(values.values()) for name, values in said.items()} | query_counts(precision)
        if self.config.deduplicate:
            counts |= {name: different for name in scores.metrics if name.startswith("t2i_distinct_")}
        return Result(
            scores=scores,
            by_source=score_by_source(sources, score_among, min_items=2),
            details={
                "ceilings": known,
                **({"items": counts} if counts else {}),
            },
            notes=[
                f"the {pool} images have {different} different texts",
                *_interval_notes(different, pool),
                *ceiling_notes(known),
                *statement_notes(said),
                *(
                    f"the source {source} has one item and no score by itself"
                    for source, count in sorted(Counter(sources).items())
                    if count == 1
                ),
                *recall_note(self.config.ks, pool, "candidates"),
                *(recall_note(self.config.ks, different, "different texts") if self.config.deduplicate else []),
                *precision_said,
                *other_reports_note(pairs),
            ],
            excluded=excluded,
            items=chain(
                _ranks(pairs, groups, rank_of, rank_of_distinct, nearest), *among, _precisions(pairs, precision)
            ),
            figure=_figure(scores.metrics, ks) if ks and not test.scores_only else None,
        )

    def _precision(
        self, pairs: Sequence[EvaluationImage], images: np.ndarray, texts: np.ndarray, groups: np.ndarray
    ) -> tuple[list[SourcePrecision], list[str]]:
        """The precision over labels of each source, and what a reader needs to know of it; nothing where it is off."""
        ks, exclude_own = self.config.precision_ks, self.config.exclude_own
        if not ks:
            return [], []
        labelled, alike = labelled_sources(pairs)
        found = [source_precision(images, texts, groups, one, ks, exclude_own=exclude_own) for one in labelled]
        unlabelled = sum(pair.labels is None for pair in pairs)
        return found, precision_notes(found, alike, unlabelled, ks, exclude_own=exclude_own)


def _ranks(
    pairs: Sequence[EvaluationImage],
    groups: np.ndarray,
    rank_of: Mapping[str, np.ndarray],
    rank_of_distinct: Mapping[str, np.ndarray],
    nearest: Mapping[str, Nearest],
    within: str = "",
) -> Iterator[ItemScore]:
    """Ranks, with what is nearest instead where that is known. A text that is asked goes by its first image."""
    for name, ranks in rank_of.items():
        for row, rank in enumerate(ranks.tolist()):
            output = _nearest(pairs, nearest[name], row) if name in nearest else None
            yield _item(pairs[row], f"{within}{name}_rank", rank, output)
    _, first = np.unique(groups, return_index=True)
    for name, ranks in rank_of_distinct.items():
        asked = range(len(pairs)) if name.startswith("i2t") else first.tolist()
        for row, rank in zip(asked, ranks.tolist(), strict=True):
            yield _item(pairs[row], f"{within}{name}_rank", rank)


def _precisions(pairs: Sequence[EvaluationImage], precision: Sequence[SourcePrecision]) -> Iterator[ItemScore]:
    for one in precision:
        for name, values in one.values.items():
            for row, value in zip(one.labelled.rows.tolist(), values.tolist(), strict=True):
                yield _item(pairs[row], name, value)


def _item(pair: EvaluationImage, metric: str, value: float, output: dict[str, Any] | None = None) -> ItemScore:
    prompt = pair.report if metric.removeprefix(AMONG_SOURCE).startswith("t2i") else None
    return ItemScore(pair, metric, float(value), prompt=prompt, output=output)


def _nearest(pairs: Sequence[EvaluationImage], found: Nearest, row: int) -> dict[str, Any]:
    """The image that is nearest to a text, or whose text is nearest to an image."""
    return {"nearest": pairs[found.places[row]].key, "cosine": round(float(found.similarities[row]), 6)}


def _text_groups(texts: Sequence[str]) -> np.ndarray:
    """Number of each text's group of equal texts; equal means: as the encoders read them."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(normalise(text), len(numbers)) for text in texts])


def _interval_notes(different: int, pool: int) -> list[str]:
    """What the intervals take for one observation."""
    together = (
        f"the intervals of t2i resample the {different} different texts, each with all of its images, for equal texts "
        "have one embedding"
    )
    return [
        *([together] if different < pool else []),
        independence_note("images, and different texts,", "patient"),
    ]


def _beside_baselines(
    metrics: Mapping[str, Score], images: Sequence[EvaluationImage], groups: np.ndarray, ks: Sequence[int]
) -> dict[str, Score]:
    """The recalls with what is known of each image, and, where texts repeat, with the most frequent text first."""
    result, steps = dict(metrics), knowledge(images)
    for k in ks:
        repeated = len(np.unique(groups)) < len(groups)
        majority = {"majority text": round(majority_recall(groups, k), 6)} if repeated else {}
        for way in ("i2t", "t2i"):
            name = f"{way}_recall@{k}"
            result[name] = replace(result[name], baselines={**majority, **baseline(steps, groups, way, k)})
    return result


def _figure(metrics: dict[str, Score], ks: Sequence[int]) -> Figure:
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    chances: dict[str, tuple[ColorType, list[float]]] = {}
    for name, label in (("i2t", "image to text"), ("t2i", "text to image")):
        scores = [metrics[f"{name}_recall@{k}"] for k in ks]
        (line,) = axes.plot(range(len(ks)), [score.value for score in scores], marker="o", label=label)
        lows, highs = zip(*(score.bounds for score in scores), strict=True)
        axes.fill_between(range(len(ks)), lows, highs, color=line.get_color(), alpha=0.2)
        chances[f"chance, {label}"] = line.get_color(), [score.chance for score in scores]
    (_, first), (_, second) = chances.values()
    if first == second:
        chances = {"chance": ("grey", first)}
    for label, (colour, values) in chances.items():
        axes.plot(range(len(ks)), values, linestyle="--", color=colour, label=label)
    axes.set_xticks(range(len(ks)), [f"R@{k}" for k in ks])
    axes.set_ylim(0, 1)
    axes.set_ylabel("recall, 95 % interval")
    axes.legend()
    return figure
