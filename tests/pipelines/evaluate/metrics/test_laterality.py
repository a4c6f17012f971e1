"""Retention and suppression, by hand."""

import numpy as np

from pipelines.evaluate.metrics.laterality import LateralityEffect, laterality_effect


def test_retention_and_suppression_by_hand() -> None:
    target = np.array([[1, 1, 1, 0, 0, 1, 1]], bool)
    full = np.array([[1, 1, 0, 1, 0, 1, 1]], bool)
    counterfactual = {
        "left": np.array([[1, 0, 1, 1, 0, 0, 1]], bool),
        "right": np.array([[0, 1, 0, 0, 0, 1, 1]], bool),
    }
    # True positives: 2 left, 2 right. Text of the left: 1 of 2 stays, 1 of the right 2 disappears. Text of the right:
    # both stay, 1 of the left 2 disappears.
    assert laterality_effect(target, full, counterfactual, patient_sides=False) == LateralityEffect(
        retention=3 / 4, suppression=2 / 4
    )
    swapped = {"left": counterfactual["right"], "right": counterfactual["left"]}
    assert laterality_effect(target, full, swapped, patient_sides=True) == LateralityEffect(
        retention=3 / 4, suppression=2 / 4
    )
    # The text is followed in all, and in nothing.
    following = {"left": full & (np.arange(7) < 3), "right": full & (np.arange(7) > 3)}
    assert laterality_effect(target, full, following, patient_sides=False) == LateralityEffect(
        retention=1, suppression=1
    )
    assert laterality_effect(target, full, {"left": full, "right": full}, patient_sides=False) == LateralityEffect(
        retention=1, suppression=0
    )


def test_images_without_an_effect_have_a_reason_code() -> None:
    target = np.array([[1, 0, 0, 1]], bool)
    nothing = np.zeros_like(target)
    counterfactual = {"left": target, "right": target}
    assert laterality_effect(target, nothing, counterfactual, patient_sides=False) == "no_true_positives"
    assert laterality_effect(target, ~target, counterfactual, patient_sides=False) == "no_true_positives"
    assert (
        laterality_effect(np.array([[1, 1, 0, 0]], bool), target, counterfactual, patient_sides=False)
        == "target_on_one_side"
    )
