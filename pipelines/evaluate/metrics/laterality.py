"""Laterality: what a text of one side changes in the prediction.

No paper measures it. Retention and suppression compare the prediction for a text of both sides with the predictions for
its two counterfactual texts, each of which names one side alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from models.geometry import Mask
from pipelines.sides import OPPOSITE, split_by_side


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
