"""Risk control: its test by hand, and its guarantee by drawing the same study many times from a known truth."""

import math

import numpy as np
import pytest

from pipelines.regions.calibration.risk_control import (
    _STAKES,
    LabelledRegions,
    fixed_sequence_test,
    log_capital,
    precision_lower_bound,
    threshold_sequence,
)
from pipelines.regions.config import RiskControlConfig


def labelled(
    probability: list[float], correct: list[int], image: list[int], patient_of_image: list[int], max_per_image: int = 2
) -> LabelledRegions:
    return LabelledRegions(
        probability=np.array(probability),
        correct=np.array(correct, dtype=bool),
        image=np.array(image, dtype=int),
        patient=np.array([patient_of_image[index] for index in image], dtype=int),
        images_per_patient=np.bincount(patient_of_image),
        max_per_image=max_per_image,
    )


def test_patients_with_different_numbers_of_images_count_once_each_in_precision() -> None:
    # Patient 0: two images with three correct regions; patient 1: one image with one wrong region.
    regions = labelled([0.9, 0.8, 0.7, 0.9], [1, 1, 1, 0], [0, 0, 1, 2], [0, 0, 1])
    # (3/2 + 0) correct of (3/2 + 1) accepted an image.
    assert regions.precision(0.5) == pytest.approx(1.5 / 2.5)
    assert regions.precision(0.75) == pytest.approx(1.0 / 2.0)
    assert regions.precision(0.95) is None


def test_capital_of_one_correct_and_one_wrong_region_equals_values_by_hand() -> None:
    # One image, one correct region: Z = -(1 - p), each stake eta = s / (p * max_per_image) earns 1 + eta (1 - p).
    regions = labelled([0.9], [1], [0], [0])
    by_hand = np.mean([1 + s / (0.8 * 2) * 0.2 for s in _STAKES])
    assert log_capital(regions, 0.5, 0.8) == pytest.approx(math.log(by_hand))
    # A wrong region: Z = p. Nothing accepted: no bet.
    wrong = labelled([0.9], [0], [0], [0])
    assert log_capital(wrong, 0.5, 0.8) == pytest.approx(math.log(np.mean([1 - s / 2 for s in _STAKES])))
    assert log_capital(wrong, 0.95, 0.8) == pytest.approx(0.0)


def test_all_regions_wrong_leaves_finite_capital() -> None:
    worst = labelled([0.9] * 8, [0] * 8, [0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 2, 3])
    for precision in (0.01, 0.5, 0.99):
        assert np.isfinite(log_capital(worst, 0.5, precision))


def test_shuffled_images_give_the_same_capital() -> None:
    rng = np.random.default_rng(0)
    correct, order = rng.random(50) < 0.8, rng.permutation(50)
    ordered = labelled([0.9] * 50, correct.tolist(), list(range(50)), list(range(50)))
    shuffled = labelled([0.9] * 50, correct[order].tolist(), list(range(50)), list(range(50)))
    assert log_capital(ordered, 0.5, 0.6) == pytest.approx(log_capital(shuffled, 0.5, 0.6))


def test_fixed_sequence_ends_at_the_first_threshold_that_fails() -> None:
    # 60 images correct at 0.9, 60 wrong at 0.6, then 400 correct at 0.3: only the first threshold meets the target
    # before the middle one fails, although the last would meet it again.
    probability = [0.9] * 60 + [0.6] * 60 + [0.3] * 400
    correct = [1] * 60 + [0] * 60 + [1] * 400
    regions = labelled(probability, correct, list(range(520)), list(range(520)))
    config = RiskControlConfig(target_precision=0.8, confidence=0.9, min_calibration_images=1)
    assert log_capital(regions, 0.3, 0.8) > math.log(10)
    assert fixed_sequence_test([0.9, 0.6, 0.3], regions, config) == 0.9
    assert fixed_sequence_test([0.6, 0.9], regions, config) is None
    assert fixed_sequence_test([], regions, config) is None


def test_threshold_sequence_falls_and_starts_where_the_evidence_is() -> None:
    probability = np.linspace(0.99, 0.01, 300)
    correct = np.arange(300) < 150
    regions = labelled(probability.tolist(), correct.tolist(), list(range(300)), list(range(300)))
    config = RiskControlConfig(target_precision=0.8, confidence=0.9, min_calibration_images=1)
    thresholds = threshold_sequence(regions, 300, config)
    assert thresholds == sorted(thresholds, reverse=True)
    assert 0.5 < thresholds[0] < 0.9
    assert thresholds[-1] == pytest.approx(0.01)
    # Fewer calibration images need more of them accepted before they can prove anything.
    assert threshold_sequence(regions, 40, config)[0] < thresholds[0]
    assert threshold_sequence(labelled([], [], [], [0]), 40, config) == []


def test_lower_bound_is_the_largest_precision_that_the_test_certifies() -> None:
    rng = np.random.default_rng(1)
    regions = labelled(
        [0.9] * 400, (rng.random(400) < 0.8).tolist(), list(range(400)), list(range(400)), max_per_image=1
    )
    bound = precision_lower_bound(regions, 0.5, 0.9)
    assert bound is not None
    precision = regions.precision(0.5)
    assert precision is not None
    # Clopper-Pearson's bound for 400 images is about 0.026 below; a bet that holds at any sample size pays a little.
    assert precision - 0.07 < bound < precision - 0.02
    assert log_capital(regions, 0.5, bound) >= math.log(10) > log_capital(regions, 0.5, bound + 0.005)
    assert precision_lower_bound(regions, 0.95, 0.9) is None


def draw(rng: np.random.Generator, patients: int) -> LabelledRegions:
    """Patients with one to three images of up to two regions; the regions of a patient are correct or wrong together.

    A region of probability q is correct with the patient's own chance, on average q ** 2: the score is overconfident.
    """
    groups = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    regions = rng.integers(0, 3, len(groups))
    image = np.repeat(np.arange(len(groups)), regions)
    probability = rng.random(len(image))
    luck = rng.random(patients)[groups[image]]
    return LabelledRegions(
        probability=probability,
        correct=luck < probability**2,
        image=image,
        patient=groups[image],
        images_per_patient=np.bincount(groups, minlength=patients),
        max_per_image=2,
    )


def test_target_precision_is_missed_in_at_most_one_minus_confidence_of_studies() -> None:
    rng = np.random.default_rng(7)
    config = RiskControlConfig(target_precision=0.6, confidence=0.8, min_calibration_images=1)
    truth, thresholds = draw(rng, 40_000), threshold_sequence(draw(rng, 400), 200, config)
    studies, missed, certified = 400, 0, 0
    for _ in range(studies):
        threshold = fixed_sequence_test(thresholds, draw(rng, 200), config)
        if threshold is not None:
            certified += 1
            precision = truth.precision(threshold)
            assert precision is not None
            missed += precision < 0.6
    assert certified > studies / 2
    assert missed <= 0.2 * studies


def test_precision_exactly_at_the_target_is_certified_within_the_error_level() -> None:
    # The precision is exactly the target: every rejection is an error.
    rng = np.random.default_rng(3)
    errors = 0
    for _ in range(2000):
        groups = np.arange(100)
        # Both regions of an image share their fate.
        correct = np.repeat(rng.random(100) < 0.6, 2)
        regions = labelled([0.9] * 200, correct.tolist(), np.repeat(groups, 2).tolist(), groups.tolist())
        errors += log_capital(regions, 0.5, 0.6) >= math.log(10)
    assert 0 < errors <= 200
