"""The published split of questions beside that of images, where it parts the questions of one image: `published/...`.

Of VQA-RAD, which is published so, 202 of the 203 test images are asked about in training too. Heads of their own learn
from the questions that are published as training, also where an image of the test or the validation split is asked
about, and are asked those that are published as test. They have seen the images of most test questions, so their scores
are too high for new images: they compare with figures that others print of the same split, and with nothing else. No
question that is published as test is learnt from, and epochs are chosen on training questions of a fifth of the groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from models.answering import HeadSettings
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.guessing import PUBLISHED
from pipelines.evaluate.metrics.bootstrap import Score
from pipelines.evaluate.task import Result
from pipelines.evaluate.vqa.asked import AskedQuestion, asked_questions, majority_right, places_by_metric
from pipelines.evaluate.vqa.heads import Answered, Learnt, answer
from pipelines.evaluate.vqa.notes import ceilings, epochs_note, vocabulary_counts
from pipelines.evaluate.vqa.scores import accuracies, accuracy_items

TRAIN, TEST = "train", "test"

_QUESTIONS = {"accuracy": "questions", "accuracy_open": "open questions", "accuracy_closed": "closed questions"}
# Metric -> what it means (`Task.definitions`).
DEFINITIONS: Mapping[str, str] = {
    f"{PUBLISHED}{metric}": (
        f"Fraction of the {questions} published as test that a head answers rightly which learnt from those published "
        "as training. Both ask about the same images, so that it leaks: it compares with printed figures alone."
    )
    for metric, questions in _QUESTIONS.items()
}


@dataclass(frozen=True, kw_only=True)
class PublishedSplit:
    """The questions of the sources whose published split parts the questions of one image.

    Attributes:
        asked: Those published as test, about images of the test split.
        learnt: Those published as training, about images of any split.
        elsewhere: Number of those published as test about images of other splits, which nobody is asked.
    """

    asked: list[AskedQuestion]
    learnt: Learnt
    elsewhere: int

    @property
    def lessons(self) -> list[AskedQuestion]:
        """All of `learnt`."""
        return [one for _, of_split in self.learnt for one in of_split]

    @property
    def shared(self) -> int:
        """Number of questions asked about images that are learnt from too."""
        images = {one.image.key for one in self.lessons}
        return sum(one.image.key in images for one in self.asked)


def published_split(test: EvaluationSet) -> PublishedSplit | None:
    """The published split of a test split's questions; None where there is none, or it is one of images."""
    splits = [split for split in (test.sighted, test.asked_training, test.asked_validation) if split is not None]
    questions = [(split, asked_questions(split)) for split in splits]
    kinds: dict[tuple[str, str], set[str | None]] = {}
    for _, of_split in questions:
        for one in of_split:
            kinds.setdefault((one.image.source, one.image.key), set()).add(one.question.published_split)
    sources = {source for (source, _), published in kinds.items() if published >= {TRAIN, TEST}}

    def published(of_split: Sequence[AskedQuestion], name: str) -> list[AskedQuestion]:
        return [one for one in of_split if one.image.source in sources and one.question.published_split == name]

    asked = published(questions[0][1], TEST)
    if not asked:
        return None
    return PublishedSplit(
        asked=asked,
        learnt=[(split, published(of_split, TRAIN)) for split, of_split in questions],
        elsewhere=sum(len(published(of_split, TEST)) for _, of_split in questions[1:]),
    )


def beside_published(result: Result, test: EvaluationSet, settings: HeadSettings, bootstrap: Bootstrap) -> Result:
    """A result of `vqa` with the metrics `published/...`, where there is such a split.

    Args:
        result: Of the split of images.
        test: That split; not the one on which options are chosen.
        settings: Of the heads.
        bootstrap: Resamples and seed.
    """
    split = published_split(test)
    if split is None:
        return result
    asked, lessons = split.asked, split.lessons
    answered = answer(test, asked, split.learnt, settings, PUBLISHED)
    majority = majority_right(lessons, asked)

    def scores(indices: Sequence[int]) -> dict[str, Score]:
        return accuracies(asked, answered, majority, indices, bootstrap, PUBLISHED)

    def of_source(source: str) -> list[int]:
        return [index for index, one in enumerate(asked) if one.image.source == source]

    by_source = {
        source: replace(group, metrics={**group.metrics, **scores(of_source(source))})
        for source, group in result.by_source.items()
    }
    everything = range(len(asked))
    items = {f"{PUBLISHED}{metric}": len(places) for metric, places in places_by_metric(asked, everything).items()}
    details = _details(split, answered)
    return replace(
        result,
        scores=replace(result.scores, metrics={**result.scores.metrics, **scores(everything)}),
        by_source=by_source,
        details={**result.details, "items": {**result.details["items"], **items}, "published": details},
        notes=[*result.notes, *_notes(split, answered, details)],
        items=chain(result.items, accuracy_items(asked, answered, PUBLISHED)),
        chosen={**result.chosen, **answered.chosen},
    )


def _details(split: PublishedSplit, answered: Answered) -> dict[str, Any]:
    return {
        "questions": len(split.asked),
        "on_training_images": split.shared,
        "elsewhere": split.elsewhere,
        "training_questions": len(split.lessons),
        "vocabulary": vocabulary_counts(answered),
        "ceiling": ceilings(split.asked, answered),
    }


def _notes(split: PublishedSplit, answered: Answered, details: Mapping[str, Any]) -> list[str]:
    ceiling = ", ".join(f"{name} {value:.3f}" for name, value in details["ceiling"].items())
    notes = [
        f"{PUBLISHED}...: heads of their own learn from the {details['training_questions']} questions published as "
        f"training, and are asked the {details['questions']} published as test; {details['on_training_images']} of "
        "these are about images that training questions show too: a leak, so that the scores compare with printed ones "
        "of this split alone",
        f"{PUBLISHED}...: chance, text-only head and vocabulary are of those training questions; nobody can score "
        f"higher than {ceiling}",
        f"{PUBLISHED}...: {epochs_note(answered, PUBLISHED)}",
    ]
    if split.elsewhere:
        notes.append(
            f"{PUBLISHED}...: {split.elsewhere} questions published as test are about images of other splits; they are "
            "neither asked nor learnt from, so that the scores are of a part of the published test split"
        )
    return notes
