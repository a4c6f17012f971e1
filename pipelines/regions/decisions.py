"""The stage's decision about each candidate: accepted or why not, certified or not, and from which round on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.records import ReviewDecision
from pipelines.regions.acceptance import rejection_reasons
from pipelines.regions.candidates import Candidate
from pipelines.regions.config import RegionsConfig
from pipelines.regions.review_labels import MatchedReview
from pipelines.regions.self_training import SelfTrainingRound

ProposalKey = tuple[str, int]  # image_id and n


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


def decide(
    candidates: Sequence[Candidate],
    targets: NDArray[np.float64],
    rounds: Sequence[SelfTrainingRound],
    thresholds: Mapping[str, float | None],
    group_of: Mapping[str, str],
    review: MatchedReview,
    config: RegionsConfig,
) -> dict[ProposalKey, Decision]:
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
    scores = np.array([candidate.proposal.score for candidate in candidates], dtype=np.float64)
    certified = [thresholds[candidate.image.modality] for candidate in candidates]
    has_guarantee = np.array([threshold is not None for threshold in certified], dtype=bool)
    required = np.array(
        [config.min_probability if threshold is None else threshold for threshold in certified], dtype=np.float64
    )
    # Without a joint score there is nothing to compare: the proposers' scores only decide which regions are best.
    required = np.where(unscored, 0.0, required)
    reasons = rejection_reasons(candidates, np.where(unscored, scores, probability), required, review, config)
    accepted = np.array([reason is None for reason in reasons], dtype=bool)
    above = has_guarantee & (probability >= required)
    covered = above & _exchangeable(candidates, reasons, targets, rounds)
    is_certified = accepted & covered
    if config.risk_control.quantity == "patient_best":
        # A best one that a reviewer rejects leaves its patient without any: nothing is promised of the second best.
        in_question = accepted | np.array([decision == "rejected" for decision in review.decisions], dtype=bool)
        is_certified &= _best_of_patients(candidates, probability, in_question & covered, group_of)
    first_rounds = _first_rounds(rounds, required)
    return {
        (candidate.proposal.image_id, candidate.proposal.n): Decision(
            reason=reasons[index],
            agreement=candidate.agreement,
            probability=None if unscored[index] else float(probability[index]),
            certified=bool(is_certified[index]),
            round=first_rounds[index] if review.decisions[index] is None and reasons[index] is None else None,
            review=review.decisions[index],
            name=review.names[index],
        )
        for index, candidate in enumerate(candidates)
    }


def _exchangeable(
    candidates: Sequence[Candidate],
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
    self_trained = bool(rounds[-1].pseudo_labelled)
    kinds = [(candidate.proposal.source, candidate.image.modality) for candidate in candidates]
    calibrated = {
        kind
        for kind, candidate in zip(kinds, candidates, strict=True)
        if candidate.annotated and candidate.image.split == "validation"
    }
    informed = {
        candidate.image.image_id
        for candidate, reason, fitted_on in zip(candidates, reasons, ~np.isnan(targets), strict=True)
        if candidate.proposal.own_phrases or reason == "absent_class" or fitted_on
    }

    def is_exchangeable(candidate: Candidate) -> bool:
        if candidate.image.image_id in informed or (self_trained and candidate.image.split == "train"):
            return False
        return candidate.image.split == "test" or not candidate.annotated

    return np.array(
        [kind in calibrated and is_exchangeable(candidate) for kind, candidate in zip(kinds, candidates, strict=True)],
        dtype=bool,
    )


def _best_of_patients(
    candidates: Sequence[Candidate],
    probability: NDArray[np.float64],
    members: NDArray[np.bool_],
    group_of: Mapping[str, str],
) -> NDArray[np.bool_]:
    """The most probable member of each patient in each calibration group; of equals the first."""
    best: dict[tuple[str, str], int] = {}
    for index in np.flatnonzero(members).tolist():
        image = candidates[index].image
        key = (group_of[image.modality], image.group)
        if key not in best or probability[index] > probability[best[key]]:
            best[key] = index
    chosen = np.zeros(len(candidates), dtype=bool)
    chosen[list(best.values())] = True
    return chosen


def _first_rounds(rounds: Sequence[SelfTrainingRound], threshold: NDArray[np.float64]) -> list[int | None]:
    """The first round whose probability reaches the final threshold of each candidate, None where none does."""
    first: list[int | None] = [None] * len(threshold)
    for number in reversed(range(len(rounds))):
        for index in np.flatnonzero(rounds[number].scores.probability >= threshold):
            first[index] = number
    return first
