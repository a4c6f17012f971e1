"""The test behind the promise: by hand, and by drawing the same study many times from a known truth."""

import math

import numpy as np
import pytest

from pipelines.regions.config import PromiseConfig
from pipelines.regions.promise import _STAKES, Sample, certify, log_capital, lower_bound, sequence


def sample(probability: list[float], right: list[int], image: list[int], groups: list[int], most: int = 2) -> Sample:
    """Groups: the patient of each image."""
    return Sample(
        probability=np.array(probability),
        right=np.array(right, dtype=bool),
        image=np.array(image, dtype=int),
        patient=np.array([groups[place] for place in image], dtype=int),
        images=np.bincount(groups),
        most=most,
    )


def test_precision_counts_each_patient_once() -> None:
    # Patient 0: two images with three right regions; patient 1: one image with one wrong region.
    found = sample([0.9, 0.8, 0.7, 0.9], [1, 1, 1, 0], [0, 0, 1, 2], [0, 0, 1])
    # (3/2 + 0) right of (3/2 + 1) accepted an image.
    assert found.precision(0.5) == pytest.approx(1.5 / 2.5)
    assert found.precision(0.75) == pytest.approx(1.0 / 2.0)
    assert found.precision(0.95) is None


def test_capital_by_hand() -> None:
    # One image, one right region: Z = -(1 - p), each stake eta = s / (p * most) earns 1 + eta (1 - p).
    found = sample([0.9], [1], [0], [0])
    by_hand = np.mean([1 + s / (0.8 * 2) * 0.2 for s in _STAKES])
    assert log_capital(found, 0.5, 0.8) == pytest.approx(math.log(by_hand))
    # A wrong region: Z = p. Nothing accepted: no bet.
    wrong = sample([0.9], [0], [0], [0])
    assert log_capital(wrong, 0.5, 0.8) == pytest.approx(math.log(np.mean([1 - s / 2 for s in _STAKES])))
    assert log_capital(wrong, 0.95, 0.8) == pytest.approx(0.0)


def test_no_bet_loses_more_than_it_has() -> None:
    worst = sample([0.9] * 8, [0] * 8, [0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 2, 3])
    for precision in (0.01, 0.5, 0.99):
        assert np.isfinite(log_capital(worst, 0.5, precision))


def test_order_of_images_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    right, order = rng.random(50) < 0.8, rng.permutation(50)
    one = sample([0.9] * 50, right.tolist(), list(range(50)), list(range(50)))
    other = sample([0.9] * 50, right[order].tolist(), list(range(50)), list(range(50)))
    assert log_capital(one, 0.5, 0.6) == pytest.approx(log_capital(other, 0.5, 0.6))


def test_fixed_sequence_ends_at_the_first_failure() -> None:
    # 60 images right at 0.9, 60 wrong at 0.6, then 400 right at 0.3: only the first threshold keeps the promise before
    # the middle one fails, although the last would keep it again.
    probability = [0.9] * 60 + [0.6] * 60 + [0.3] * 400
    right = [1] * 60 + [0] * 60 + [1] * 400
    found = sample(probability, right, list(range(520)), list(range(520)))
    config = PromiseConfig(precision=0.8, confidence=0.9, min_calibration=1)
    assert log_capital(found, 0.3, 0.8) > math.log(10)
    assert certify([0.9, 0.6, 0.3], found, config) == 0.9
    assert certify([0.6, 0.9], found, config) is None
    assert certify([], found, config) is None


def test_sequence_falls_and_starts_where_the_evidence_is() -> None:
    probability = np.linspace(0.99, 0.01, 300)
    right = np.arange(300) < 150
    found = sample(probability.tolist(), right.tolist(), list(range(300)), list(range(300)))
    config = PromiseConfig(precision=0.8, confidence=0.9, min_calibration=1)
    thresholds = sequence(found, 300, config)
    assert thresholds == sorted(thresholds, reverse=True)
    assert 0.5 < thresholds[0] < 0.9
    assert thresholds[-1] == pytest.approx(0.01)
    # Fewer calibration images need more of them accepted before they can prove anything.
    assert sequence(found, 40, config)[0] < thresholds[0]
    assert sequence(sample([], [], [], [0]), 40, config) == []


def test_lower_bound_agrees_with_the_test() -> None:
    rng = np.random.default_rng(1)
    found = sample([0.9] * 400, (rng.random(400) < 0.8).tolist(), list(range(400)), list(range(400)), most=1)
    bound = lower_bound(found, 0.5, 0.9)
    assert bound is not None
    precision = found.precision(0.5)
    assert precision is not None
    # Clopper-Pearson's bound for 400 images is about 0.026 below; a bet that holds at any sample size pays a little.
    assert precision - 0.07 < bound < precision - 0.02
    assert log_capital(found, 0.5, bound) >= math.log(10) > log_capital(found, 0.5, bound + 0.005)
    assert lower_bound(found, 0.95, 0.9) is None


def draw(rng: np.random.Generator, patients: int) -> Sample:
    """Patients with one to three images of up to two regions; right and wrong go together within a patient.

    A region of probability q is right with the patient's own chance, on average q ** 2: the score is overconfident.
    """
    groups = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    regions = rng.integers(0, 3, len(groups))
    image = np.repeat(np.arange(len(groups)), regions)
    probability = rng.random(len(image))
    luck = rng.random(patients)[groups[image]]
    return Sample(
        probability=probability,
        right=luck < probability**2,
        image=image,
        patient=groups[image],
        images=np.bincount(groups, minlength=patients),
        most=2,
    )


def test_the_promise_is_broken_no_more_often_than_it_says() -> None:
    rng = np.random.default_rng(7)
    config = PromiseConfig(precision=0.6, confidence=0.8, min_calibration=1)
    truth, thresholds = draw(rng, 40_000), sequence(draw(rng, 400), 200, config)
    studies, broken, certified = 400, 0, 0
    for _ in range(studies):
        threshold = certify(thresholds, draw(rng, 200), config)
        if threshold is not None:
            certified += 1
            precision = truth.precision(threshold)
            assert precision is not None
            broken += precision < 0.6
    assert certified > studies / 2
    assert broken <= 0.2 * studies


def test_at_the_edge_each_test_errs_within_its_level() -> None:
    # The precision is exactly what is promised: every rejection is an error.
    rng = np.random.default_rng(3)
    errors = 0
    for _ in range(2000):
        groups = np.arange(100)
        # Both regions of an image share their fate.
        right = np.repeat(rng.random(100) < 0.6, 2)
        found = sample([0.9] * 200, right.tolist(), np.repeat(groups, 2).tolist(), groups.tolist())
        errors += log_capital(found, 0.5, 0.6) >= math.log(10)
    assert 0 < errors <= 200
