"""Rounds: score, accept, fit again with what was accepted, until coverage stops growing.

Self-training as in Scudder, "Probability of error of some adaptive pattern-recognition machines" (1965). Round 0 is
fitted on training images that people annotated or reviewed. Each further one adds those that nobody annotated: their
proposals from `rounds.accept` on as right and those below one minus that as wrong. Validation and test images are
scored and never fitted on.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.regions.config import RegionsConfig
from pipelines.regions.features import features
from pipelines.regions.scoring import Scored, score


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round.

    Attributes:
        scored: Probabilities and models.
        learnt: Images that nobody annotated and that this round was fitted on.
        coverage: Share (0 to 1) of the training images that nobody annotated that have a proposal from `rounds.accept`
            on; 0 where there are none.
    """

    scored: Scored
    learnt: frozenset[str]
    coverage: float


def run_rounds(
    candidates: pd.DataFrame, target: NDArray[np.float64], unannotated: set[str], config: RegionsConfig
) -> list[Round]:
    """All rounds, the last of which is the one to use.

    Args:
        candidates: From `pipelines.regions.candidates.usable`.
        target: What people said of each (1, 0 or NaN), on training images alone.
        unannotated: Training images that nobody annotated.
        config: Section `regions`.
    """
    judged = (candidates["split"] != "train").to_numpy()
    if not np.isnan(target[judged]).all():
        raise ValueError("a target on a validation or test image: these never reach the fit")
    table, image_ids = features(candidates), candidates["image_id"].to_numpy()
    open_to_guess = candidates["image_id"].isin(unannotated).to_numpy() & np.isnan(target)
    accept = config.rounds.accept
    guesses = np.full(len(candidates), np.nan)
    rounds: list[Round] = []
    while True:
        targets = np.where(np.isnan(guesses), target, guesses)
        scored = score(table, candidates, targets, ~np.isnan(guesses), config.min_labelled)
        found = set(image_ids[open_to_guess & (scored.probability >= accept)])
        latest = Round(
            scored=scored,
            learnt=frozenset(image_ids[~np.isnan(guesses)]),
            coverage=len(found) / len(unannotated) if unannotated else 0.0,
        )
        if rounds and latest.coverage <= rounds[-1].coverage:
            return rounds
        rounds.append(latest)
        if not found or len(rounds) > config.rounds.most:
            return rounds
        guesses = np.full(len(candidates), np.nan)
        from_found = open_to_guess & candidates["image_id"].isin(found).to_numpy()
        guesses[from_found & (scored.probability >= accept)] = 1.0
        guesses[from_found & (scored.probability <= 1 - accept)] = 0.0
