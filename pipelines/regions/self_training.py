"""Self-training: fit the joint score, pseudo-label unannotated images with it, and fit again until coverage stalls.

The method is that of Scudder, "Probability of error of some adaptive pattern-recognition machines" (1965). Round 0 is
fitted on training images that the source annotated or that people reviewed. Each further round adds training images
that nobody annotated: their proposals at or above `pseudo_label_threshold` are labelled as correct, those at or below
one minus it as wrong. Validation and test images are scored and never fitted on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.regions.candidates import Candidates
from pipelines.regions.config import RegionsConfig
from pipelines.regions.scoring import JointScorer, JointScores


@dataclass(frozen=True, kw_only=True)
class SelfTrainingRound:
    """One round of self-training.

    Attributes:
        scores: Probabilities and models.
        pseudo_labelled: Number of the unannotated images that this round was fitted on.
        coverage: Fraction (0 to 1) of the unannotated training images that have a proposal at or above
            `pseudo_label_threshold`; 0 where there are no such images.
    """

    scores: JointScores
    pseudo_labelled: int
    coverage: float


def self_train(
    candidates: Candidates,
    targets: NDArray[np.float64],
    unannotated: NDArray[np.bool_],
    config: RegionsConfig,
) -> list[SelfTrainingRound]:
    """All rounds, the last of which is the one to use.

    Args:
        candidates: From `pipelines.regions.candidates.select_candidates`.
        targets: Label of each candidate (1 correct, 0 wrong, NaN unknown); only training images may have one.
        unannotated: Which images are training images that nobody annotated; shape (images,).
        config: Section `regions`.

    Raises:
        ValueError: A candidate of a validation or test image has a target.
    """
    if not np.isnan(targets[~candidates.in_split("train")]).all():
        raise ValueError("a target on a validation or test image: these never reach the fit")
    scorer = JointScorer(candidates, config.min_labelled)
    # Candidates that a reviewer labelled keep that label.
    may_be_pseudo_labelled = unannotated[candidates.image] & np.isnan(targets)
    threshold = config.self_training.pseudo_label_threshold
    pseudo_labels = np.full(len(candidates), np.nan)
    rounds: list[SelfTrainingRound] = []
    while True:
        is_pseudo = ~np.isnan(pseudo_labels)
        scores = scorer.fit(np.where(is_pseudo, pseudo_labels, targets), is_pseudo)
        covered = np.zeros(len(unannotated), dtype=bool)
        covered[candidates.image[may_be_pseudo_labelled & (scores.probability >= threshold)]] = True
        latest = SelfTrainingRound(
            scores=scores,
            pseudo_labelled=len(np.unique(candidates.image[is_pseudo])),
            coverage=int(covered.sum()) / int(unannotated.sum()) if unannotated.any() else 0.0,
        )
        if rounds and latest.coverage <= rounds[-1].coverage:
            return rounds
        rounds.append(latest)
        if not covered.any() or len(rounds) > config.self_training.max_rounds:
            return rounds
        # Images without a confident proposal are left out: all their proposals might be labelled as wrong.
        in_covered = may_be_pseudo_labelled & covered[candidates.image]
        pseudo_labels = np.full(len(candidates), np.nan)
        pseudo_labels[in_covered & (scores.probability >= threshold)] = 1.0
        pseudo_labels[in_covered & (scores.probability <= 1 - threshold)] = 0.0
