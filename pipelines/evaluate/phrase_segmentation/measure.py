"""The answers to what is asked of each image, against the masks: one pass over the images, and no mask is kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.data.pairs import pair_mask
from models.data.shards import Sample
from models.geometry import Mask
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.metrics.segmentation import EVERY_PIXEL, confusion_counts, dice, iou
from pipelines.evaluate.metrics.surface import surface_agreement
from pipelines.evaluate.phrase_segmentation.asked import AskedAbsence, AskedPair
from pipelines.evaluate.phrase_segmentation.training import MeanLabelMasks
from pipelines.evaluate.segmentation.kept import KeptMasks
from pipelines.evaluate.segmentation.masks import predicted_masks, without_padding

# The method's own answer, and those that stand beside it.
METHOD = "method"
EMPTY_TEXT, TRAINING_MASK = "empty text", "mean training mask"
# What of a target may be missing in the regions that the shards hold of it, by the edges of masks of another size.
_MISSING = 0.05


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """A pair with the scores of the answers.

    Attributes:
        asked: The pair.
        area: Fraction of the image that its mask fills, above 0.
        counts: Of the mask for the prompt: the row of `metrics.segmentation`.
        values: Answer -> metric (dice, iou, and hd95 and nsd where outlines are measured) -> value.
        reworded: Dice of the answer to each rewording.
        agreement: Dice of each of these answers with the one to the prompt.
    """

    asked: AskedPair
    area: float
    counts: tuple[int, ...]
    values: Mapping[str, Mapping[str, float]]
    reworded: tuple[float, ...]
    agreement: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class AbsenceResult:
    """A label that the image lacks.

    Attributes:
        asked: The label.
        left_out: Answer -> fraction of the image's pixels that it leaves out, which is right.
    """

    asked: AskedAbsence
    left_out: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All results, in the images' order.

    Attributes:
        pairs: Of the pairs whose mask has a pixel at the size of the shards.
        absences: Of the labels that images lack.
        no_pixel: Pairs whose mask has none.
        incomplete: Images with a label of which a part is outlined that is in no region of the shards.
        masks: Those of each image by text; None where nobody keeps them.
    """

    pairs: list[PairResult]
    absences: list[AbsenceResult]
    no_pixel: int
    incomplete: int
    masks: KeptMasks | None


def measure(
    test: EvaluationSet,
    pairs: Sequence[AskedPair],
    absences: Sequence[AskedAbsence],
    training: MeanLabelMasks | None,
    tolerance: float | None,
) -> Measured:
    """Segment each image with all that is asked of it, and with the empty text.

    Args:
        test: The method and the split.
        pairs: In the images' order.
        absences: In the images' order.
        training: Masks of labels by the training split.
        tolerance: Of NSD, in pixels; None: outlines are not measured.
    """
    by_image: dict[int, tuple[list[AskedPair], list[AskedAbsence]]] = {}
    for pair in pairs:
        by_image.setdefault(pair.index, ([], []))[0].append(pair)
    for absence in absences:
        by_image.setdefault(absence.index, ([], []))[1].append(absence)
    by_image = dict(sorted(by_image.items()))
    texts = {index: {text: text for text in _texts(*asked)} for index, asked in by_image.items()}
    results: list[PairResult] = []
    lacking: list[AbsenceResult] = []
    no_pixel = incomplete = 0
    kept = None if test.scores_only else KeptMasks()
    for index, sample, masks in predicted_masks(test, texts):
        image = _AnsweredImage(sample, masks, training, tolerance)
        of_pairs, of_absences = by_image[index]
        if kept is not None:
            kept.add(index, masks)
        for asked in of_pairs:
            if (result := image.pair(asked)) is None:
                no_pixel += 1
            else:
                results.append(result)
        lacking += [image.absence(absent) for absent in of_absences]
        incomplete += image.is_incomplete(of_pairs)
    return Measured(pairs=results, absences=lacking, no_pixel=no_pixel, incomplete=incomplete, masks=kept)


def _texts(pairs: Sequence[AskedPair], absences: Sequence[AskedAbsence]) -> Iterator[str]:
    for pair in pairs:
        yield pair.prompt
        yield from pair.rewordings
    for absence in absences:
        yield absence.prompt
    yield ""


class _AnsweredImage:
    """One image with its masks by text."""

    def __init__(
        self, sample: Sample, masks: Mapping[str, Mask], training: MeanLabelMasks | None, tolerance: float | None
    ) -> None:
        self._sample, self._masks, self._training, self._tolerance = sample, masks, training, tolerance
        self._everything = np.ones_like(masks[""])

    def pair(self, asked: AskedPair) -> PairResult | None:
        target = without_padding(self._sample, pair_mask(self._sample, asked.pair))
        if not target.any():
            return None
        answer = self._masks[asked.prompt]
        reworded = [self._masks[text] for text in asked.rewordings]
        return PairResult(
            asked=asked,
            area=float(target.mean()),
            counts=tuple(confusion_counts(answer, target)),
            values={name: self._values(mask, target) for name, mask in self._answers(asked.prompt, asked.pair.label)},
            reworded=tuple(_dice(mask, target) for mask in reworded),
            agreement=tuple(_dice(mask, answer) for mask in reworded),
        )

    def absence(self, asked: AskedAbsence) -> AbsenceResult:
        left_out = {name: float((~mask).mean()) for name, mask in self._answers(asked.prompt, asked.label)}
        return AbsenceResult(asked=asked, left_out=left_out)

    def is_incomplete(self, pairs: Sequence[AskedPair]) -> bool:
        """Whether regions make up the pairs, and hold less than all that is outlined."""
        named = [pair.pair for pair in pairs if not pair.pair.is_sentence]
        if not named or not all(pair.regions for pair in named):
            return False
        target = self._sample.target
        truth = [number for number, region in enumerate(self._sample.meta.regions) if region.role == "truth"]
        drawn = [mask for number in truth if (mask := self._sample.mask(number)) is not None]
        missing = target & ~np.logical_or.reduce(drawn)
        return bool(missing.sum() > _MISSING * target.sum())

    def _answers(self, prompt: str, label: str) -> Iterator[tuple[str, Mask]]:
        yield METHOD, self._masks[prompt]
        yield EMPTY_TEXT, self._masks[""]
        yield EVERY_PIXEL, self._everything
        mask = None if self._training is None else self._training.of(label, *self._everything.shape)
        if mask is not None:
            yield TRAINING_MASK, mask

    def _values(self, predicted: Mask, target: Mask) -> dict[str, float]:
        counts = np.array(confusion_counts(predicted, target))
        values = {"dice": float(dice(counts)), "iou": float(iou(counts))}
        if self._tolerance is not None:
            values["hd95"], values["nsd"] = surface_agreement(predicted, target, self._tolerance)
        return values


def _dice(one: Mask, other: Mask) -> float:
    return float(dice(np.array(confusion_counts(one, other))))
