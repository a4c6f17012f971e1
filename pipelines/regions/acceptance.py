"""Which candidates are accepted: review labels, absent classes, the threshold, and non-maximum suppression.

Reason codes: absent_class, rejected_in_review, low_probability, overlaps_better, beyond_max_regions.
"""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from models.geometry import Box
from pipelines.regions.candidates import Candidates
from pipelines.regions.config import RegionsConfig
from pipelines.regions.limits import suppressed
from pipelines.regions.review_labels import MatchedReview


def rejection_reasons(
    candidates: Candidates,
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
    reasons: list[str | None] = [None] * len(candidates)
    # What rejects a candidate whatever the other regions of its image are; what is set later comes first.
    for reason, rejected in (
        ("low_probability", np.flatnonzero(rank_score < threshold)),
        ("absent_class", np.flatnonzero(candidates.names_absent_class)),
        (None, review.indices("accepted")),
        ("rejected_in_review", review.indices("rejected")),
    ):
        for index in rejected:
            reasons[index] = reason
    reviewed = np.zeros(len(candidates), dtype=bool)
    reviewed[review.indices("accepted")] = True
    reviewer_boxes: dict[str, list[Box]] = defaultdict(list)
    for label in review.reviewer_boxes:
        reviewer_boxes[label.image_id].append(label.box)
    for image, indices in candidates.by_image():
        first = reviewer_boxes.get(candidates.images.id_of(image), [])
        remaining = np.array([index for index in indices if reasons[index] is None], dtype=np.int64)
        # Of equals the one with the lowest number, for the sort is stable.
        best_first = remaining[np.lexsort((-rank_score[remaining], ~reviewed[remaining]))]
        protected = [True] * len(first) + reviewed[best_first].tolist()
        outcomes = suppressed(first + candidates.boxes(best_first), protected, config)[len(first) :]
        for index, outcome in zip(best_first, outcomes, strict=True):
            reasons[index] = outcome
    return reasons
