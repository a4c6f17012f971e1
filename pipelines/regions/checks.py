"""Hard limits: what no probability can make acceptable.

Reason codes: too_small, too_large, low_score, unstable_mask, touches_border, absent_class, overlaps_better,
beyond_max_regions.
"""

from collections.abc import Sequence
from typing import Any

from models.geometry import Box, box_ious
from pipelines.regions.config import RegionsConfig


def fault(row: dict[str, Any], width: int, height: int, config: RegionsConfig) -> str | None:
    """The reason code of the first limit that a proposal breaks, or None.

    A mask that is not stable refuses the region and does not leave the bare box: the joint score and the truth by which
    it is judged belong to the mask.

    Args:
        row: Row of `PROPOSALS`.
        width: Of the image.
        height: Of the image.
        config: The limits.
    """
    if is_speck(row, config):
        return "too_small"
    if row["area_fraction"] > config.max_area_fraction:
        return "too_large"
    if row["score"] < config.min_score:
        return "low_score"
    if row["sees_annotations"]:
        return None
    if row["mask_stability"] is not None and row["mask_stability"] < config.min_mask_stability:
        return "unstable_mask"
    # At the border, a proposal is a printed letter, a shoulder or an endoscope's dark rim more often than a finding.
    if row["x0"] <= 0 or row["y0"] <= 0 or row["x1"] >= width or row["y1"] >= height:
        return "touches_border"
    return None


def is_speck(row: dict[str, Any], config: RegionsConfig) -> bool:
    """Smaller than a finding can be; the one limit that the truth must keep too, for specks are defects of a mask."""
    side = min(row["x1"] - row["x0"], row["y1"] - row["y0"])
    return bool(side < config.min_side or row["area_fraction"] < config.min_area_fraction)


def names_absent_class(row: dict[str, Any], image: dict[str, Any]) -> bool:
    """The proposal names a finding that the source denies by not listing it.

    On training images alone: on the others the labels are what results are judged by.
    """
    if image["split"] != "train" or image["labels"] is None or row["label"] is None:
        return False
    return row["label"].casefold() not in {label.casefold() for label in image["labels"]}


def surplus(boxes: Sequence[Box], kept: Sequence[bool], config: RegionsConfig) -> list[str | None]:
    """Reason codes of one image's regions that another one makes superfluous.

    Greedy non-maximum suppression across all proposers, then the limit of number. Whatever threshold cuts the list
    below, the reasons above it are the same: a region goes because of better ones alone.

    Args:
        boxes: Best first.
        kept: Regions that stay whatever overlaps them, such as a person's.
        config: `overlap` and `max_regions`.
    """
    overlaps = box_ious(boxes, boxes) > config.overlap
    reasons: list[str | None] = []
    standing: list[int] = []
    for index, certain in enumerate(kept):
        if not certain and overlaps[index, standing].any():
            reasons.append("overlaps_better")
        elif not certain and len(standing) >= config.max_regions:
            reasons.append("beyond_max_regions")
        else:
            reasons.append(None)
            standing.append(index)
    return reasons
