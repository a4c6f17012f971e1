"""Self-training: fit the joint score, pseudo-label unannotated images with it, and fit again until coverage stalls.

The method is that of Scudder, "Probability of error of some adaptive pattern-recognition machines" (1965). Round 0 is
fitted on training images that the source annotated or that people reviewed. Each further round adds training images
that nobody annotated: their proposals at or above `pseudo_label_threshold` are labelled as correct, those at or below
one minus it as wrong. Validation and test images are scored and never fitted on.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.regions.candidates import Candidate
from pipelines.regions.config import RegionsConfig
from pipelines.regions.scoring import JointScorer, JointScores


@dataclass(frozen=True, kw_only=True)
class SelfTrainingRound:
    """One round of self-training.

    Attributes:
        scores: Probabilities and models.
        pseudo_labelled: Ids of the unannotated images that this round was fitted on.
        coverage: Fraction (0 to 1) of the unannotated training images that have a proposal at or above
            `pseudo_label_threshold`; 0 where there are no such images.
    """

    scores: JointScores
    pseudo_labelled: frozenset[str]
    coverage: float


def self_train(
    candidates: Sequence[Candidate],
    targets: NDArray[np.float64],
    unannotated: AbstractSet[str],
    config: RegionsConfig,
) -> list[SelfTrainingRound]:
    """All rounds, the last of which is the one to use.

    Args:
        candidates: From `pipelines.regions.candidates.select_candidates`.
        targets: Label of each candidate (1 correct, 0 wrong, NaN unknown); only training images may have one.
        unannotated: Ids of the training images that nobody annotated.
        config: Section `regions`.

    Raises:
        ValueError: A candidate of a validation or test image has a target.
    """
    held_out = np.array([candidate.image.split != "train" for candidate in candidates], dtype=bool)
    if not np.isnan(targets[held_out]).all():
        raise ValueError("a target on a validation or test image: these never reach the fit")
    scorer = JointScorer(candidates, config.min_labelled)
    image_ids = scorer.image_ids
    # Candidates that a reviewer labelled keep that label.
    may_be_pseudo_labelled = _members(image_ids, unannotated) & np.isnan(targets)
    threshold = config.self_training.pseudo_label_threshold
    pseudo_labels = np.full(len(candidates), np.nan)
    rounds: list[SelfTrainingRound] = []
    while True:
        is_pseudo = ~np.isnan(pseudo_labels)
        scores = scorer.fit(np.where(is_pseudo, pseudo_labels, targets), is_pseudo)
        covered = set(image_ids[may_be_pseudo_labelled & (scores.probability >= threshold)])
        latest = SelfTrainingRound(
            scores=scores,
            pseudo_labelled=frozenset(image_ids[is_pseudo]),
            coverage=len(covered) / len(unannotated) if unannotated else 0.0,
        )
        if rounds and latest.coverage <= rounds[-1].coverage:
            return rounds
        rounds.append(latest)
        if not covered or len(rounds) > config.self_training.max_rounds:
            return rounds
        # Images without a confident proposal are left out: all their proposals might be labelled as wrong.
        in_covered = may_be_pseudo_labelled & _members(image_ids, covered)
        pseudo_labels = np.full(len(candidates), np.nan)
        pseudo_labels[in_covered & (scores.probability >= threshold)] = 1.0
        pseudo_labels[in_covered & (scores.probability <= 1 - threshold)] = 0.0


def _members(image_ids: NDArray[np.object_], of: AbstractSet[str]) -> NDArray[np.bool_]:
    return np.array([image_id in of for image_id in image_ids], dtype=bool)
