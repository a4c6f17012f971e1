"""Laterality: what the side that a text names changes in a prediction. No paper measures it.

The share of a map's or mask's mass on the named side, less that under the same text with its sides exchanged, says
whether the prediction moves. Retention and suppression compare the prediction for a text of both sides with the
predictions for its two counterfactual texts, each of which names one side alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.geometry import Mask
from pipelines.sides import OPPOSITE, split_by_side

# Two shares nearer than this are alike: sums in float32 differ with the order of summation.
TIE = 1e-5


def side_share(values: np.ndarray, side: str, *, patient_sides: bool) -> float:
    """Share of a map's level in the half of the image that is called left or right; of a middle column half counts.

    The levels of both halves are means over what is seen of them: where a crop shows more of one half, its sum would be
    the larger one for any map.

    Args:
        values: (height, width), 0 or more, without padding; NaN where a method sees nothing.
        side: left or right.
        patient_sides: Whether it is that of the patient, who faces the viewer, or that of the image.

    Returns:
        0 to 1; 1/2 where the map is 0, which is on no side, or where one half is not seen.
    """
    width = values.shape[1]
    in_left_half = np.clip(width / 2 - np.arange(width), 0, 1)
    seen, levels = ~np.isnan(values), np.nan_to_num(values)
    halves = in_left_half, 1 - in_left_half
    if not all((seen @ half).any() for half in halves):
        return 0.5
    left, right = ((levels @ half).sum() / (seen @ half).sum() for half in halves)
    if left + right <= 0:
        return 0.5
    share = float(left / (left + right))
    return share if (side == "left") != patient_sides else 1 - share


def moved(shift: float) -> float:
    """1 where a difference of shares is above 0, 0 where it is below, 1/2 where there is none."""
    return 0.5 if abs(shift) <= TIE else float(shift > 0)


@dataclass(frozen=True, kw_only=True)
class LateralityEffect:
    """What two counterfactual texts, one for each side, change in the true positives of one image.

    Attributes:
        retention: Fraction of the true positives on the named side that stay, 0 to 1.
        suppression: Fraction of the true positives on the other side that disappear, 0 to 1.
    """

    retention: float
    suppression: float


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
