"""Review labels: people's decisions on regions, one JSON object on each line, a dependency of the stage `regions`.

A label identifies its region by image and box and never by number, because numbers change when proposals change. A
reviewer accepts a box, rejects it, or draws one: a new box, or the place that another box was moved to.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.geometry import Box, box_ious
from pipelines.errors import UserError, text_fault
from pipelines.json_lines import read_lines, write_lines
from pipelines.records import ReviewDecision
from pipelines.regions.candidates import Candidates

Decided = Literal["accepted", "rejected", "drawn"]

REVIEW_PROPOSER = "review"  # the proposer of boxes that reviewers drew

SAME_BOX_IOU = 0.9  # IoU from which two boxes are the same; a proposer's box may move a little between two runs


@dataclass(frozen=True, kw_only=True)
class ReviewLabel:
    """One reviewer's decision on one box.

    Attributes:
        image_id: As in the tables.
        x0: Left edge in pixels of the image; y0, x1, y1 likewise, x1 and y1 exclusive.
        decision: accepted, rejected or drawn.
        label: The reviewer's name for a drawn box, or the new one for an accepted box; null where there is none.
    """

    image_id: str
    x0: float
    y0: float
    x1: float
    y1: float
    decision: Decided
    label: str | None = None

    def __post_init__(self) -> None:
        for name, text in (("image_id", self.image_id), ("label", self.label)):
            if isinstance(text, str) and (fault := text_fault(text)):
                raise ValueError(f"{name}: {fault}")
        if not all(np.isfinite(self.box)) or self.x0 >= self.x1 or self.y0 >= self.y1:
            raise ValueError(f"the box {self.box} has no area")

    @property
    def box(self) -> Box:
        return self.x0, self.y0, self.x1, self.y1


def read(path: Path) -> list[ReviewLabel]:
    """All labels of a file, in its order.

    Raises:
        UserError: The file is missing, or a line is not a review label.
    """
    if not path.exists():
        raise UserError(f"regions.review names {path}, which is absent: make an empty file, or import a review")
    return read_lines(ReviewLabel, path)


def write(labels: Sequence[ReviewLabel], path: Path) -> None:
    """Write labels sorted by image and box, so that the file does not depend on the order of the reviews."""
    write_lines(sorted(labels, key=lambda label: (label.image_id, label.box, label.decision)), path)


def merge(existing: Sequence[ReviewLabel], latest: Sequence[ReviewLabel]) -> list[ReviewLabel]:
    """Both; a later label of the same box replaces the existing one.

    The name of a box that is accepted again stays, because the second reviewer saw it with the name of the first.
    """
    earlier: dict[str, list[ReviewLabel]] = defaultdict(list)
    for label in existing:
        earlier[label.image_id].append(label)
    merged: list[ReviewLabel] = []
    replaced: set[int] = set()
    for label in latest:
        same = [other for other in earlier[label.image_id] if _is_same_box(label.box, other.box)]
        replaced.update(id(other) for other in same)
        names = [other.label for other in same if other.decision == "accepted" and other.label is not None]
        keeps_name = label.decision == "accepted" and label.label is None and names
        merged.append(replace(label, label=names[-1]) if keeps_name else label)
    return [*(label for label in existing if id(label) not in replaced), *merged]


def _is_same_box(first: Box, second: Box) -> bool:
    return bool(box_ious([first], [second])[0, 0] >= SAME_BOX_IOU)


@dataclass(frozen=True, kw_only=True)
class MatchedReview:
    """Review labels, matched with the candidates.

    Attributes:
        decisions: Of each candidate that was reviewed, by its index: `accepted` or `rejected`.
        names: Of each candidate that reviewers gave a name: this.
        counted_names: How many new names are used, and how many are not, by why: on_evaluation_image,
            reviewers_disagree.
        reviewer_boxes: Boxes that reviewers drew on training images, sorted by image and box.
        unused: How many labels have no effect, by reason code: unknown_image, no_such_region, reviewers_disagree,
            drawn_on_evaluation_image.
    """

    decisions: dict[int, ReviewDecision]
    names: dict[int, str]
    counted_names: Counter[str]
    reviewer_boxes: list[ReviewLabel]
    unused: Counter[str]

    def indices(self, decision: ReviewDecision) -> NDArray[np.int64]:
        """Indices of the candidates that have this decision."""
        return np.array([index for index, given in self.decisions.items() if given == decision], dtype=np.int64)


def match(labels: Sequence[ReviewLabel], candidates: Candidates) -> MatchedReview:
    """Find the candidate of each label: the one of the same image with the largest IoU, if that is at least 0.9.

    Args:
        labels: In any order.
        candidates: From `pipelines.regions.candidates.select_candidates`.
    """
    is_train = candidates.images.in_split("train")
    unused: Counter[str] = Counter()
    reviewer_boxes: list[ReviewLabel] = []
    votes: dict[int, list[ReviewLabel]] = defaultdict(list)
    for label in labels:
        image = candidates.images.index_of(label.image_id)
        if image is None:
            unused["unknown_image"] += 1
        elif label.decision == "drawn":
            # On validation and test images a reviewer's box is truth, which `input` regions must not contain.
            if is_train[image]:
                reviewer_boxes.append(label)
            else:
                unused["drawn_on_evaluation_image"] += 1
        else:
            indices = candidates.of_image(image)
            ious = box_ious([label.box], candidates.boxes(indices))[0]
            if not len(indices) or ious.max() < SAME_BOX_IOU:
                unused["no_such_region"] += 1
                continue
            votes[int(indices[ious.argmax()])].append(label)
    decisions: dict[int, ReviewDecision] = {}
    names: dict[int, str] = {}
    counted_names: Counter[str] = Counter()
    for index, given in votes.items():
        if len({label.decision for label in given}) == 1:
            decisions[index] = "accepted" if given[0].decision == "accepted" else "rejected"
            if name := _name(given, bool(is_train[candidates.image[index]]), counted_names):
                names[index] = name
        else:
            unused["reviewers_disagree"] += len(given)
    reviewer_boxes.sort(key=lambda label: (label.image_id, label.box))
    return MatchedReview(
        decisions=decisions,
        names=names,
        counted_names=counted_names,
        reviewer_boxes=reviewer_boxes,
        unused=unused,
    )


def _name(labels: Sequence[ReviewLabel], on_training_image: bool, counts: Counter[str]) -> str | None:
    """The new name that reviewers who agree on a candidate give it."""
    given = [label.label for label in labels if label.label is not None]
    if not given:
        return None
    # What a person calls a region of a validation or test image is truth, like a box that is drawn there.
    outcome = "used" if on_training_image else "on_evaluation_image"
    if outcome == "used" and len(set(given)) > 1:
        outcome = "reviewers_disagree"
    counts[outcome] += len(given)
    return given[0] if outcome == "used" else None
