"""What a reader needs to read the scores of `vqa`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.task import independence_note
from pipelines.evaluate.vqa.asked import AskedQuestion, places_by_metric
from pipelines.evaluate.vqa.heads import EPOCHS, TEXT_ONLY_EPOCHS, Answered

TEXT_ONLY = "text-only head"


def details(
    test: EvaluationSet, asked: Sequence[AskedQuestion], learnt: Sequence[AskedQuestion], answered: Answered
) -> dict[str, Any]:
    """Counts of questions and answers, and the ceiling: all as JSON.

    Args:
        test: The split.
        asked: Its questions.
        learnt: The training questions.
        answered: Of `asked`.
    """
    published = np.array([one.question.published_split == "test" for one in asked])
    return {
        "items": {name: len(places) for name, places in places_by_metric(asked, range(len(asked))).items()},
        "training_questions": len(learnt),
        "vocabulary": vocabulary_counts(answered),
        "ceiling": ceilings(asked, answered),
        "in_training_groups": sum(one.image.group in test.training_groups for one in asked if one.image.group),
        "published_test": {
            "questions": int(published.sum()),
            "accuracy": _fraction(answered.right[published]) if published.any() else None,
        },
    }


def vocabulary_counts(answered: Answered) -> dict[str, int]:
    """Number of answers that can be given: all, and by type."""
    of_type = {kind: int(mask.sum()) for kind, mask in answered.vocabulary.of_type.items()}
    return {"answers": len(answered.vocabulary.answers), **of_type}


def ceilings(asked: Sequence[AskedQuestion], answered: Answered) -> dict[str, float]:
    """Metric -> the fraction of its questions whose answer can be given."""
    places = places_by_metric(asked, range(len(asked)))
    return {name: _fraction(answered.reachable[of_metric]) for name, of_metric in places.items()}


def notes(asked: Sequence[AskedQuestion], answered: Answered, counts: dict[str, Any]) -> list[str]:
    """The notes.

    Args:
        asked: The questions.
        answered: What the heads made of them.
        counts: `details`.
    """
    count, images = len(asked), len({one.index for one in asked})
    vocabulary = counts["vocabulary"]
    typed = ", ".join(f"{number} {kind}" for kind, number in vocabulary.items() if kind != "answers")
    found = [
        f"{count} questions on {images} images; the head learnt from {counts['training_questions']} training questions",
        "an answer is right where it is the source's, but for case, punctuation and articles; whether a question is "
        "open or closed is given, and only answers that training questions of that type have are in reach",
        f"chance is the most frequent answer of the training questions of the same type; {TEXT_ONLY} is the same head, "
        "trained alike, with the images hidden",
        f"the training questions have {vocabulary['answers']} answers ({typed}); {int(answered.reachable.sum())} of "
        f"{count} questions have their answer among them, and nobody can score higher "
        f"({', '.join(f'{name} {value:.3f}' for name, value in counts['ceiling'].items())})",
        epochs_note(answered),
        independence_note("questions", "image or patient"),
        _leaks(counts["in_training_groups"], count),
    ]
    elsewhere = sum(one.question.published_split not in (None, "test") for one in asked)
    published = counts["published_test"]
    if elsewhere and published["questions"]:
        found.append(
            f"{elsewhere} of {count} questions are published in another split than test, and are here because their "
            f"image is; on the {published['questions']} of the published test split accuracy is "
            f"{published['accuracy']:.3f}, of a head that learnt from the training images alone"
        )
    return found


def epochs_note(answered: Answered, setting: str = "") -> str:
    """How long the heads were trained, and what says so; `setting` as of `heads.answer`."""
    epochs, text_only = answered.chosen[setting + EPOCHS], answered.chosen[setting + TEXT_ONLY_EPOCHS]
    said = f"epochs of training: {epochs} of the head, {text_only} of {TEXT_ONLY}"
    if answered.held_out is None:
        return f"{said}: the best on the validation split"
    if not answered.held_out:
        return f"{said}: there was nothing to choose them on"
    return f"{said}: the best on {answered.held_out} training questions that were held out, for want of validation ones"


def _leaks(leaks: int, count: int) -> str:
    if leaks:
        return f"{leaks} of {count} questions are about images whose patient or scene is in training too: a leak"
    return "no question is about an image whose patient or scene is known to be in training too"


def _fraction(values: np.ndarray) -> float:
    return round(float(values.mean()), 6)
