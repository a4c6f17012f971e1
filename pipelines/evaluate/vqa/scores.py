"""Accuracies of heads with what stands beside them, and the items that they are means of."""

from collections.abc import Iterator, Sequence

import numpy as np

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.guessing import CEILING
from pipelines.evaluate.metrics.bootstrap import Score, mean_score
from pipelines.evaluate.task import QUOTED, ItemScore
from pipelines.evaluate.vqa.asked import AskedQuestion, places_by_metric
from pipelines.evaluate.vqa.heads import Answered
from pipelines.evaluate.vqa.notes import TEXT_ONLY

VOCABULARY = f"{CEILING}training vocabulary"


def accuracies(
    asked: Sequence[AskedQuestion],
    answered: Answered,
    majority: np.ndarray,
    indices: Sequence[int],
    bootstrap: Bootstrap,
    setting: str = "",
) -> dict[str, Score]:
    """Accuracy of the questions at some indices, and of the open and of the closed ones where there are any.

    Args:
        asked: All questions.
        answered: What the heads make of them.
        majority: (asked,) bool, where the majority answer is right.
        indices: Places in `asked`, at least one.
        bootstrap: Resamples and seed.
        setting: What stands before the metrics' names.
    """
    metrics = {}
    for metric, places in places_by_metric(asked, indices).items():
        baselines = {
            TEXT_ONLY: float(answered.text_only[places].mean()),
            VOCABULARY: float(answered.reachable[places].mean()),
        }
        chance = float(majority[places].mean())
        metrics[setting + metric] = mean_score(answered.right[places], chance, bootstrap, baselines)
    return metrics


def accuracy_items(asked: Sequence[AskedQuestion], answered: Answered, setting: str = "") -> Iterator[ItemScore]:
    """Each question as an item of `accuracy`, and of the accuracy of its type, which are their means."""
    for one, said, value in zip(asked, answered.answers, answered.right.tolist(), strict=True):
        question = one.question
        output: dict[str, str | None] | None
        output = {"answer": None if said is None else said[:QUOTED], "expected": question.answer[:QUOTED]}
        for metric in ("accuracy", f"accuracy_{question.answer_type}"):
            yield ItemScore(
                one.image,
                setting + metric,
                float(value),
                item=question.question_id,
                prompt=question.question,
                output=output,
            )
            output = None
