"""From a plug-in's answers to candidates: boxes clipped, scores checked, masks measured and encoded, the best first.

Reason codes: box_not_finite, box_outside, score_not_finite, beyond_max_proposals.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.data.json_fields import field_values
from models.geometry import Box, Mask, box_ious, box_of_mask, clip_box
from pipelines.masks import encode
from pipelines.proposals.protocols import Proposal, Segment

# Part of the result cache's keys: raise it when this module makes other candidates of the same answers.
CANDIDATE_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredProposal:
    """What depends on the image and the plug-ins alone of a row of `PROPOSALS`; the result cache keeps it as JSON.

    Attributes:
        box: Clipped to the image.
        mask: Run-length code.
        area: Pixels of the mask, or of the box where there is none.
        area_fraction: Area over image area.
        score: 0 to 1.
        segmenter: Plug-in that gave the mask; None: the proposer's own, or no mask.
        mask_quality: The segmenter's own estimate, 0 to 1.
        mask_stability: IoU of the masks at two thresholds.
        box_agreement: IoU of the box and the mask's own box.
        reason: Reason code of a candidate that can never be used.
    """

    box: Box
    score: float
    area: int
    area_fraction: float
    label: str | None = None
    adjective: str | None = None
    segmenter: str | None = None
    mask: str | None = None
    mask_quality: float | None = None
    mask_stability: float | None = None
    box_agreement: float | None = None
    reason: str | None = None

    @property
    def needs_mask(self) -> bool:
        return self.mask is None and self.reason is None

    def to_json(self) -> dict[str, Any]:
        return field_values(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "MeasuredProposal":
        return cls(**{**values, "box": tuple(values["box"])})


def clip(box: Box, width: int, height: int) -> tuple[Box, str | None]:
    """A box cut to the image, and a reason code where nothing useful is left (the box is then empty)."""
    if not all(math.isfinite(edge) for edge in box):
        return (0.0, 0.0, 0.0, 0.0), "box_not_finite"
    x0, y0, x1, y1 = clip_box(box, width, height)
    if x0 >= x1 or y0 >= y1:
        return (x0, y0, x0, y0), "box_outside"
    return (x0, y0, x1, y1), None


def make_candidate(proposal: Proposal, width: int, height: int) -> MeasuredProposal:
    """One proposal for an image of this size."""
    box, reason = clip(proposal.box, width, height)
    if not math.isfinite(proposal.score):
        reason = reason or "score_not_finite"
    area = min(round((box[2] - box[0]) * (box[3] - box[1])), width * height)
    candidate = MeasuredProposal(
        box=box,
        score=_unit(proposal.score),
        area=area,
        area_fraction=area / (width * height),
        label=proposal.label,
        adjective=proposal.adjective,
        reason=reason,
    )
    if proposal.mask is None or not proposal.mask.any():
        return candidate
    return _with_mask(candidate, proposal.mask, width, height)


def sort_and_limit(candidates: Iterable[MeasuredProposal], max_candidates: int) -> list[MeasuredProposal]:
    """Candidates by falling score; usable ones beyond `max_candidates` get a reason and lose their masks."""
    ordered = sorted(candidates, key=lambda candidate: (-candidate.score, -candidate.area, *candidate.box))
    usable = 0
    for index, candidate in enumerate(ordered):
        usable += candidate.reason is None
        if candidate.reason is None and usable > max_candidates:
            ordered[index] = replace(candidate, mask=None, box_agreement=None, reason="beyond_max_proposals")
    return ordered


def with_segment(
    candidate: MeasuredProposal, segment: Segment, segmenter: str, width: int, height: int
) -> MeasuredProposal:
    """The candidate with a segmenter's answer; an empty mask leaves the box, with the quality that it was given."""
    measured = replace(
        candidate,
        segmenter=segmenter,
        mask_quality=_unit(segment.quality),
        mask_stability=_unit(segment.stability),
    )
    return _with_mask(measured, segment.mask, width, height) if segment.mask.any() else measured


def _with_mask(candidate: MeasuredProposal, mask: Mask, width: int, height: int) -> MeasuredProposal:
    if mask.shape != (height, width):
        raise ValueError(f"a mask of {mask.shape[1]} x {mask.shape[0]} pixels for an image of {width} x {height}")
    area = int(np.count_nonzero(mask))
    agreement = float(box_ious([candidate.box], [box_of_mask(mask)])[0, 0])
    return replace(candidate, mask=encode(mask), area=area, area_fraction=area / mask.size, box_agreement=agreement)


def _unit(value: float) -> float:
    """A number cut to the range 0 to 1; 0 where it is not finite."""
    return min(max(float(value), 0.0), 1.0) if math.isfinite(value) else 0.0
