"""The heads that answer the questions of a split: one that sees the image, and one that reads the question alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from models.answering import UNKNOWN, AnswerHead, Examples, HeadSettings, Vocabulary, best_epoch, train_head
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.vqa.asked import AskedQuestion

# Questions that heads learn from, by the split that has their images.
Learnt = Sequence[tuple[EvaluationSet, Sequence[AskedQuestion]]]

# Names in `Result.chosen`, behind the setting.
EPOCHS, TEXT_ONLY_EPOCHS = "epochs", "text_only_epochs"
# Without questions on validation images, of the groups of training images so many are held out to choose an epoch.
HELD_OUT = 1 / 5


@dataclass(frozen=True)
class Answered:
    """What the heads make of the questions of a split; arrays have the shape (questions,).

    Attributes:
        vocabulary: Of the training questions.
        answers: What the head answers, as `normalise_answer` writes it; None where training has no answer of the type.
        right: Where that is right.
        text_only: Where that of the head without the image is.
        reachable: Where a training question of the type has the right answer.
        chosen: Epochs of both heads.
        held_out: Training questions that chose them; None: the validation split did, or does.
    """

    vocabulary: Vocabulary
    answers: Sequence[str | None]
    right: np.ndarray
    text_only: np.ndarray
    reachable: np.ndarray
    chosen: dict[str, Any]
    held_out: int | None


def answer(
    test: EvaluationSet, asked: Sequence[AskedQuestion], learnt: Learnt, settings: HeadSettings, setting: str = ""
) -> Answered:
    """Train both heads and let them answer.

    Args:
        test: The split; what it was given (`chosen`) decides where the epochs come from.
        asked: Its questions, at least one.
        learnt: The training questions, at least one.
        settings: Of the heads.
        setting: What stands before the names of what is chosen.
    """
    lessons = [one for _, of_split in learnt for one in of_split]
    questions = [one.question for one in lessons]
    vocabulary = Vocabulary.of([one.answer for one in questions], [one.answer_type for one in questions])
    examples = _examples(test, test, asked, vocabulary)
    known = Examples.joined([_examples(test, split, of_split, vocabulary) for split, of_split in learnt if of_split])
    held_out = None if test.chosen is None or setting + EPOCHS in test.chosen else _held_out(lessons)

    def fit(name: str, known: Examples, examples: Examples) -> tuple[int, AnswerHead]:
        if test.chosen is None:
            return best_epoch(known, examples, settings)
        if name in test.chosen:
            epochs = int(test.chosen[name])
        elif held_out is None or not held_out.any():
            epochs = settings.epochs
        else:
            epochs, _ = best_epoch(known.at(~held_out), known.at(held_out), settings)
        return epochs, train_head(known, settings, epochs)

    epochs, head = fit(setting + EPOCHS, known, examples)
    blind_epochs, blind_head = fit(setting + TEXT_ONLY_EPOCHS, known.without_images(), examples.without_images())
    answers = head.answer(examples)
    return Answered(
        vocabulary=vocabulary,
        answers=[None if place == UNKNOWN else vocabulary.answers[place] for place in answers.tolist()],
        right=_right(answers, examples),
        text_only=_right(blind_head.answer(examples.without_images()), examples),
        reachable=(examples.answers != UNKNOWN).numpy(),
        chosen={setting + EPOCHS: epochs, setting + TEXT_ONLY_EPOCHS: blind_epochs},
        held_out=None if held_out is None else int(held_out.sum()),
    )


def _examples(
    test: EvaluationSet, split: EvaluationSet, asked: Sequence[AskedQuestion], vocabulary: Vocabulary
) -> Examples:
    """The questions of a split as a head reads them; `test` keeps the embeddings of texts."""
    types = [one.question.answer_type for one in asked]
    return Examples(
        images=torch.tensor(split.image_embeddings[[one.index for one in asked]]),
        questions=torch.tensor(test.embed_texts([one.question.question for one in asked])),
        allowed=vocabulary.allowed(types),
        answers=vocabulary.numbers([one.question.answer for one in asked], types),
    )


def _held_out(learnt: Sequence[AskedQuestion]) -> torch.Tensor:
    """(questions,) bool: those of a fifth of the groups, by a hash of their names; none where there is one group."""
    names = [one.image.group or one.image.key for one in learnt]
    groups = sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).digest())
    drawn = set(groups[: max(1, round(HELD_OUT * len(groups)))]) if len(groups) > 1 else set()
    return torch.tensor([name in drawn for name in names])


def _right(answers: torch.Tensor, examples: Examples) -> np.ndarray:
    return ((answers == examples.answers) & (examples.answers != UNKNOWN)).numpy()
