"""Threshold selection: risk control selects each group's threshold on validation images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.regions.calibration.held_out import ThresholdMetrics, evaluate_threshold
from pipelines.regions.calibration.risk_control import LabelledRegions, fixed_sequence_test, threshold_sequence
from pipelines.regions.config import RegionsConfig


@dataclass(frozen=True, kw_only=True)
class SelectedThreshold:
    """The threshold of one group.

    Attributes:
        threshold: Least probability of a certified region; None where no threshold was certified.
        reason: Why none was: no_score, no_calibration_images, no_fitting_images or first_threshold_failed.
        calibration: Metrics on validation images, at the threshold or, where there is none, at `min_probability`.
        test: The same on test images.
    """

    threshold: float | None
    reason: str | None
    calibration: ThresholdMetrics
    test: ThresholdMetrics


def select_threshold(splits: Mapping[str, LabelledRegions], config: RegionsConfig) -> SelectedThreshold:
    """Select the threshold of one group and evaluate it.

    Training images (their out-of-fold probabilities) decide the order of the thresholds, validation images select
    among them, and test images evaluate the selected one.
    """
    control = config.risk_control
    train, validation, test = splits["train"], splits["validation"], splits["test"]
    calibration_patients = len(validation.images_per_patient)
    thresholds = threshold_sequence(train, calibration_patients, control)
    threshold, reason = None, "first_threshold_failed"
    if any(np.isnan(regions.probability).any() for regions in splits.values()):
        reason = "no_score"
    elif not calibration_patients:
        reason = "no_calibration_images"
    elif not thresholds:
        reason = "no_fitting_images"
    else:
        threshold = fixed_sequence_test(thresholds, validation, control)
    evaluated = config.min_probability if threshold is None else threshold
    return SelectedThreshold(
        threshold=threshold,
        reason=reason if threshold is None else None,
        calibration=evaluate_threshold(validation, evaluated, control.confidence, control.quantity),
        test=evaluate_threshold(test, evaluated, control.confidence, control.quantity),
    )
