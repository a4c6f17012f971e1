"""Visual question answering: a small head over the method's embeddings of image and question picks an answer.

The method stays as it is; what is learnt, from the questions of the training images alone, is `models.answering`'s
head. Its answers are those of the training questions of the same type, open or closed, so that the fraction of test
questions whose answer is among them is a ceiling (`ceiling: training vocabulary`). Accuracy is that of exact matches
after `models.answering.normalise_answer`, overall and by type, as in VQA-RAD's and SLAKE's tables.

The number of epochs is the best one on the validation split, and never comes from test. Where no validation image has
a question, as in VQA-RAD's published split, training questions of a fifth of the groups are held out to choose it, and
the head is then trained on all.

An image is in one split with all of its questions, wherever these are published: of VQA-RAD, whose published split asks
about nearly each test image in training too, the questions of the test images are all test questions here; what of them
is published as test is in `details` (`published_test`). Beside that, metrics `published/...` are those of the published
split as it is, with its leak (`pipelines/evaluate/vqa/published.py`).

An option, `served`, asks a served vision-language model the same questions about the same images: metrics `served/...`
stand beside those of the method (`pipelines/evaluate/vqa/beside.py`), and when its answer in free words is right says
`pipelines/evaluate/vqa/matching.py`.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from models.capabilities import EmbedsImages, EmbedsText
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet
from pipelines.evaluate.task import GroupScores, Result, Task, score_by_source
from pipelines.evaluate.vqa import matching, published
from pipelines.evaluate.vqa.asked import asked_questions, majority_right
from pipelines.evaluate.vqa.config import VqaConfig
from pipelines.evaluate.vqa.heads import answer
from pipelines.evaluate.vqa.notes import details, notes
from pipelines.evaluate.vqa.scores import accuracies, accuracy_items


class Vqa(Task):
    """Accuracy of answers, of all questions and by answer type; chance is the majority answer."""

    Config = VqaConfig
    needs: ClassVar[tuple[type, ...]] = (EmbedsImages, EmbedsText)
    definitions: ClassVar[Mapping[str, str]] = {
        "accuracy": (
            "Fraction of the questions that are answered rightly by a small head, which was trained on the method's "
            "embeddings of the training images and questions; answers match but for case, punctuation and articles."
        ),
        "accuracy_open": "As accuracy, of the questions that the source calls open.",
        "accuracy_closed": "As accuracy, of the questions that the source calls closed, such as yes or no.",
        **published.DEFINITIONS,
        **matching.DEFINITIONS,
    }
    headline = ("accuracy_open", "accuracy_closed")
    does = "answers questions"
    chooses = True
    asks = True
    learns = True

    @staticmethod
    def skip_reason(image: EvaluationImage) -> str | None:
        # An image does not hold its questions: `_unasked` leaves those out that have none.
        return None

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        excluded = _unasked(test)
        asked = asked_questions(test)
        if not asked:
            return Result(status="skipped", reason="no image of the split has a question", excluded=excluded)
        training = test.asked_training
        learnt = [] if training is None else asked_questions(training)
        if training is None or not learnt:
            reason = "no training image has a question, so that there is no answer to learn"
            return Result(status="skipped", reason=reason, excluded=excluded)
        answered = answer(test, asked, [(training, learnt)], self.config)
        majority = majority_right(learnt, asked)

        def score(indices: Sequence[int]) -> GroupScores:
            metrics = accuracies(asked, answered, majority, indices, bootstrap)
            return GroupScores(items=len(indices), pool=len(answered.vocabulary.answers), metrics=metrics)

        counts = details(test, asked, learnt, answered)
        result = Result(
            scores=score(range(len(asked))),
            by_source=score_by_source([one.image.source for one in asked], score),
            details=counts,
            notes=notes(asked, answered, counts),
            excluded=excluded,
            items=accuracy_items(asked, answered),
            chosen=answered.chosen,
        )
        if self.config.served is not None:
            # Here, for a head alone needs no HTTP.
            from pipelines.evaluate.vqa.beside import beside_served

            result = beside_served(result, test, asked, learnt, self.config.served, bootstrap)
        # What is published as test is asked of the test split alone.
        return result if test.chosen is None else published.beside_published(result, test, self.config, bootstrap)


def _unasked(test: EvaluationSet) -> dict[str, str]:
    pairs = zip(test.images, test.questions, strict=True)
    return {image.key: "no_questions" for image, questions in pairs if not questions}
