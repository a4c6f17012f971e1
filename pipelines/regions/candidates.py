"""Candidates: the proposals that the joint score is fitted on and applied to."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.geometry import box_ious
from pipelines.records import ProposalRow, SplitImageRow
from pipelines.regions.config import RegionsConfig
from pipelines.regions.limits import broken_limit

CORRECT_IOU = 0.5  # IoU with an annotated region from which a proposal is correct


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A proposal that never saw the annotations and breaks no hard limit.

    Attributes:
        proposal: Its row.
        image: The row of its image.
        annotated: Whether the source annotated the image.
        agreement: Largest IoU (0 to 1) of its box with a box of another proposer in the same image; None where the
            table has only one proposer.
    """

    proposal: ProposalRow
    image: SplitImageRow
    annotated: bool
    agreement: float | None


def annotated_images(images: Iterable[SplitImageRow], proposals: Iterable[ProposalRow]) -> set[str]:
    """Ids of the images that the source annotated: it marked regions, or it says that there is no finding."""
    compared = {proposal.image_id for proposal in proposals if proposal.truth_iou is not None}
    return {image.image_id for image in images if image.image_id in compared or image.labels == ()}


def select_candidates(
    images: Mapping[str, SplitImageRow],
    proposals: Iterable[ProposalRow],
    annotated: AbstractSet[str],
    config: RegionsConfig,
) -> list[Candidate]:
    """The candidates, sorted by image and number.

    Args:
        images: By image_id.
        proposals: All proposals.
        annotated: From `annotated_images`.
        config: Gives the hard limits.
    """
    usable = [
        proposal
        for proposal in proposals
        if not proposal.sees_annotations
        and proposal.reason is None
        and broken_limit(proposal, images[proposal.image_id], config) is None
    ]
    usable.sort(key=lambda proposal: (proposal.image_id, proposal.n))
    return [
        Candidate(
            proposal=proposal,
            image=images[proposal.image_id],
            annotated=proposal.image_id in annotated,
            agreement=agreement,
        )
        for proposal, agreement in zip(usable, _agreements(usable), strict=True)
    ]


def indices_by_image(proposals: Sequence[ProposalRow]) -> dict[str, NDArray[np.int64]]:
    """Indices of each image's proposals, ascending."""
    indices: dict[str, list[int]] = defaultdict(list)
    for index, proposal in enumerate(proposals):
        indices[proposal.image_id].append(index)
    return {image_id: np.array(of_image, dtype=np.int64) for image_id, of_image in indices.items()}


def correctness(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """1 where a candidate is correct, 0 where it is wrong, NaN where nobody annotated its image."""
    ious = np.array([candidate.proposal.truth_iou for candidate in candidates], dtype=np.float64)
    return np.where(np.isnan(ious), np.nan, (ious >= CORRECT_IOU).astype(float))


def boxes_of(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """Boxes of the candidates, shape (candidates, 4)."""
    return np.array([candidate.proposal.box for candidate in candidates], dtype=np.float64).reshape(-1, 4)


def _agreements(proposals: Sequence[ProposalRow]) -> Sequence[float | None]:
    """Largest IoU of each box with a box of another proposer in the same image; None if there is only one proposer."""
    if len({proposal.proposer for proposal in proposals}) < 2:
        return [None] * len(proposals)
    best = np.zeros(len(proposals))
    for indices in indices_by_image(proposals).values():
        boxes = [proposals[index].box for index in indices]
        names = np.array([proposals[index].proposer for index in indices])
        ious = box_ious(boxes, boxes)
        ious[names[:, None] == names[None, :]] = 0.0
        best[indices] = ious.max(axis=1)
    return best.tolist()
