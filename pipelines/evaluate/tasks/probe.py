"""Probe: how well findings are told apart by frozen features and a few labelled training images.

The image encoder stays as it is. Of each class the shots (1, 5 or all) are drawn from the training split, several times
(`pipelines/evaluate/probe/draws.py`), and heads learn from their embeddings: logistic regression, and, of a method that
embeds texts too, prototypes blended with the prompts of the class (`blend/...`; `probe/heads.py`). A score is the mean
over the draws, and its interval covers draws and test images (`probe/scores.py`). Penalty and weight of the blend are
chosen on the validation split, for each source and number of shots.

Classes are those of the task `zero_shot`: the findings of a source, by its own images alone. Where each labelled image
of a source, of any split, has exactly one label, no finding counting as one, one head tells them all apart, and its
accuracy is scored; elsewhere each finding has a head of its own, with as many shots without it as with it. `auc_macro`
is the mean of the findings' AUCs, one against the rest. A finding that no test image or every test image has, or of
which training has fewer images than shots, has no AUC and is named; for accuracy an image of such a class counts as
wrong.

Without pixels, AUC is 0.5. Beside accuracy stand one in the number of classes as chance, the majority class, and
guesses by the labels' prior, both those of training.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import ClassVar

import numpy as np
from threadpoolctl import threadpool_limits

from models.capabilities import EmbedsImages, EmbedsText
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet
from pipelines.evaluate.probe.answers import Setting, SourceAnswers, source_answers
from pipelines.evaluate.probe.draws import draw_orders
from pipelines.evaluate.probe.figure import few_shot_figure
from pipelines.evaluate.probe.heads import BlendHead, Head, LinearHead, Vectors, class_texts
from pipelines.evaluate.probe.notes import class_details, probe_notes, skipped_classes
from pipelines.evaluate.probe.problems import ALL, Problem, Shots, SourceProblems, source_problems
from pipelines.evaluate.probe.scores import ACCURACY, PREFIXES, DrawnScore, probe_scores
from pipelines.evaluate.task import GroupScores, ItemScore, Result, Task, score_by_source
from pipelines.evaluate.training_embeddings import TrainingEmbeddings
from pipelines.evaluate.zero_shot.prompts import ClassPrompts

MIN_DRAWS = 5
# `items.parquet` keeps the answers of all draws about an image in one cell (`pipelines.records.MOST_OUTPUT`).
MAX_DRAWS = 500


def _prompts() -> ClassPrompts:
    return ClassPrompts(
        templates=["a {label}", "an image with a {label}"], negatives=["no {label}", "an image without a {label}"]
    )


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Options of the task.

    Attributes:
        shots: Training images of each class; `all` of them.
        draws: How often shots are drawn; `all` are one draw.
        seed: Of the draws.
        prompts: Those of the blend.
    """

    shots: list[Shots] = field(default_factory=lambda: [1, 5, ALL])
    draws: int = MIN_DRAWS
    seed: int = 0
    prompts: ClassPrompts = field(default_factory=_prompts)

    def __post_init__(self) -> None:
        if self.draws < MIN_DRAWS:
            raise ValueError(f"draws must be at least {MIN_DRAWS}, for the interval covers them")
        if self.draws > MAX_DRAWS:
            raise ValueError(f"draws must be at most {MAX_DRAWS}: the answers of all of them are kept")
        wrong = [k for k in self.shots if (k != ALL if isinstance(k, str) else k < 1)]
        if wrong or not self.shots or len(set(self.shots)) < len(self.shots):
            raise ValueError(f"shots must hold different numbers of at least 1, or {ALL}, such as [1, 5, {ALL}]")


