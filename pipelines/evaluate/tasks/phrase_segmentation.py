"""Segmentation by phrase: does a method outline what one phrase means, among all that is outlined in an image?

A pair is a label of an image with the masks of all its regions, or a sentence of the source about regions with theirs
(`models/data/pairs.py`). Each is asked by itself: a label through a template, and through other templates where options
name some; a sentence as it is written. Beside the mask for the phrase stand the mask for the empty text, which no
phrase has changed (where it is as good, the phrase said nothing), and the place of the label on the training split.

Dice (Dice 1945), IoU (Jaccard 1912), HD95 and NSD (`metrics/surface.py`, which says what empty masks have) are of each
pair; macro scores are means over labels, as multi-organ benchmarks print them. No pixel is given to one label: masks of
two phrases may overlap, and each is scored as it is. Labels that the source says an image lacks are asked too; there
a mask of no pixel is right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from models.capabilities import SegmentsFromText
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet
from pipelines.evaluate.metrics.lesion_sizes import SIZES, Limits, by_size, thirds
from pipelines.evaluate.metrics.surface import DEFAULT_TOLERANCE, check_tolerance
from pipelines.evaluate.phrase_segmentation.asked import LABEL, asked_absences, asked_pairs
from pipelines.evaluate.phrase_segmentation.figure import figure
from pipelines.evaluate.phrase_segmentation.measure import AbsenceResult, Measured, PairResult, measure
from pipelines.evaluate.phrase_segmentation.notes import notes
from pipelines.evaluate.phrase_segmentation.scores import absence_scores, details, item_scores, pair_scores
from pipelines.evaluate.phrase_segmentation.training import MeanLabelMasks
from pipelines.evaluate.task import GroupScores, Result, Task, score_by_source

_MEANS = {
    "dice": "Dice: twice the pixels that a phrase's mask and its target share, over the sum of both; mean over pairs.",
    "iou": "Intersection over union of the mask for a phrase and its target; mean over pairs.",
    "nsd": (
        "Normalised surface Dice: fraction of both outlines that lies within a tolerance of the other; mean over pairs."
    ),
    "hd95": (
        "95th percentile of the distances between both outlines, in pixels; mean over pairs; less is better, and 0 is "
        "the best."
    ),
}


@dataclass(frozen=True, kw_only=True)
class PhraseSegmentationConfig:
    """Options of the task.

    Attributes:
        template: Prompt of a label; `{label}` stands for it.
        rewordings: Further templates, whose scores stand beside.
        surface: Whether outlines are measured (HD95 and NSD).
        tolerance: Of NSD, in pixels of the stored image.
        sizes: Upper ends of small and medium masks, as fractions of the image; null: thirds of the pairs.
        absences: Labels an image that are asked of it though it lacks them, at most.
    """

    template: str = LABEL
    rewordings: tuple[str, ...] = ()
    surface: bool = True
    tolerance: float = DEFAULT_TOLERANCE
    sizes: Limits | None = None
    absences: int = 3

    def __post_init__(self) -> None:
        for template in (self.template, *self.rewordings):
            if LABEL not in template:
                raise ValueError(f"template {template!r} needs {LABEL} in it")
        check_tolerance(self.tolerance)
        if self.sizes is not None and not 0 < self.sizes[0] < self.sizes[1] < 1:
            raise ValueError(
                f"sizes {list(self.sizes)} must be two fractions of the image that ascend, such as [0.01, 0.05]"
            )
        if self.absences < 0:
            raise ValueError(f"absences is {self.absences}; give 0 or more")


class PhraseSegmentation(Task):
    """Dice, IoU, HD95 and NSD of each phrase's mask, and what is predicted for labels that are not there."""

    Config = PhraseSegmentationConfig
    needs: ClassVar[tuple[type, ...]] = (SegmentsFromText,)
    definitions: ClassVar[Mapping[str, str]] = (
        {f"macro_{metric}": f"The mean over labels: {text}" for metric, text in _MEANS.items()}
        | _MEANS
        | {f"{size}/dice": f"Dice of the {size} masks, by the fraction of the image that they fill." for size in SIZES}
        | {
            "empty/dice": "Dice of the mask for the empty text with the target of each phrase.",
            "empty/iou": "Intersection over union of the mask for the empty text with the target of each phrase.",
            "reworded/dice": "Dice of the masks for the same labels in other words; mean over rewordings and pairs.",
            "reworded/agreement": (
                "Dice of the mask for a rewording with the mask for the prompt: 1 where other words change nothing."
            ),
            "absent/specificity": "Of labels that an image lacks, the fraction for which no pixel is predicted.",
            "absent/pixel_specificity": "Of labels that an image lacks, the mean fraction of it that is left out.",
        }
    )
    headline = ("macro_dice", "absent/specificity")
    does = "segments by phrase"

    @staticmethod
    def skip_reason(image: EvaluationImage) -> str | None:
        if not image.annotated and image.labels is None:
            return "unannotated"
        # What its labels deny is asked of an image without a target, too.
        return "no_target" if not image.has_target and image.labels is None else None

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        config: PhraseSegmentationConfig = self.config
        pairs = asked_pairs(test.pairs, config.template, config.rewordings)
        absences = asked_absences(test.images, test.pairs, config.template, config.absences, bootstrap.seed)
        if not pairs:
            reason = "no test image has a label, or a sentence about regions, with a mask"
            return Result(status="skipped", reason=reason, excluded=self._excluded(test.images, set(), set()))
        training = None
        if test.training_samples is not None:
            asked = {pair.pair.label for pair in pairs} | {absence.label for absence in absences}
            training = MeanLabelMasks(test.training_samples(), asked)
        tolerance = config.tolerance if config.surface else None
        measured = measure(test, pairs, absences, training, tolerance)
        scored = {pair.asked.index for pair in measured.pairs} | {one.asked.index for one in measured.absences}
        excluded = self._excluded(test.images, scored, {pair.index for pair in pairs})
        if not measured.pairs:
            reason = f"no mask of {len(pairs)} pairs has a pixel at the size of the shards"
            return Result(status="skipped", reason=reason, excluded=excluded)
        limits = self._limits(measured.pairs)
        every: list[PairResult | AbsenceResult] = [*measured.pairs, *measured.absences]

        def score(indices: Sequence[int]) -> GroupScores:
            return _score([every[index] for index in indices], limits, bootstrap)

        return Result(
            scores=score(range(len(every))),
            by_source=score_by_source([test.images[result.asked.index].source for result in every], score),
            details=self._details(measured, limits),
            notes=notes(
                measured,
                template=config.template,
                rewordings=config.rewordings,
                tolerance=tolerance,
                limits=limits,
                limits_given=config.sizes is not None,
                reads_text=test.model.reads_text,
            ),
            excluded=excluded,
            items=item_scores(test.images, measured, limits),
            figure=None if test.scores_only else figure(test, measured.pairs),
        )

    def _limits(self, results: Sequence[PairResult]) -> Limits | None:
        areas = [result.area for result in results if not result.asked.pair.is_sentence]
        return (self.config.sizes or thirds(areas)) if areas else None

    def _details(self, measured: Measured, limits: Limits | None) -> dict[str, Any]:
        labels = [result for result in measured.pairs if not result.asked.pair.is_sentence]
        counts = {"sentence": len(measured.pairs) - len(labels), "absent": len(measured.absences)}
        if limits is not None:
            sizes = by_size([result.area for result in labels], limits)
            counts |= {size: len(places) for size, places in sizes.items()}
        return {
            "items": counts,
            "sizes": None if limits is None else [round(limit, 6) for limit in limits],
            **details(measured.pairs, measured.absences, self.config.rewordings),
        }

    def _excluded(self, images: Sequence[EvaluationImage], scored: set[int], asked: set[int]) -> dict[str, str]:
        """Why the other images are left out: nothing can be asked, or (`asked`) no mask has a pixel."""
        return {
            image.key: "mask_empty_or_full" if index in asked else self.skip_reason(image) or _nothing_asked(image)
            for index, image in enumerate(images)
            if index not in scored
        }


def _nothing_asked(image: EvaluationImage) -> str:
    return "no_labels" if image.labels is None else "no_class_to_tell"


def _score(results: Sequence[PairResult | AbsenceResult], limits: Limits | None, bootstrap: Bootstrap) -> GroupScores:
    pairs = [result for result in results if isinstance(result, PairResult)]
    absences = [result for result in results if isinstance(result, AbsenceResult)]
    return GroupScores(
        items=sum(not result.asked.pair.is_sentence for result in pairs),
        metrics=pair_scores(pairs, limits, bootstrap) | absence_scores(absences, bootstrap),
    )
