"""The stage's decision about each candidate: accepted or why not, certified or not, and from which round on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.records import ReviewDecision
from pipelines.regions.acceptance import rejection_reasons
from pipelines.regions.candidates import Candidates
from pipelines.regions.config import RegionsConfig
from pipelines.regions.review_labels import MatchedReview
from pipelines.regions.self_training import SelfTrainingRound


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the stage decided about one region.

    Attributes:
        reason: Why it was rejected; None: it was accepted.
        agreement: As in `RegionRow`, like all that follow.
        probability: Joint score.
        certified: Whether the guarantee of risk control covers it.
        round: First round of self-training whose score accepts it.
        review: The reviewer's decision.
        name: The reviewer's name for it; None: what the proposer calls it stays.
    """

    reason: str | None = None
    agreement: float | None = None
    probability: float | None = None
    certified: bool = False
    round: int | None = None
    review: ReviewDecision | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What the stage decided about all candidates; each array has the shape (candidates,).

    Attributes:
        candidates: The candidates.
        reasons: Why each was rejected, or None.
        probability: Joint scores, NaN where there is none.
        certified: Which the guarantee covers.
        rounds: First round of self-training whose score reaches the threshold; -1 where none does.
        review: Review labels of the candidates.
    """

    candidates: Candidates
    reasons: Sequence[str | None]
    probability: NDArray[np.float64]
    certified: NDArray[np.bool_]
    rounds: NDArray[np.int16]
    review: MatchedReview

    def of_image(self, image: int) -> dict[int, Decision]:
        """The decision about each candidate of an image, by its number among the proposals."""
        of_image = self.candidates.of_image(image)
        columns = (self.candidates.n, self.candidates.agreement, self.probability, self.certified, self.rounds)
        decisions = {}
        for index, n, agreement, probability, certified, round_ in zip(
            of_image.tolist(), *(column[of_image].tolist() for column in columns), strict=True
        ):
            reason, review = self.reasons[index], self.review.decisions.get(index)
            by_score = reason is None and review is None and round_ >= 0
            decisions[n] = Decision(
                reason=reason,
                agreement=None if math.isnan(agreement) else agreement,
                probability=None if math.isnan(probability) else probability,
                certified=certified,
                round=round_ if by_score else None,
                review=review,
                name=self.review.names.get(index),
            )
        return decisions


def decide(
    candidates: Candidates,
    targets: NDArray[np.float64],
    rounds: Sequence[SelfTrainingRound],
    thresholds: Mapping[str, float | None],
    group_of: Mapping[str, str],
    review: MatchedReview,
    config: RegionsConfig,
) -> Decisions:
    """Compare the last round's probabilities with the thresholds.

    Args:
        candidates: From `pipelines.regions.candidates.select_candidates`.
        targets: Labels that the joint score was fitted on, NaN where there is none.
        rounds: Rounds of self-training.
        thresholds: By modality; None where risk control certified none.
        group_of: Modality -> calibration group.
        review: Review labels of the candidates.
        config: Section `regions`.
    """
    probability = rounds[-1].scores.probability
    unscored = np.isnan(probability)
    modality = candidates.images.modality.codes[candidates.image]
    certified = [thresholds[name] for name in candidates.images.modality.categories]
    has_guarantee = np.array([threshold is not None for threshold in certified], dtype=bool)[modality]
    required = np.array(
        [config.min_probability if threshold is None else threshold for threshold in certified], dtype=np.float64
    )[modality]
    # Without a joint score there is nothing to compare: the proposers' scores only decide which regions are best.
    required[unscored] = 0.0
    rank_score = np.where(unscored, candidates.score, probability)
    reasons = rejection_reasons(candidates, rank_score, required, review, config)
    accepted = np.array([reason is None for reason in reasons], dtype=bool)
    above = has_guarantee & (probability >= required)
    covered = above & _exchangeable(candidates, reasons, targets, rounds)
    is_certified = accepted & covered
    if config.risk_control.quantity == "patient_best":
        # A best one that a reviewer rejects leaves its patient without any: nothing is promised of the second best.
        in_question = accepted.copy()
        in_question[review.indices("rejected")] = True
        is_certified &= _best_of_patients(candidates, probability, in_question & covered, group_of)
    return Decisions(
        candidates=candidates,
        reasons=reasons,
        probability=probability,
        certified=is_certified,
        rounds=_first_rounds(rounds, required),
        review=review,
    )


def _exchangeable(
    candidates: Candidates,
    reasons: Sequence[str | None],
    targets: NDArray[np.float64],
    rounds: Sequence[SelfTrainingRound],
) -> NDArray[np.bool_]:
    """Candidates of images that are exchangeable with the calibration images, so that the guarantee covers them.

    These are test images, and images that nobody annotated, of the sources and modalities of the calibration images.
    Once self-training was fitted on any unannotated training image, no training image counts: those that it was not
    fitted on are the ones with low scores, and so no fair sample. Nor does an image count whose own labels or report
    helped to propose or to reject a region, or which the score was fitted on.
    """
    images = candidates.images
    kind = images.source.codes.astype(np.int32) * len(images.modality.categories) + images.modality.codes
    has_candidates = np.diff(candidates.first) > 0
    calibrated = np.isin(kind, kind[images.annotated & images.in_split("validation") & has_candidates])
    absent = np.array([reason == "absent_class" for reason in reasons], dtype=bool)
    informed = np.zeros(len(images), dtype=bool)
    informed[candidates.image[candidates.own_phrases | absent | ~np.isnan(targets)]] = True
    exchangeable = calibrated & ~informed & (images.in_split("test") | ~images.annotated)
    if rounds[-1].pseudo_labelled:
        exchangeable &= ~images.in_split("train")
    return exchangeable[candidates.image]


def _best_of_patients(
    candidates: Candidates,
    probability: NDArray[np.float64],
    members: NDArray[np.bool_],
    group_of: Mapping[str, str],
) -> NDArray[np.bool_]:
    """The most probable member of each patient in each calibration group; of equals the first."""
    images, indices = candidates.images, np.flatnonzero(members)
    names = sorted(set(group_of.values()))
    group = np.array([names.index(group_of[modality]) for modality in images.modality.categories], dtype=np.int64)
    of_images = candidates.image[indices]
    key = images.group[of_images] * len(names) + group[images.modality.codes[of_images]]
    best_first = np.lexsort((-probability[indices], key))
    _, first = np.unique(key[best_first], return_index=True)
    chosen = np.zeros(len(candidates), dtype=bool)
    chosen[indices[best_first[first]]] = True
    return chosen


def _first_rounds(rounds: Sequence[SelfTrainingRound], threshold: NDArray[np.float64]) -> NDArray[np.int16]:
    """The first round whose probability reaches the final threshold of each candidate, -1 where none does."""
    first = np.full(len(threshold), -1, dtype=np.int16)
    for number in reversed(range(len(rounds))):
        first[rounds[number].scores.probability >= threshold] = number
    return first
