"""Whose left and right the texts of a source mean, the patient's or the image's: declared, or voted by its reports.

A source that declares it (`ingest.sources.<name>.sides`, or its adapter) is taken at its word. Of the others, each
training image votes whose report names one side and whose annotated findings lie in one half: for the image's sides
where the half is the one that the report names, for the patient's where it is the other. They vote for each source and
view. Too few votes, or votes that disagree, decide nothing: then the convention of the modality holds.

No vote comes from a validation or test image, whose annotations reach scores alone.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pipelines.masks import bounding_box, decode
from pipelines.records import AnnotationRow, ImageColumnsRow, Sides
from pipelines.sides import OPPOSITE, image_half, named_side

logger = logging.getLogger(__name__)

MIN_VOTES = 20
MIN_AGREEMENT = 0.8
# Of a box without a mask, the part of its width that must lie in one half; one around both lungs says nothing.
_SIDED_BOX = 0.75


# What of an image decides its vote.
VOTING = ("image_id", "source", "view", "report", "labels", "width", "height")


@dataclass(frozen=True, kw_only=True)
class Votes:
    """How many training images vote for each convention."""

    patient: int = 0
    image: int = 0

    @property
    def outcome(self) -> Sides | None:
        """The convention on which enough votes agree."""
        total, largest = self.patient + self.image, max(self.patient, self.image)
        if total < MIN_VOTES or largest < MIN_AGREEMENT * total:
            return None
        return "patient" if self.patient > self.image else "image"


class SideVotes:
    """Counts the votes, image by image; then decides for each image.

    Votes of training images are added first; images are decided in the order of their rows.
    """

    def __init__(self) -> None:
        self._votes: dict[tuple[str, str | None], Votes] = defaultdict(Votes)
        self._found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)

    def add(self, image: ImageColumnsRow, annotations: Iterable[AnnotationRow]) -> None:
        """Count the vote of a training image, if it has one.

        Args:
            image: Its row, or the columns `VOTING` of it.
            annotations: All that it has.
        """
        side = named_side(image.report)
        if side is None:
            return
        halves = {_half(annotation, image) for annotation in annotations if _is_finding(annotation, image)}
        half = halves.pop() if len(halves) == 1 else None
        if half is None:
            return
        key = image.source, image.view
        so_far = self._votes[key]
        if side == OPPOSITE[half]:
            self._votes[key] = replace(so_far, patient=so_far.patient + 1)
        else:
            self._votes[key] = replace(so_far, image=so_far.image + 1)

    def decide(self, image: ImageColumnsRow) -> Sides | None:
        """The column `sides` of a row whose `sides` is what its source declares."""
        votes = self._votes.get((image.source, image.view), Votes())
        sides = votes.outcome if image.sides is None else _on_view(image.sides, image.view)
        self._found[image.source][image.view or "unknown"] = {
            "sides": sides,
            "declared": image.sides is not None,
            "votes": {"patient": votes.patient, "image": votes.image},
        }
        return sides

    def told(self) -> dict[str, Any]:
        """For the summary, of the images that were decided.

        Returns:
            Source -> view -> `sides`, whether the source `declared` them, and the `votes`, which are counted in either
            case. A warning goes to the log where the reports do not keep what their source declares.
        """
        for source, views in self._found.items():
            for view, told in views.items():
                _warn(source, view, told)
        return {source: dict(sorted(views.items())) for source, views in sorted(self._found.items())}


def _warn(source: str, view: str, told: dict[str, Any]) -> None:
    """Say so where the reports do not keep what their source declares."""
    outcome = Votes(**told["votes"]).outcome
    if told["declared"] and told["sides"] is not None and outcome not in (None, told["sides"]):
        logger.warning(
            "split: sides of %s (view %s) are declared as the %s's, but its training reports use the %s's: %s",
            *(source, view, told["sides"], outcome, told["votes"]),
        )


def _on_view(declared: Sides, view: str | None) -> Sides | None:
    """From the side, the patient's left and right lie behind one another, and only the image's can be meant."""
    return None if (declared, view) == ("patient", "lateral") else declared


def _is_finding(annotation: AnnotationRow, image: ImageColumnsRow) -> bool:
    """A region whose label is none of its image's is anatomy."""
    return image.labels is None or annotation.label is None or annotation.label in image.labels


def _half(annotation: AnnotationRow, image: ImageColumnsRow) -> str | None:
    """The half of the image, left or right, that holds an annotated region; None where both do."""
    middle = image.width / 2
    if annotation.mask is None:
        assert annotation.box is not None
        x0, _, x1, _ = annotation.box
        left = (min(x1, middle) - min(x0, middle)) / (x1 - x0)
        return "left" if left >= _SIDED_BOX else "right" if left <= 1 - _SIDED_BOX else None
    # Large masks take long to decode, and most of a voter's lie on one side of the middle.
    x0, _, x1, _ = bounding_box(annotation.mask, image.height, image.width)
    if x1 <= middle or x0 >= middle:
        return "left" if x1 <= middle else "right"
    return image_half(decode(annotation.mask, image.height, image.width))
