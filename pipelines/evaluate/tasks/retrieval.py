"""Image-to-text and text-to-image retrieval over the test images that have a text of their own.

The text of an image is its report. `pipelines/evaluate/metrics/retrieval.py` defines the metrics. Beside chance stand
the order of the texts by frequency (`majority text`) and what known facts of the images would give (`ceiling: ...`).
Where few texts stand for many images, the images are also ranked by what the texts say (`label_auc`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from matplotlib.figure import Figure

from models.capabilities import EmbedsImages, EmbedsText
from models.text import normalise
from pipelines.evaluate.config import Bootstrap, RecallConfig
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet
from pipelines.evaluate.metrics.bootstrap import Score
from pipelines.evaluate.metrics.retrieval import majority_recall, retrieval_ranks, retrieval_scores
from pipelines.evaluate.retrieval.known import baseline, ceiling_notes, ceilings, knowledge
from pipelines.evaluate.retrieval.statements import few, label_aucs, statement_counts, statement_notes
from pipelines.evaluate.task import (
    GroupScores,
    ItemScore,
    Result,
    Task,
    other_reports_note,
    recall_note,
    score_by_source,
)


class Retrieval(Task):
    """Recall at k and median rank in both directions, with chance beside each."""

    Config = RecallConfig
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
        reports = [test.images[index].report or "" for index in indices]
        images, texts = test.image_embeddings[indices], test.embed_texts(reports)
        groups = _text_groups(reports)
        ks = [k for k in self.config.ks if k <= pool]
        rank_of = retrieval_ranks(images, texts, groups)

        def score_among(rows: Sequence[int]) -> GroupScores:
            chosen = np.array(rows)
            return score(rows, retrieval_ranks(images[chosen], texts[chosen], groups[chosen]))

        def score(rows: Sequence[int], of_rows: Mapping[str, np.ndarray]) -> GroupScores:
            chosen = np.array(rows)
            metrics = retrieval_scores(of_rows, groups[chosen], self.config.ks, bootstrap)
            pairs = [test.images[indices[row]] for row in rows]
            metrics = _beside_baselines(metrics, pairs, groups[chosen], [k for k in ks if k <= len(rows)])
            # Which of them are few is a property of the split: a source has the scores that the split has.
            if few(groups):
                said = [reports[row] for row in rows]
                metrics |= label_aucs(images[chosen], texts[chosen], said, groups[chosen], bootstrap)
            return GroupScores(items=len(rows), pool=len(rows), metrics=metrics)

        sources = [test.images[index].source for index in indices]
        scores = score(range(pool), rank_of)
        known = ceilings(knowledge([test.images[index] for index in indices]), groups, ks)
        said = statement_counts(reports) if few(groups) else {}
        return Result(
            scores=scores,
            by_source=score_by_source(sources, score_among, min_items=2),
            details={
                "ceilings": known,
                **({"items": {name: sum(values.values()) for name, values in said.items()}} if said else {}),
            },
            notes=[
                f"the {pool} images have {len(set(groups))} different texts",
                *ceiling_notes(known),
                *statement_notes(said),
                *(
                    f"the source {source} has one item and no score by itself"
                    for source, count in sorted(Counter(sources).items())
                    if count == 1
                ),
                *recall_note(self.config.ks, pool, "candidates"),
                *other_reports_note(test.images[index] for index in indices),
            ],
            excluded=excluded,
            items=(
                ItemScore(test.images[index], f"{name}_rank", float(rank))
                for name, of_queries in rank_of.items()
                for index, rank in zip(indices, of_queries, strict=True)
            ),
            figure=_figure(scores.metrics, ks) if ks and not test.scores_only else None,
        )


def _text_groups(texts: Sequence[str]) -> np.ndarray:
    """Number of each text's group of equal texts; equal means: as the encoders read them."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(normalise(text), len(numbers)) for text in texts])


def _beside_baselines(
    metrics: Mapping[str, Score], images: Sequence[EvaluationImage], groups: np.ndarray, ks: Sequence[int]
) -> dict[str, Score]:
    """The recalls with what is known of each image, and, where texts repeat, with the most frequent text first."""
    result, steps = dict(metrics), knowledge(images)
    for k in ks:
        baselines = baseline(steps, groups, k)
        if len(np.unique(groups)) < len(groups):
            baselines = {"majority text": round(majority_recall(groups, k), 6), **baselines}
        for name in (f"i2t_recall@{k}", f"t2i_recall@{k}"):
            result[name] = replace(result[name], baselines=baselines)
    return result


def _figure(metrics: dict[str, Score], ks: Sequence[int]) -> Figure:
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, label in (("i2t", "image to text"), ("t2i", "text to image")):
        scores = [metrics[f"{name}_recall@{k}"] for k in ks]
        (line,) = axes.plot(range(len(ks)), [score.value for score in scores], marker="o", label=label)
        lows, highs = zip(*(score.bounds for score in scores), strict=True)
        axes.fill_between(range(len(ks)), lows, highs, color=line.get_color(), alpha=0.2)
    chances = [metrics[f"i2t_recall@{k}"].chance for k in ks]
    axes.plot(range(len(ks)), chances, linestyle="--", color="grey", label="chance")
    axes.set_xticks(range(len(ks)), [f"R@{k}" for k in ks])
    axes.set_ylim(0, 1)
    axes.set_ylabel("recall, 95 % interval")
    axes.legend()
    return figure
