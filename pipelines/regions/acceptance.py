"""Which candidates are accepted: review labels, absent classes, the threshold, and non-maximum suppression.

Reason codes: absent_class, rejected_in_review, low_probability, overlaps_better, beyond_max_regions.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.geometry import Box
from pipelines.regions.candidates import Candidate, boxes_of, indices_by_image
from pipelines.regions.config import RegionsConfig
from pipelines.regions.limits import names_absent_class, suppressed
from pipelines.regions.review_labels import MatchedReview


def rejection_reasons(
    candidates: Sequence[Candidate],
    rank_score: NDArray[np.float64],
    threshold: NDArray[np.float64],
    review: MatchedReview,
    config: RegionsConfig,
) -> list[str | None]:
    """The reason code of each rejected candidate, None for each accepted one.

    Review labels come first: a box that a reviewer accepted stays whatever its score, and boxes that reviewers drew
    take precedence over those of proposers.

    Args:
        candidates: From `pipelines.regions.candidates.select_candidates`.
        rank_score: Joint probability, or the proposer's score where there is none; the higher the better.
        threshold: Least `rank_score` of each candidate.
        review: Review labels of the candidates.
        config: Gives `nms_iou` and `max_regions`.
    """
    reasons = [
        _own_reason(candidate, decision, too_low)
        for candidate, decision, too_low in zip(
            candidates, review.decisions, (rank_score < threshold).tolist(), strict=True
        )
    ]
    boxes = boxes_of(candidates)
    numbers = np.array([candidate.proposal.n for candidate in candidates], dtype=np.int64)
    reviewed = review.has_decision("accepted")
    reviewer_boxes: dict[str, list[Box]] = defaultdict(list)
    for label in review.reviewer_boxes:
        reviewer_boxes[label.image_id].append(label.box)
    for image_id, indices in indices_by_image([candidate.proposal for candidate in candidates]).items():
        first = reviewer_boxes[image_id]
        remaining = np.array([index for index in indices if reasons[index] is None], dtype=np.int64)
        best_first = remaining[np.lexsort((numbers[remaining], -rank_score[remaining], ~reviewed[remaining]))]
        protected = [True] * len(first) + reviewed[best_first].tolist()
        outcomes = suppressed(first + boxes[best_first].tolist(), protected, config)[len(first) :]
        for index, reason in zip(best_first, outcomes, strict=True):
            reasons[index] = reason
    return reasons


def _own_reason(candidate: Candidate, decision: str | None, too_low: bool) -> str | None:
    """Why a candidate is rejected whatever the other regions of its image are."""
    if decision == "rejected":
        return "rejected_in_review"
    if decision == "accepted":
        return None
    if names_absent_class(candidate.proposal, candidate.image):
        return "absent_class"
    return "low_probability" if too_low else None