class Probe(Task):
    """Macro AUC and accuracy of heads over frozen features, by shots, with chance and the labels' prior beside each."""

    Config = ProbeConfig
    needs: ClassVar[tuple[type, ...]] = (EmbedsImages,)
    definitions: ClassVar[Mapping[str, str]] = {
        "auc_macro@k": (
            "Area under the ROC curve, mean over the findings: how often an image with the finding scores higher than "
            "one without it, by a linear head over frozen features that learned from k training images of each class."
        ),
        "accuracy@k": (
            "Fraction of the images whose class the same head names, of sources whose images have exactly one label."
        ),
        "blend/auc_macro@k": (
            "As auc_macro@k, by the cosine with the mean of the k images, blended with the embedding of the class's "
            "prompts."
        ),
        "blend/accuracy@k": "As accuracy@k, by the cosine with the mean of the k images, blended with the prompts.",
    }
    headline = ("auc_macro@k", "accuracy@k", "blend/auc_macro@k")
    does = "tells findings apart with labelled training images"
    chooses = True
    reads_classes = True
    learns = True

    @staticmethod
    def skip_reason(image: EvaluationImage) -> str | None:
        return "no_labels" if image.labels is None else None

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        excluded = self.excluded_images(test.images)
        if len(excluded) == len(test.images):
            return Result(status="skipped", reason="no test image has labels", excluded=excluded)
        training = test.training_embeddings
        if training is None:
            unlearned = {image.key: "no_training_shots" for image in test.images}
            return Result(status="skipped", reason="there are no training images", excluded=unlearned | excluded)
        found = source_problems(test.images, training, test.source_classes)
        answered, unfinished = self._answers(test, training, found)
        scored = [source for source in answered if source.answers]
        excluded |= _left_out(test.images, answered)
        skipped = skipped_classes(found, self.config.shots)
        if not scored:
            reasons = "; ".join(dict.fromkeys(name for names in skipped.values() for name in names))
            reason = f"no source has findings that its training and its test images tell apart ({reasons or 'none'})"
            return Result(status="skipped", reason=reason, excluded=excluded)
        settings = [(head, k) for head in PREFIXES for k in self.config.shots]
        drawn = probe_scores(scored, settings, bootstrap)

        def score(indices: Sequence[int]) -> GroupScores:
            some = [scored[index] for index in indices]
            return _group(some, probe_scores(some, settings, bootstrap))

        scores = _group(scored, drawn)
        return Result(
            scores=scores,
            by_source=score_by_source([source.of.source for source in scored], score),
            details={
                "items": {name: one.images for name, one in drawn.items()},
                "deviation_over_draws": {
                    name: round(one.deviation, 6) for name, one in drawn.items() if one.deviation is not None
                },
                "classes": class_details(scored),
                "skipped_classes": skipped,
            },
            notes=probe_notes(scored, skipped, self.config.draws, unfinished, max_regions=test.model.max_regions),
            excluded=excluded,
            items=chain(
                _items(test.images, scored, settings),
                () if test.scores_only else _scores(test.images, scored, settings),
            ),
            figure=None if test.scores_only else few_shot_figure(scores.metrics, self.config.shots),
            chosen={source.of.source: source.chosen for source in scored if source.chosen},
        )

    def _answers(
        self, test: EvaluationSet, training: TrainingEmbeddings, found: Sequence[SourceProblems]
    ) -> tuple[list[SourceAnswers], tuple[int, int]]:
        """What the heads answer in each source; how many linear ones had not converged, and of how many."""
        texts_of = self._texts(test, found) if test.model.offers(EmbedsText) else None
        answered, unfinished, fitted = [], 0, 0
        embeddings = test.image_embeddings
        # One thread, because sums of floats depend on their number; images are embedded by now.
        with threadpool_limits(limits=1):
            for source in found:
                if not len(source.training_rows):
                    answered.append(SourceAnswers(source, {}, {}, []))
                    continue
                trained = training.embeddings[source.training_rows]
                tested = embeddings[source.test_rows]
                linear = LinearHead(trained, tested)
                heads: list[Head] = [linear, *([BlendHead(trained, tested, texts_of)] if texts_of else [])]
                keys = [training.keys[row] for row in source.training_rows]
                orders = draw_orders(keys, self.config.seed, self.config.draws)
                given = None if test.chosen is None else test.chosen.get(source.source, {})
                answered.append(source_answers(source, heads, self.config.shots, orders, given))
                unfinished, fitted = unfinished + linear.unfinished, fitted + linear.fitted
        return answered, (unfinished, fitted)

    def _texts(self, test: EvaluationSet, found: Sequence[SourceProblems]) -> Callable[[Problem], Vectors]:
        texts = {
            (one.source, one.classes): class_texts(test.embed_texts, one, self.config.prompts)
            for source in found
            for one in source.problems
            if len(one.classes) > 1
        }
        return lambda problem: texts[problem.source, problem.classes]


def _group(sources: Sequence[SourceAnswers], drawn: Mapping[str, DrawnScore]) -> GroupScores:
    images = sum(len(source.of.test_rows) for source in sources)
    return GroupScores(items=images, pool=images, metrics={name: one.score for name, one in drawn.items()})


def _left_out(images: Sequence[EvaluationImage], answered: Sequence[SourceAnswers]) -> dict[str, str]:
    """Key -> reason code of the labelled images of the sources in which nothing is told."""
    left_out: dict[str, str] = {}
    for source in answered:
        if not source.answers:
            told = any(problem.told_in_test for problem in source.of.problems)
            reason = "no_training_shots" if told else "no_class_to_tell"
            left_out |= {images[row].key: reason for row in source.of.test_rows}
    return left_out


def _items(
    images: Sequence[EvaluationImage], sources: Sequence[SourceAnswers], settings: Sequence[Setting]
) -> Iterator[ItemScore]:
    """How often each image's class was named, in all draws and in each."""
    for head, k in settings:
        for source in sources:
            for answers in source.answers.get((head, k), ()):
                if answers.right is not None:
                    values, by_image = answers.right.mean(axis=0, dtype=np.float64), answers.right.T
                    for row, value, draws in zip(source.of.test_rows, values.tolist(), by_image, strict=True):
                        output = {"draws": [round(right, 6) for right in draws.tolist()]}
                        yield ItemScore(images[row], f"{PREFIXES[head]}{ACCURACY}@{k}", value, output=output)


def _scores(
    images: Sequence[EvaluationImage], sources: Sequence[SourceAnswers], settings: Sequence[Setting]
) -> Iterator[ItemScore]:
    """How much each image looks like each finding: the mean over the draws, and each, of which the AUCs are made.

    These are items of no metric: an AUC that is a mean over draws is no gate of promotion.
    """
    for head, k in settings:
        for source in sources:
            for answers in source.answers.get((head, k), ()):
                for number, scores in answers.scores.items():
                    label, truth = answers.problem.classes[number], (answers.problem.truth == number).tolist()
                    values = scores.mean(axis=0, dtype=np.float64).tolist()
                    for row, value, draws, there in zip(source.of.test_rows, values, scores.T, truth, strict=True):
                        # The shortest decimals that are another number of float32 for each: order and ties stay.
                        output = {"draws": [float(str(score)) for score in draws], "truth": int(there)}
                        yield ItemScore(images[row], f"{PREFIXES[head]}score@{k}", value, label=label, output=output)
