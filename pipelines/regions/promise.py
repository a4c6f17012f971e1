"""A threshold with a promise: at least `precision` of the accepted regions are right, at confidence `1 - delta`.

Method: learn then test (Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test: Calibrating Predictive
Algorithms to Achieve Risk Control", 2021) with split fixed-sequence testing. Which thresholds are tried, and in which
order, comes from images that the score was fitted on, out of fold; each is then tested on calibration images, and the
first that fails ends it. So the chance that any accepted threshold breaks the promise is at most delta, however many
are tried.

Each test is a bet (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86,
2024): a patient's loss Z is the mean over his images of (wrong regions - (1 - precision) x accepted regions). Where the
promise is broken, E[Z] >= 0, and the capital prod(1 - eta Z) of a player who bets a fixed eta on it has expectation at
most 1; so has the mean over a grid of eta (their diversified Kelly bets). 1 / capital is a p-value by Markov's
inequality: exact for any sample size, and whatever the order of the patients. Patients, not regions, are the units, for
the regions of one image, and the images of one patient, are right or wrong together.

Covered: new patients drawn like the calibration ones, each counted once, whose images went through the same proposers,
segmenter and limits. Not covered: another hospital, another modality, images that anybody chose by their score.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.regions.config import PromiseConfig

_STAKES = (np.arange(64) + 0.5) / 64
_THRESHOLDS = 60
_STEP = 0.005

Reals = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Regions that a low enough threshold would accept, of images whose truth is known.

    Attributes:
        probability: Joint score of each region, 0 to 1.
        right: Whether its IoU with the truth is at least 0.5.
        image: Number of its image, from 0.
        patient: Number of its patient, from 0.
        images: Images of each patient, those without any region included.
        most: Most regions of an image.
    """

    probability: Reals
    right: NDArray[np.bool_]
    image: NDArray[np.int64]
    patient: NDArray[np.int64]
    images: NDArray[np.int64]
    most: int

    def counts(self, threshold: float) -> tuple[Reals, Reals]:
        """Right and accepted regions an image, of each patient."""
        accepted = self.probability >= threshold
        patients = len(self.images)
        totals = np.bincount(self.patient[accepted], minlength=patients)
        right = np.bincount(self.patient[accepted & self.right], minlength=patients)
        return right / self.images, totals / self.images

    def precision(self, threshold: float) -> float | None:
        """Share of accepted regions that are right, each patient counted once; None where none is accepted."""
        right, accepted = self.counts(threshold)
        return float(right.sum() / accepted.sum()) if accepted.any() else None


def log_capital(sample: Sample, threshold: float, precision: float, weight: float = 1.0) -> float:
    """Logarithm of what a player has who bet, from 1, that more than `precision` of the accepted regions are right.

    Args:
        sample: The regions.
        threshold: Least probability of an accepted one.
        precision: What is bet against.
        weight: How often each patient counts; not 1 to foresee what a sample of another size would give.
    """
    right, accepted = sample.counts(threshold)
    loss = (accepted - right) - (1 - precision) * accepted
    loss = loss[accepted > 0]
    # No patient's loss exceeds precision x most, so that no bet on the grid can lose more than it has.
    stakes = _STAKES / (precision * sample.most)
    gains = weight * np.log1p(-np.outer(stakes, loss)).sum(axis=1)
    return float(np.logaddexp.reduce(gains) - np.log(len(stakes)))


def lower_bound(sample: Sample, threshold: float, confidence: float) -> float | None:
    """Largest precision (steps of 0.005) that the same test certifies at this threshold, had it been fixed beforehand.

    None where nothing is accepted.
    """
    if sample.precision(threshold) is None:
        return None
    bound = 0.0
    for precision in np.arange(_STEP, 1.0, _STEP):
        if log_capital(sample, threshold, float(precision)) < _needed(confidence):
            break
        bound = float(precision)
    return round(bound, 4)


def sequence(fitting: Sample, patients: int, config: PromiseConfig) -> list[float]:
    """Thresholds to test, in order, from images that the score was fitted on (out of fold).

    Calibration images may be harder than these, so it starts where there is evidence to spare: at the strictest one
    that should earn half of what the best should, and twice what the test needs; where none should earn that, at the
    best. From there it goes down: each next one accepts more.

    Args:
        fitting: Of training images.
        patients: How many the calibration images have.
        config: The promise.
    """
    ranked = np.sort(fitting.probability)[::-1]
    if not len(ranked):
        return []
    ranks = np.unique(np.geomspace(1, len(ranked), _THRESHOLDS).astype(int)) - 1
    thresholds = sorted({float(value) for value in ranked[ranks]}, reverse=True)
    weight = patients / len(fitting.images)
    foreseen = np.array([log_capital(fitting, threshold, config.precision, weight) for threshold in thresholds])
    enough = min(max(2 * _needed(config.confidence), foreseen.max() / 2), foreseen.max())
    return thresholds[int(np.argmax(foreseen >= enough)) :]


def _needed(confidence: float) -> float:
    """Log capital at which the test rejects: its p-value is then 1 - confidence or less."""
    return float(-np.log(1 - confidence))


def certify(thresholds: list[float], calibration: Sample, config: PromiseConfig) -> float | None:
    """The last threshold before the first that fails its test, or None where the first one does."""
    certified = None
    for threshold in thresholds:
        if log_capital(calibration, threshold, config.precision) < _needed(config.confidence):
            break
        certified = threshold
    return certified
