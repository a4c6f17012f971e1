"""Laterality: the sides of a target, and what a text of one side changes in the prediction.

No paper measures it. Retention and suppression compare the prediction for a text of both sides with the predictions for
its two counterfactual texts, each of which names one side alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from models.geometry import Mask

OPPOSITE = {"left": "right", "right": "left"}


@dataclass(frozen=True, kw_only=True)
class LateralityEffect:
    """What two counterfactual texts, one for each side, change in the true positives of one image.

    Attributes:
        retention: Fraction of the true positives on the named side that stay, 0 to 1.
        suppression: Fraction of the true positives on the other side that disappear, 0 to 1.
    """

    retention: float
    suppression: float


def split_by_side(target: Mask, *, patient_sides: bool) -> dict[str, Mask]:
    """The parts of a target on each side: a connected component belongs to the image half that its centroid is in.

    Args:
        target: (height, width), without padding.
        patient_sides: Whether left and right are those of the patient, who faces the viewer, or those of the image.
    """
    components, number = scipy.ndimage.label(target, np.ones((3, 3)))
    centroids = scipy.ndimage.center_of_mass(target, components, range(1, number + 1))
    in_left_half = [n for n, (_, column) in enumerate(centroids, start=1) if column + 0.5 < target.shape[1] / 2]
    left_half = np.isin(components, in_left_half)
    halves = {"left": left_half, "right": target & ~left_half}
    return {side: halves[OPPOSITE[side]] for side in OPPOSITE} if patient_sides else halves


def image_half(target: Mask) -> str | None:
    """The image half (left or right) that holds all components of a target; None where both do, or it is empty."""
    halves = [half for half, part in split_by_side(target, patient_sides=False).items() if part.any()]
    return halves[0] if len(halves) == 1 else None


def laterality_effect(
    target: Mask, predicted: Mask, counterfactual: Mapping[str, Mask], *, patient_sides: bool
) -> LateralityEffect | str:
    """Retention and suppression of one image; the true positives of both counterfactual texts count together.

    With TP_s the true positives of the full text on side s, of TP in all, and P_s the prediction for the text of side
    s: retention = sum_s |TP_s and P_s| / TP, suppression = sum_s |TP_other(s) without P_s| / TP.

    Args:
        target: (height, width), without padding.
        predicted: The prediction for the full text.
        counterfactual: Side -> the prediction for the text of this side alone.
        patient_sides: As in `split_by_side`.

    Returns:
        The effect, or the reason code for which the image has none: `target_on_one_side`, or `no_true_positives` with
        the full text.
    """
    sides = split_by_side(target, patient_sides=patient_sides)
    if not all(part.any() for part in sides.values()):
        return "target_on_one_side"
    true_positives = int((target & predicted).sum())
    if not true_positives:
        return "no_true_positives"
    kept = sum(int((sides[side] & predicted & mask).sum()) for side, mask in counterfactual.items())
    removed = sum(int((sides[OPPOSITE[side]] & predicted & ~mask).sum()) for side, mask in counterfactual.items())
    return LateralityEffect(retention=kept / true_positives, suppression=removed / true_positives)
