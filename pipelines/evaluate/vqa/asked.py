"""The questions of a split, one by one, and what a guess without a look at the image gets right of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.answering import normalise_answer
from models.data.format import ImageQuestion
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet

OPEN, CLOSED = "open", "closed"


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question about an image of a split.

    Attributes:
        index: Of the image in the split.
        image: The image.
        question: With its answer.
    """

    index: int
    image: EvaluationImage
    question: ImageQuestion


def asked_questions(split: EvaluationSet) -> list[AskedQuestion]:
    """All questions of a split, in the order of its images."""
    return [
        AskedQuestion(index, image, question)
        for index, (image, questions) in enumerate(zip(split.images, split.questions, strict=True))
        for question in questions
    ]


def places_by_metric(asked: Sequence[AskedQuestion], indices: Sequence[int]) -> dict[str, list[int]]:
    """Metric -> those of the indices whose questions it counts: all, the open, the closed ones; of none no metric."""
    kinds = {"accuracy": (OPEN, CLOSED), "accuracy_open": (OPEN,), "accuracy_closed": (CLOSED,)}
    places = {
        metric: [index for index in indices if asked[index].question.answer_type in of_metric]
        for metric, of_metric in kinds.items()
    }
    return {metric: found for metric, found in places.items() if found}


def majority_answers(
    training: Sequence[AskedQuestion], form: Callable[[str], str] = normalise_answer
) -> dict[str, str]:
    """Type -> the most frequent answer of the training questions of the type; of equally frequent ones the first.

    Answers are the same where `form` gives the same of them, which is what is returned.
    """
    counts: dict[str, Counter[str]] = {}
    for one in training:
        of_type = counts.setdefault(one.question.answer_type, Counter())
        of_type[form(one.question.answer)] += 1
    return {kind: min(answers, key=lambda answer: (-answers[answer], answer)) for kind, answers in counts.items()}


def majority_right(training: Sequence[AskedQuestion], asked: Sequence[AskedQuestion]) -> np.ndarray:
    """(asked,) bool: where the majority answer of the type is right; never of a type that no training question has."""
    majority = majority_answers(training)
    questions = (one.question for one in asked)
    return np.array([majority.get(one.answer_type) == normalise_answer(one.answer) for one in questions], dtype=bool)
