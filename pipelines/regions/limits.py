"""Hard limits: regions that no probability can make acceptable.

Reason codes: too_small, too_large, low_score, unstable_mask, touches_border, absent_class, overlaps_better,
beyond_max_regions.
"""

from collections.abc import Sequence

from models.geometry import Box, box_ious
from pipelines.records import DetectionRow, ProposalRow, SplitImageRow
from pipelines.regions.config import RegionsConfig


def broken_limit(proposal: ProposalRow, image: SplitImageRow, config: RegionsConfig) -> str | None:
    """The reason code of the first limit that a proposal breaks, or None.

    An unstable mask rejects the whole region and does not leave the bare box: the joint score and the IoU with the
    truth that it is fitted on belong to the mask.
    """
    if is_too_small(proposal, config):
        return "too_small"
    if proposal.area_fraction > config.max_area_fraction:
        return "too_large"
    if proposal.score < config.min_score:
        return "low_score"
    if proposal.sees_annotations:
        return None
    if proposal.mask_stability is not None and proposal.mask_stability < config.min_mask_stability:
        return "unstable_mask"
    # At the border, a proposal is a printed letter, a shoulder or an endoscope's dark rim more often than a finding.
    if proposal.x0 <= 0 or proposal.y0 <= 0 or proposal.x1 >= image.width or proposal.y1 >= image.height:
        return "touches_border"
    return None


def is_too_small(region: DetectionRow, config: RegionsConfig) -> bool:
    """Whether a region is smaller than a finding can be.

    This is the one limit that holds for the truth too, because specks are defects of a mask.
    """
    side = min(region.x1 - region.x0, region.y1 - region.y0)
    return side < config.min_side or region.area_fraction < config.min_area_fraction


def names_absent_class(proposal: ProposalRow, image: SplitImageRow) -> bool:
    """Whether the proposal names a finding that the source denies by not listing it among the image's labels.

    Only training images are checked: on the others the labels are what results are evaluated by.
    """
    if image.split != "train" or image.labels is None or proposal.label is None:
        return False
    return proposal.label.casefold() not in {label.casefold() for label in image.labels}


def suppressed(boxes: Sequence[Box], protected: Sequence[bool], config: RegionsConfig) -> list[str | None]:
    """Reason codes of the regions of one image that better regions make superfluous; None for those that stay.

    Greedy non-maximum suppression across all proposers, then the limit `max_regions`. A region is only ever suppressed
    by better ones. So the reasons of the regions above a threshold do not depend on where the threshold lies.

    Args:
        boxes: Boxes of one image, best first.
        protected: Regions that stay whatever overlaps them, such as those that a reviewer accepted.
        config: Gives `nms_iou` and `max_regions`.
    """
    overlaps = box_ious(boxes, boxes) > config.nms_iou
    reasons: list[str | None] = []
    kept: list[int] = []
    for index, is_protected in enumerate(protected):
        if not is_protected and overlaps[index, kept].any():
            reasons.append("overlaps_better")
        elif not is_protected and len(kept) >= config.max_regions:
            reasons.append("beyond_max_regions")
        else:
            reasons.append(None)
            kept.append(index)
    return reasons
