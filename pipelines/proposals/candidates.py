"""From a plug-in's answers to candidates: boxes clipped, scores checked, masks measured and encoded, the best first.

A candidate is a dict of JSON values, the columns of `PROPOSALS` that depend on the picture and the plug-ins alone; the
result cache keeps them. Reason codes: box_not_finite, box_outside, score_not_finite, beyond_max_proposals.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from models.geometry import Box, box_ious, box_of_mask, clip_box
from pipelines.masks import encode
from pipelines.proposals.overlap import box_of_row
from pipelines.proposals.protocols import Mask, Proposal, Segment

Candidate = dict[str, Any]


def clip(box: Box, width: int, height: int) -> tuple[Box, str | None]:
    """A box cut to the image, and a reason code where nothing useful is left (the box is then empty)."""
    if not all(math.isfinite(edge) for edge in box):
        return (0.0, 0.0, 0.0, 0.0), "box_not_finite"
    x0, y0, x1, y1 = clip_box(box, width, height)
    if x0 >= x1 or y0 >= y1:
        return (x0, y0, x0, y0), "box_outside"
    return (x0, y0, x1, y1), None


def candidate(proposal: Proposal, width: int, height: int) -> Candidate:
    """One proposal for an image of this size."""
    box, reason = clip(proposal.box, width, height)
    if not math.isfinite(proposal.score):
        reason = reason or "score_not_finite"
    area = min(round((box[2] - box[0]) * (box[3] - box[1])), width * height)
    found: Candidate = {
        "segmenter": None,
        "label": proposal.label,
        "adjective": proposal.adjective,
        **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
        "mask": None,
        "area": area,
        "area_fraction": area / (width * height),
        "score": _share(proposal.score),
        "mask_quality": None,
        "mask_stability": None,
        "box_agreement": None,
        "reason": reason,
    }
    if proposal.mask is not None and proposal.mask.any():
        _set_mask(found, proposal.mask, width, height)
    return found


def best_first(candidates: Iterable[Candidate], most: int) -> list[Candidate]:
    """Candidates by falling score; those that could be used beyond `most` get a reason and lose their masks."""
    ordered = sorted(candidates, key=lambda found: (-found["score"], -found["area"], *box_of_row(found)))
    usable = [found for found in ordered if found["reason"] is None]
    for found in usable[most:]:
        found.update(mask=None, box_agreement=None, reason="beyond_max_proposals")
    return ordered


def awaits_mask(found: Candidate) -> bool:
    return found["mask"] is None and found["reason"] is None


def set_segment(found: Candidate, segment: Segment, segmenter: str, width: int, height: int) -> None:
    """Add a segmenter's answer; an empty mask leaves the box alone, with the quality that the segmenter gave it."""
    found.update(segmenter=segmenter, mask_quality=_share(segment.quality), mask_stability=_share(segment.stability))
    if segment.mask.any():
        _set_mask(found, segment.mask, width, height)


def _set_mask(found: Candidate, mask: Mask, width: int, height: int) -> None:
    if mask.shape != (height, width):
        raise ValueError(f"a mask of {mask.shape[1]} x {mask.shape[0]} pixels for an image of {width} x {height}")
    area = int(np.count_nonzero(mask))
    agreement = float(box_ious([box_of_row(found)], [box_of_mask(mask)])[0, 0])
    found.update(mask=encode(mask), area=area, area_fraction=area / mask.size, box_agreement=agreement)


def _share(value: float) -> float:
    """A number as a share, 0 to 1; 0 where it is not finite."""
    return min(max(float(value), 0.0), 1.0) if math.isfinite(value) else 0.0
