"""Risk control by learn-then-test: thresholds whose accepted regions reach a target precision, at a given confidence.

Method: learn-then-test (Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test: Calibrating Predictive
Algorithms to Achieve Risk Control", 2021) with split fixed-sequence testing. Training images, with their out-of-fold
probabilities, decide which thresholds are tested and in which order. Each threshold is then tested on calibration
images, and the first failure ends the sequence. So the probability that any certified threshold misses the target
precision is at most delta = 1 - confidence, however many are tested.

Patients, not regions, are the units of each test, because the regions of one image, and the images of one patient, are
correct or wrong together. Which precision is promised decides which test is possible (`regions.risk_control.quantity`):

- `region`: correct over accepted regions, each patient counted once. A patient's loss Z is the mean over the patient's
  images of (wrong regions - (1 - target precision) x accepted regions). The test is a bet (Waudby-Smith and Ramdas,
  "Estimating means of bounded random variables by betting", JRSS B 86, 2024): under the null hypothesis, that the
  threshold misses the target, E[Z] >= 0, and the capital prod(1 - eta Z) of a player who bets a fixed eta against it
  has expectation at most 1; so has the mean over a grid of eta (their diversified Kelly bets). 1 / capital is a p-value
  by Markov's inequality: exact for any sample size, and whatever the order of the patients. The loss may be as large as
  `max_per_image` allows, so that no stake may be large: the test has little power.
- `patient_mean`: the mean over patients, of those with an accepted region, of X, the fraction of the patient's accepted
  regions that are correct. The same bet with Z = target precision - X, which is never above the target.
- `patient_best`: the fraction of patients, of those with an accepted region, whose most probable one is correct. One
  yes or no for each patient: the exact binomial test.

Given how many patients have an accepted region, those that do are a sample of all such patients, so that the last two
tests are exact too.

Covered: new patients drawn like the calibration ones, each counted once, whose images went through the same proposers,
segmenter and limits. Not covered: another hospital, another modality, images that were chosen by their score.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

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

    def of_patients(self, threshold: float) -> Reals:
        """Fraction of the accepted regions that are correct, of each patient who has any."""
        correct, accepted = self.per_image(threshold)
        return correct[accepted > 0] / accepted[accepted > 0]

    def best_of_patients(self, threshold: float) -> NDArray[np.bool_]:
        """Whether the most probable accepted region is correct, of each patient who has any; of equals the first."""
        best_first = np.lexsort((-self.probability, self.patient))
        _, first = np.unique(self.patient[best_first], return_index=True)
        best = best_first[first]
        return self.correct[best[self.probability[best] >= threshold]]

    def precision(self, threshold: float, quantity: str) -> float | None:
        """The precision that `quantity` names (see above); None where no region is accepted."""
        correct, accepted = self.per_image(threshold)
        if not accepted.any():
            return None
        if quantity == "region":
            return float(correct.sum() / accepted.sum())
        of_patients = self.of_patients if quantity == "patient_mean" else self.best_of_patients
        return float(of_patients(threshold).mean())


def log_evidence(
    regions: LabelledRegions, threshold: float, precision: float, quantity: str, weight: float = 1.0
) -> float:
    """Evidence that the precision is above a value: the negative logarithm of the test's p-value.

    Of a bet it is the logarithm of the capital of a player who started with 1, and may be below 0.

    Args:
        regions: The regions.
        threshold: Least probability of an accepted one.
        precision: The value, 0 to 1, both excluded.
        quantity: Which precision.
        weight: How often each patient counts; other than 1 to predict the evidence of a sample of another size.
    """
    if quantity == "patient_best":
        best = regions.best_of_patients(threshold)
        return _binomial(weight * float(best.sum()), weight * len(best), precision)
    if quantity == "patient_mean":
        return _log_capital(precision - regions.of_patients(threshold), precision, weight)
    correct, accepted = regions.per_image(threshold)
    loss = (accepted - correct) - (1 - precision) * accepted
    return _log_capital(loss[accepted > 0], precision * regions.max_per_image, weight)


def _log_capital(loss: Reals, largest: float, weight: float) -> float:
    """Of bets against a mean loss of 0 or more; none exceeds `largest`, so that no bet loses more than the capital."""
    gains = weight * np.log1p(-np.outer(_STAKES / largest, loss)).sum(axis=1)
    return float(np.logaddexp.reduce(gains) - np.log(len(_STAKES)))


def _binomial(successes: float, trials: float, chance: float) -> float:
    """-log P(K >= successes), K binomial: the incomplete beta function, which takes fractions of patients too."""
    if not successes:
        return 0.0
    # The least normal number stands for a smaller p-value, so that the evidence is finite and never too large.
    return float(-np.log(max(betainc(successes, trials - successes + 1, chance), np.finfo(float).tiny)))


def precision_lower_bound(regions: LabelledRegions, threshold: float, confidence: float, quantity: str) -> float | None:
    """Largest precision (in steps of 0.005) that the same test certifies, for a threshold that was fixed beforehand.

    None where no region is accepted.
    """
    if regions.precision(threshold, quantity) is None:
        return None
    bound = 0.0
    for precision in np.arange(_BOUND_STEP, 1.0, _BOUND_STEP):
        if log_evidence(regions, threshold, float(precision), quantity) < _required(confidence):
            break
        bound = float(precision)
    return round(bound, 4)


def threshold_sequence(fitting: LabelledRegions, calibration_patients: int, config: RiskControlConfig) -> list[float]:
    """Thresholds to test, in order, from images that the score was fitted on (with out-of-fold probabilities).

    Calibration images may be harder than these. So the sequence starts at a threshold with evidence to spare: the
    strictest one that is predicted to give at least half of the evidence of the best one and twice what the test needs;
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
    predicted = np.array(
        [log_evidence(fitting, threshold, target, config.quantity, weight) for threshold in thresholds]
    )
    enough = min(max(2 * _required(config.confidence), predicted.max() / 2), predicted.max())
    return thresholds[int(np.argmax(predicted >= enough)) :]


def fixed_sequence_test(
    thresholds: Sequence[float], calibration: LabelledRegions, config: RiskControlConfig
) -> float | None:
    """The last threshold before the first one that fails its test; None where the first one fails."""
    certified = None
    for threshold in thresholds:
        evidence = log_evidence(calibration, threshold, config.target_precision, config.quantity)
        if evidence < _required(config.confidence):
            break
        certified = threshold
    return certified


def _required(confidence: float) -> float:
    """Evidence from which the test rejects the null hypothesis: its p-value is then 1 - confidence or less."""
    return float(-np.log(1 - confidence))
