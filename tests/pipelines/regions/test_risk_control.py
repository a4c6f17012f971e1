"""Risk control: its test by hand, and its guarantee by drawing the same study many times from a known truth."""

import math

import numpy as np
import pytest
from scipy.stats import beta, binom

from pipelines.regions.calibration.risk_control import (
    _STAKES,
    LabelledRegions,
    fixed_sequence_test,
    log_evidence,
    precision_lower_bound,
    threshold_sequence,
)
from pipelines.regions.config import QUANTITIES, RiskControlConfig


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
    assert regions.precision(0.5, "region") == pytest.approx(1.5 / 2.5)
    assert regions.precision(0.75, "region") == pytest.approx(1.0 / 2.0)
    assert regions.precision(0.95, "region") is None


def test_capital_of_one_correct_and_one_wrong_region_equals_values_by_hand() -> None:
    # One image, one correct region: Z = -(1 - p), each stake eta = s / (p * max_per_image) earns 1 + eta (1 - p).
    regions = labelled([0.9], [1], [0], [0])
    by_hand = np.mean([1 + s / (0.8 * 2) * 0.2 for s in _STAKES])
    assert log_evidence(regions, 0.5, 0.8, "region") == pytest.approx(math.log(by_hand))
    # A wrong region: Z = p. Nothing accepted: no bet.
    wrong = labelled([0.9], [0], [0], [0])
    assert log_evidence(wrong, 0.5, 0.8, "region") == pytest.approx(math.log(np.mean([1 - s / 2 for s in _STAKES])))
    assert log_evidence(wrong, 0.95, 0.8, "region") == pytest.approx(0.0)


def test_all_regions_wrong_leaves_finite_capital() -> None:
    worst = labelled([0.9] * 8, [0] * 8, [0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 2, 3])
    for precision in (0.01, 0.5, 0.99):
        assert np.isfinite(log_evidence(worst, 0.5, precision, "region"))


def test_shuffled_images_give_the_same_capital() -> None:
    rng = np.random.default_rng(0)
    correct, order = rng.random(50) < 0.8, rng.permutation(50)
    ordered = labelled([0.9] * 50, correct.tolist(), list(range(50)), list(range(50)))
    shuffled = labelled([0.9] * 50, correct[order].tolist(), list(range(50)), list(range(50)))
    assert log_evidence(ordered, 0.5, 0.6, "region") == pytest.approx(log_evidence(shuffled, 0.5, 0.6, "region"))


def test_fixed_sequence_ends_at_the_first_threshold_that_fails() -> None:
    # 60 images correct at 0.9, 60 wrong at 0.6, then 400 correct at 0.3: only the first threshold meets the target
    # before the middle one fails, although the last would meet it again.
    probability = [0.9] * 60 + [0.6] * 60 + [0.3] * 400
    correct = [1] * 60 + [0] * 60 + [1] * 400
    regions = labelled(probability, correct, list(range(520)), list(range(520)))
    config = RiskControlConfig(quantity="region", target_precision=0.8, confidence=0.9, min_calibration_images=1)
    assert log_evidence(regions, 0.3, 0.8, "region") > math.log(10)
    assert fixed_sequence_test([0.9, 0.6, 0.3], regions, config) == 0.9
    assert fixed_sequence_test([0.6, 0.9], regions, config) is None
    assert fixed_sequence_test([], regions, config) is None


def test_threshold_sequence_falls_and_starts_where_the_evidence_is() -> None:
    probability = np.linspace(0.99, 0.01, 300)
    correct = np.arange(300) < 150
    regions = labelled(probability.tolist(), correct.tolist(), list(range(300)), list(range(300)))
    config = RiskControlConfig(quantity="region", target_precision=0.8, confidence=0.9, min_calibration_images=1)
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
    bound = precision_lower_bound(regions, 0.5, 0.9, "region")
    assert bound is not None
    precision = regions.precision(0.5, "region")
    assert precision is not None
    # Clopper-Pearson's bound for 400 images is about 0.026 below; a bet that holds at any sample size pays a little.
    assert precision - 0.07 < bound < precision - 0.02
    assert (
        log_evidence(regions, 0.5, bound, "region")
        >= math.log(10)
        > log_evidence(regions, 0.5, bound + 0.005, "region")
    )
    assert precision_lower_bound(regions, 0.95, 0.9, "region") is None


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
    config = RiskControlConfig(quantity="region", target_precision=0.6, confidence=0.8, min_calibration_images=1)
    truth, thresholds = draw(rng, 40_000), threshold_sequence(draw(rng, 400), 200, config)
    studies, missed, certified = 400, 0, 0
    for _ in range(studies):
        threshold = fixed_sequence_test(thresholds, draw(rng, 200), config)
        if threshold is not None:
            certified += 1
            precision = truth.precision(threshold, "region")
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
        errors += log_evidence(regions, 0.5, 0.6, "region") >= math.log(10)
    assert 0 < errors <= 200


