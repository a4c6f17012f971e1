"""How often each promise of risk control is broken, and how often it can be given, on simulated patients.

Writes  benchmarks/results/risk_control.csv, a row for each scenario, target and quantity as it ends; rows that are
        there are not measured again
Run     python benchmarks/risk_control.py [DRAWS]; about two minutes of one core

A draw is a study: training patients order the thresholds, as many calibration patients as in the default study (44)
test them. A patient has one to three images, an image up to two regions, and what is correct is correlated within a
patient. The promise is broken if the certified threshold's precision, of the promised quantity and over 20,000 new
patients, misses the target. Power is the fraction of draws that certify a threshold.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import runs
from header import header, last_commit
from runs import REPOSITORY, RESULTS
from scipy.special import expit, logit, ndtr

from pipelines.regions.calibration.risk_control import LabelledRegions, fixed_sequence_test, threshold_sequence
from pipelines.regions.config import QUANTITIES, RiskControlConfig

FILE = RESULTS / "risk_control.csv"
CONFIDENCE = 0.9
TRAINING, CALIBRATION, POPULATION = 250, 44, 20_000
Certify = Callable[[Sequence[float], LabelledRegions, RiskControlConfig], float | None]


@dataclass(frozen=True)
class Scenario:
    """What a patient's regions are like.

    Attributes:
        prevalence: Fraction of the regions that are correct.
        slope: How much the score says: of the log odds of a region, by its score (standard normal).
        correlation: Of the luck of two regions of a patient, 0 to 1.
    """

    prevalence: float
    slope: float
    correlation: float


# The first three have the default study's precision (0.53 of the accepted, 0.54 on test images). In the last ones the
# score says nothing and a patient's regions are correct together: every quantity is 0.01 below the target at every
# threshold, so that each certificate breaks its promise.
SCENARIOS = {
    "weak correlation": (Scenario(0.5, 1.0, 0.2), (0.4, 0.6)),
    "default-like": (Scenario(0.5, 1.0, 0.5), (0.4, 0.5, 0.6, 0.7)),
    "strong correlation": (Scenario(0.5, 1.0, 0.9), (0.4, 0.6)),
    "just below the target": (Scenario(0.49, 0.0, 1.0), (0.5,)),
}


def main(draws: str = "1000") -> None:
    there = {(row["scenario"], row["target_precision"], row["quantity"]) for row in runs.read(FILE)}
    head = header(
        f"python benchmarks/risk_control.py {draws}", last_commit(REPOSITORY, "pipelines/regions", "benchmarks")
    )
    for name, target, quantity in every():
        if (name, str(target), quantity) in there:
            continue
        config = RiskControlConfig(
            quantity=quantity, target_precision=target, confidence=CONFIDENCE, min_calibration_images=1
        )
        row = {"scenario": name, "target_precision": target, "quantity": quantity, "confidence": CONFIDENCE}
        runs.append(FILE, [row | measure(SCENARIOS[name][0], config, int(draws))], head)


def every() -> Iterator[tuple[str, float, str]]:
    """Scenario, target precision and quantity of each row."""
    for name, (_, targets) in SCENARIOS.items():
        for target in targets:
            for quantity in QUANTITIES:
                yield name, target, quantity


def measure(
    scenario: Scenario, config: RiskControlConfig, draws: int, certify: Certify = fixed_sequence_test
) -> dict[str, Any]:
    """Power, and how often the promise is broken.

    Args:
        scenario: The patients.
        config: What is promised.
        draws: Studies.
        certify: The test; the same draws whichever it is.

    Returns:
        `draws`, `power`, `broken` (of all draws), `certified_regions` (the fraction of a new patient's regions that
        carry the promise, 0 where nothing is certified) and `precision_of_all`, the quantity if
        every region is accepted.
    """
    population = draw(scenario, POPULATION, np.random.default_rng(0))
    random = np.random.default_rng(1)
    certified = broken = 0
    marked = 0.0
    for _ in range(draws):
        training, calibration = draw(scenario, TRAINING, random), draw(scenario, CALIBRATION, random)
        threshold = certify(threshold_sequence(training, CALIBRATION, config), calibration, config)
        if threshold is None:
            continue
        certified += 1
        precision = population.precision(threshold, config.quantity)
        broken += precision is not None and precision < config.target_precision
        accepted = population.probability >= threshold
        covered = len(set(population.patient[accepted])) if config.quantity == "patient_best" else accepted.sum()
        marked += float(covered) / len(accepted)
    of_all = population.precision(0.0, config.quantity)
    assert of_all is not None
    return {
        "draws": draws,
        "power": round(certified / draws, 4),
        "broken": round(broken / draws, 4),
        "certified_regions": round(marked / draws, 4),
        "precision_of_all": round(of_all, 4),
    }


def draw(scenario: Scenario, patients: int, random: np.random.Generator) -> LabelledRegions:
    """Patients with one to three images of up to two regions, whose probability is calibrated over all patients."""
    owner = np.repeat(np.arange(patients), random.integers(1, 4, patients))
    image = np.repeat(np.arange(len(owner)), random.integers(0, 3, len(owner)))
    patient = owner[image]
    probability = expit(logit(scenario.prevalence) + scenario.slope * random.standard_normal(len(image)))
    share = scenario.correlation
    luck = np.sqrt(share) * random.standard_normal(patients)[patient]
    luck += np.sqrt(1 - share) * random.standard_normal(len(image))
    # A score that says nothing still has to order the regions.
    ranked = probability if scenario.slope else random.random(len(image))
    return LabelledRegions(
        probability=ranked,
        correct=ndtr(luck) < probability,
        image=image,
        patient=patient,
        images_per_patient=np.bincount(owner, minlength=patients),
        max_per_image=2,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
