"""Risk control by learn-then-test: thresholds whose accepted regions reach a target precision, at a given confidence.

Method: learn-then-test (Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test: Calibrating Predictive
Algorithms to Achieve Risk Control", 2021) with split fixed-sequence testing. Training images, with their out-of-fold
probabilities, decide which thresholds are tested and in which order. Each threshold is then tested on calibration
images, and the first failure ends the sequence. So the probability that any certified threshold misses the target
precision is at most delta = 1 - confidence, however many are tested.

Each test is a bet (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86,
2024). A patient's loss Z is the mean over the patient's images of
(wrong regions - (1 - target precision) x accepted regions). Under the null hypothesis, that the threshold misses the
target, E[Z] >= 0, and the capital prod(1 - eta Z) of a player who bets a fixed eta against it has expectation at most
1; so has the mean over a grid of eta (their diversified Kelly bets). 1 / capital is a p-value by Markov's inequality:
exact for any sample size, and whatever the order of the patients. Patients, not regions, are the units, because the
regions of one image, and the images of one patient, are correct or wrong together.

Covered: new patients drawn like the calibration ones, each counted once, whose images went through the same proposers,
segmenter and limits. Not covered: another hospital, another modality, images that were chosen by their score.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.regions.config import RiskControlConfig

_STAKES = (np.arange(64) + 0.5) / 64
_MAX_THRESHOLDS = 60
_BOUND_STEP = 0.005

Reals = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LabelledRegions:
    """The regions that a low enough threshold would accept, of annotated images.

    Attributes:
        probability: Joint score of each region, 0 to 1.
        correct: Whether its IoU with the truth is at least 0.5.
        image: Index of its image, from 0.
        patient: Index of its patient, from 0.
        images_per_patient: Images of each patient, those without any region included.
        max_per_image: Most regions of an image.
    """

    probability: Reals
    correct: NDArray[np.bool_]
    image: NDArray[np.int64]
    patient: NDArray[np.int64]
    images_per_patient: NDArray[np.int64]
    max_per_image: int

    def per_image(self, threshold: float) -> tuple[Reals, Reals]:
        """Mean number of correct and of accepted regions in an image, of each patient."""
        accepted = self.probability >= threshold
        patients = len(self.images_per_patient)
        totals = np.bincount(self.patient[accepted], minlength=patients)
        correct = np.bincount(self.patient[accepted & self.correct], minlength=patients)
        return correct / self.images_per_patient, totals / self.images_per_patient

    def precision(self, threshold: float) -> float | None:
        """Fraction of accepted regions that are correct, each patient counted once; None where none is accepted."""
        correct, accepted = self.per_image(threshold)
        return float(correct.sum() / accepted.sum()) if accepted.any() else None


def log_capital(regions: LabelledRegions, threshold: float, precision: float, weight: float = 1.0) -> float:
    """Logarithm of the capital of a player who starts with 1 and bets that the precision is above a value.

    Args:
        regions: The regions.
        threshold: Least probability of an accepted one.
        precision: The value that is bet against.
        weight: How often each patient counts; other than 1 to predict the capital on a sample of another size.
    """
    correct, accepted = regions.per_image(threshold)
    loss = (accepted - correct) - (1 - precision) * accepted
    loss = loss[accepted > 0]
    # No patient's loss exceeds precision x max_per_image, so that no bet of the grid can lose more than the capital.
    stakes = _STAKES / (precision * regions.max_per_image)
    gains = weight * np.log1p(-np.outer(stakes, loss)).sum(axis=1)
    return float(np.logaddexp.reduce(gains) - np.log(len(stakes)))


def precision_lower_bound(regions: LabelledRegions, threshold: float, confidence: float) -> float | None:
    """Largest precision (in steps of 0.005) that the same test certifies, for a threshold that was fixed beforehand.

    None where no region is accepted.
    """
    if regions.precision(threshold) is None:
        return None
    bound = 0.0
    for precision in np.arange(_BOUND_STEP, 1.0, _BOUND_STEP):
        if log_capital(regions, threshold, float(precision)) < _required_log_capital(confidence):
            break
        bound = float(precision)
    return round(bound, 4)


def threshold_sequence(fitting: LabelledRegions, calibration_patients: int, config: RiskControlConfig) -> list[float]:
    """Thresholds to test, in order, from images that the score was fitted on (with out-of-fold probabilities).

    Calibration images may be harder than these. So the sequence starts at a threshold with evidence to spare: the
    strictest one that is predicted to earn at least half of what the best one earns and twice what the test needs;
    where none is, the best one. From there the thresholds fall: each accepts more regions than the one before.

    Args:
        fitting: Regions of training images.
        calibration_patients: Patients of the calibration images.
        config: The guarantee.
    """
    ranked = np.sort(fitting.probability)[::-1]
    if not len(ranked):
        return []
    ranks = np.unique(np.geomspace(1, len(ranked), _MAX_THRESHOLDS).astype(int)) - 1
    thresholds = sorted({float(value) for value in ranked[ranks]}, reverse=True)
    weight = calibration_patients / len(fitting.images_per_patient)
    target = config.target_precision
    predicted = np.array([log_capital(fitting, threshold, target, weight) for threshold in thresholds])
    enough = min(max(2 * _required_log_capital(config.confidence), predicted.max() / 2), predicted.max())
    return thresholds[int(np.argmax(predicted >= enough)) :]


def fixed_sequence_test(
    thresholds: Sequence[float], calibration: LabelledRegions, config: RiskControlConfig
) -> float | None:
    """The last threshold before the first one that fails its test; None where the first one fails."""
    certified = None
    for threshold in thresholds:
        if log_capital(calibration, threshold, config.target_precision) < _required_log_capital(config.confidence):
            break
        certified = threshold
    return certified


def _required_log_capital(confidence: float) -> float:
    """Log capital from which the test rejects the null hypothesis: its p-value is then 1 - confidence or less."""
    return float(-np.log(1 - confidence))