# Three patients: two images with a right and a wrong region each, the wrong one before it in the second; one wrong
# region; two right ones, of which only one is above 0.5.
THREE = ([0.9, 0.6, 0.95, 0.7, 0.8, 0.85, 0.4], [1, 0, 0, 1, 0, 1, 1], [0, 0, 1, 1, 2, 3, 3], [0, 0, 1, 2])


def test_quantities_by_hand() -> None:
    regions = labelled(*THREE)
    # Of images: patient 0 has 2 of 4 in 2 images, patient 1 has 0 of 1, patient 2 has 1 of 1.
    assert regions.precision(0.5, "region") == pytest.approx((2 / 2 + 0 + 1) / (4 / 2 + 1 + 1))
    assert regions.precision(0.5, "patient_mean") == pytest.approx((2 / 4 + 0 + 1) / 3)
    # The most probable ones: 0.95 (wrong), 0.8 (wrong), 0.85 (right).
    assert regions.precision(0.5, "patient_best") == pytest.approx(1 / 3)
    assert regions.precision(0.82, "patient_mean") == pytest.approx((1 / 2 + 1) / 2)
    assert regions.precision(0.82, "patient_best") == pytest.approx(1 / 2)
    for quantity in QUANTITIES:
        assert regions.precision(0.96, quantity) is None
        assert precision_lower_bound(regions, 0.96, 0.9, quantity) is None


def test_a_patient_s_mean_is_bet_on_with_losses_up_to_the_target() -> None:
    by_hand = np.mean(
        [(1 + s / 0.8 * (0.5 - 0.8)) * (1 + s / 0.8 * (0 - 0.8)) * (1 + s / 0.8 * (1 - 0.8)) for s in _STAKES]
    )
    assert log_evidence(labelled(*THREE), 0.5, 0.8, "patient_mean") == pytest.approx(math.log(by_hand))


@pytest.mark.parametrize(("patients", "right"), [(1, 1), (10, 10), (44, 27), (200, 90), (30, 0)])
def test_evidence_of_best_regions_is_the_binomial_tail(patients: int, right: int) -> None:
    # A second region of each patient, less probable, has no say.
    correct = [n < right for n in range(patients)] + [n >= right for n in range(patients)]
    groups = list(range(patients))
    regions = labelled([0.9] * patients + [0.8] * patients, [int(one) for one in correct], groups * 2, groups)
    for target in (0.1, 0.4, 0.9):
        tail = float(binom.sf(right - 1, patients, target))
        assert math.exp(-log_evidence(regions, 0.5, target, "patient_best")) == pytest.approx(tail, rel=1e-9)
    # The prediction for a sample of another size is the same test of as many times the patients.
    twice = float(binom.sf(2 * right - 1, 2 * patients, 0.4))
    assert math.exp(-log_evidence(regions, 0.5, 0.4, "patient_best", 2.0)) == pytest.approx(twice, rel=1e-9)


def test_overwhelming_evidence_is_finite() -> None:
    groups = list(range(3000))
    regions = labelled([0.9] * 3000, [1] * 3000, groups, groups)
    assert np.isfinite(log_evidence(regions, 0.5, 0.1, "patient_best"))


def test_lower_bound_of_best_regions_is_that_of_clopper_and_pearson() -> None:
    groups = list(range(44))
    regions = labelled([0.9] * 44, [1] * 27 + [0] * 17, groups, groups)
    bound = precision_lower_bound(regions, 0.5, 0.9, "patient_best")
    exact = float(beta.ppf(0.1, 27, 18))
    assert bound is not None
    assert exact - 0.005 <= bound <= exact


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_quantity_just_at_its_target_is_certified_within_the_error_level(quantity: str) -> None:
    rng = np.random.default_rng(5)
    groups = np.arange(100)
    errors = 0
    for _ in range(1000):
        # A patient's two regions share their fate: all three quantities are 0.6.
        correct = np.repeat(rng.random(100) < 0.6, 2)
        regions = labelled([0.9] * 200, correct.tolist(), np.repeat(groups, 2).tolist(), groups.tolist())
        errors += log_evidence(regions, 0.5, 0.6, quantity) >= math.log(10)
    assert 0 < errors <= 130


def test_a_mistyped_quantity_is_an_error() -> None:
    with pytest.raises(ValueError, match="quantity is 'best': choose region, patient_mean, patient_best"):
        RiskControlConfig(quantity="best", target_precision=0.5, confidence=0.9, min_calibration_images=1)
