"""Rows of the table `regions`: decided proposals, annotations, and boxes that reviewers drew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter

from models.geometry import clip_box
from pipelines.records import DetectionRow, ProposalRow, RegionRole, RegionRow, SplitImageRow
from pipelines.regions.config import RegionsConfig
from pipelines.regions.decisions import Decision
from pipelines.regions.limits import broken_limit, is_too_small
from pipelines.regions.review_labels import REVIEW_PROPOSER, ReviewLabel

_SHARED_COLUMNS = tuple(field.name for field in fields(DetectionRow) if field.name != "n")
_shared_values = attrgetter(*_SHARED_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RegionDraft:
    """A region before its image's regions are numbered."""

    detection: DetectionRow
    role: RegionRole
    decision: Decision

    @property
    def sort_key(self) -> tuple[float, ...]:
        """Most probable first; equal ones by area, then by box, so that the order is fixed."""
        row, probability = self.detection, self.decision.probability
        return (-(row.score if probability is None else probability), -row.area, *row.box)


def region_rows(
    image: SplitImageRow,
    used: Sequence[ProposalRow],
    decisions: Mapping[int, Decision],
    drawn: Sequence[ReviewLabel],
    config: RegionsConfig,
) -> list[RegionRow]:
    """All rows of an image.

    Args:
        image: The image.
        used: Its proposals that get a row, from `used_proposals`.
        decisions: Of the candidates among them, by their numbers.
        drawn: Boxes that reviewers drew on it.
        config: Section `regions`.
    """
    entries = [_reviewer_entry(label, image, config) for label in drawn]
    entries += _entries(image, sorted(used, key=lambda proposal: proposal.n), decisions, config)
    return [_region_row(n, image, entry) for n, entry in enumerate(entries)]


def used_proposals(
    image: SplitImageRow, proposals: Sequence[ProposalRow], config: RegionsConfig
) -> Sequence[ProposalRow]:
    """An image's proposals that get a row: on annotated training images either annotations or proposals, else all.

    Those without a row only serve to fit the joint score (or, with `training_regions: proposals`, are annotations).
    """
    # An image that the source annotated as empty has proposals with an IoU, and no annotation among them.
    annotated = any(proposal.sees_annotations or proposal.truth_iou is not None for proposal in proposals)
    if image.split != "train" or not annotated:
        return proposals
    use_annotations = config.training_regions == "annotations"
    return [proposal for proposal in proposals if proposal.sees_annotations == use_annotations]


def _entries(
    image: SplitImageRow,
    proposals: Sequence[ProposalRow],
    decisions: Mapping[int, Decision],
    config: RegionsConfig,
) -> list[_RegionDraft]:
    """Annotations to train on, then candidates, then what a hard limit rejects before any score, then the truth."""
    annotated, scored, rejected, truth = [], [], [], []
    for proposal in proposals:
        decision = decisions.get(proposal.n)
        if decision is not None:
            scored.append(_RegionDraft(detection=proposal, role="input", decision=decision))
        elif proposal.sees_annotations and image.split != "train":
            reason = proposal.reason or ("too_small" if is_too_small(proposal, config) else None)
            truth.append(_RegionDraft(detection=proposal, role="truth", decision=_unscored(reason)))
        else:
            reason = proposal.reason or broken_limit(proposal, image, config)
            entry = _RegionDraft(detection=proposal, role="input", decision=_unscored(reason))
            if proposal.sees_annotations:
                annotated.append(entry)
            else:
                assert reason is not None, f"proposal {proposal.n} of {proposal.image_id} has no decision"
                rejected.append(entry)
    inputs = (sorted(group, key=lambda entry: entry.sort_key) for group in (annotated, scored, rejected))
    return [entry for group in inputs for entry in group] + truth


@cache
def _unscored(reason: str | None) -> Decision:
    """The decision about a region that no score was asked about."""
    return Decision(reason=reason)


def _reviewer_entry(label: ReviewLabel, image: SplitImageRow, config: RegionsConfig) -> _RegionDraft:
    """A box that a reviewer drew, clipped to the image."""
    x0, y0, x1, y1 = clip_box(label.box, image.width, image.height)
    area = round((x1 - x0) * (y1 - y0))
    detection = DetectionRow(
        image_id=image.image_id,
        source=image.source,
        n=0,
        proposer=REVIEW_PROPOSER,
        label=label.label,
        x0=x0,
        y0=y0,
        x1=x1,
        y1=y1,
        area=area,
        area_fraction=area / (image.width * image.height),
        score=1.0,
    )
    reason = "too_small" if is_too_small(detection, config) else None
    return _RegionDraft(detection=detection, role="input", decision=Decision(reason=reason, review="accepted"))


def _region_row(n: int, image: SplitImageRow, entry: _RegionDraft) -> RegionRow:
    decision = entry.decision
    columns = dict(zip(_SHARED_COLUMNS, _shared_values(entry.detection), strict=True))
    columns["label"] = decision.name or columns["label"]
    return RegionRow(
        **columns,
        n=n,
        region_id=f"{image.image_id}-{n}",
        role=entry.role,
        agreement=decision.agreement,
        probability=decision.probability,
        certified=decision.certified,
        round=decision.round,
        review=decision.review,
        status="accepted" if decision.reason is None else "rejected",
        reason=decision.reason,
    )
