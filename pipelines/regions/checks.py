"""What makes a region acceptable: a box inside the image, limits of size, score, border and number.

Reason codes: box_not_finite, box_outside, too_small, too_large, low_score, touches_border; the caller adds
score_not_finite and beyond_max_regions.
"""

import math
from typing import Any

from pipelines.masks import Box
from pipelines.regions.config import RegionsConfig


def clip(box: Box, width: int, height: int) -> tuple[Box, str | None]:
    """A box cut to the image, and a reason code where nothing useful is left (the box is then empty)."""
    if not all(math.isfinite(edge) for edge in box):
        return (0.0, 0.0, 0.0, 0.0), "box_not_finite"
    x0, x1 = (min(max(edge, 0.0), float(width)) for edge in (box[0], box[2]))
    y0, y1 = (min(max(edge, 0.0), float(height)) for edge in (box[1], box[3]))
    if x0 >= x1 or y0 >= y1:
        return (x0, y0, x0, y0), "box_outside"
    return (x0, y0, x1, y1), None


def fault(row: dict[str, Any], width: int, height: int, annotated: bool, config: RegionsConfig) -> str | None:
    """The reason code of the first limit that a region breaks, or None.

    A `truth` region is what the source says, whatever its extent: only specks, defects of a mask, are refused.

    Args:
        row: Row of `REGIONS` with box, area_share, score and role.
        width: Of the image.
        height: Of the image.
        annotated: The box is the source's own, so that touching the border is no sign of a mistake.
        config: The limits.
    """
    if min(row["x1"] - row["x0"], row["y1"] - row["y0"]) < config.min_side or row["area_share"] < config.min_area_share:
        return "too_small"
    if row["role"] == "truth":
        return None
    if row["area_share"] > config.max_area_share:
        return "too_large"
    if row["score"] < config.min_score:
        return "low_score"
    # At the border, a proposal is a printed letter, a shoulder or an endoscope's dark rim more often than a finding.
    at_border = row["x0"] <= 0 or row["y0"] <= 0 or row["x1"] >= width or row["y1"] >= height
    if at_border and not annotated:
        return "touches_border"
    return None
