"""From what a detector answers for phrases to proposals: what the proposers that look for phrases share."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from models.geometry import Box, suppress
from pipelines.proposals.checkpoint import Checkpoint
from pipelines.proposals.protocols import Proposal, Query

# In pixels and scores. Rounding keeps the noise of float32, which depends on the size of a batch, out of the tables.
_BOX_DIGITS, _SCORE_DIGITS = 2, 4


@dataclass(frozen=True, kw_only=True)
class DetectorOptions(Checkpoint):
    """Options of every detector.

    Attributes:
        box_threshold: Least score (0 to 1) of a box.
        overlap: Largest IoU (0 to 1) of two boxes; of two that overlap more, the one with the lower score goes.
    """

    box_threshold: float
    overlap: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_outside("box_threshold", "overlap")

    def refuse_outside(self, *names: str) -> None:
        """Refuse values that are not from 0 to 1.

        Raises:
            ValueError: The first of `names` with such a value.
        """
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose a number from 0 to 1")


def by_phrases(queries: Sequence[Query]) -> dict[tuple[str, ...], list[int]]:
    """Numbers of the images that are asked for the same phrases; those that are asked for none are left out."""
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, query in enumerate(queries):
        if query.phrases:
            groups[query.phrases].append(index)
    return groups


def on_cpu(name: str, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes and scores in float64 on the CPU.

    Raises:
        FloatingPointError: The model `name` answered NaN or infinity.
    """
    if not (scores.isfinite().all() and boxes.isfinite().all()):
        raise FloatingPointError(f"{name} answered NaN")
    return boxes.double().cpu(), scores.double().cpu()


def proposals_of(
    boxes: Tensor, scores: Tensor, phrases: Sequence[str], box_threshold: float, text_threshold: float = 0.0
) -> list[Proposal]:
    """What is above the threshold on one image, each with the phrase of its best score.

    Args:
        boxes: (n, 4): x0, y0, x1, y1 in pixels of the image.
        scores: (n, phrases), 0 to 1.
        phrases: As they were asked for.
        box_threshold: Boxes whose best score is not above it go.
        text_threshold: The label of a box whose best score is not above it stays null.
    """
    best, named = scores.max(dim=-1)
    kept = best > box_threshold
    return [
        Proposal(
            box=tuple(round(edge, _BOX_DIGITS) for edge in box),
            score=round(score, _SCORE_DIGITS),
            label=phrases[name] if score > text_threshold else None,
        )
        for box, score, name in zip(boxes[kept].tolist(), best[kept].tolist(), named[kept].tolist(), strict=True)
    ]


def suppressed(proposals: Sequence[Proposal], overlap: float) -> list[Proposal]:
    """Proposals by falling score after non-maximum suppression, whatever their phrases."""
    boxes: list[Box] = [proposal.box for proposal in proposals]
    kept = suppress(boxes, [proposal.score for proposal in proposals], overlap)
    return [proposals[index] for index in kept]
