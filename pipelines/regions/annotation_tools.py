"""What the exports to Label Studio and COCO tools share: what was shown, and comparison of boxes before and after."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from models.geometry import Box, box_ious, box_of_mask
from pipelines.masks import decode
from pipelines.records import ANNOTATIONS_PROPOSER, RegionRow, SplitImageRow
from pipelines.regions.review_labels import REVIEW_PROPOSER, Decided, ReviewLabel

IMAGES = "images"  # folder of an export; its files are called after the images' ids
UNNAMED_LABEL = "finding"  # what review tools show for a region without a label
MAX_SHIFT = 1.0  # pixels; a box whose edges stay within this of the exported ones was not moved
_CONTROL = re.compile(r"[\x00-\x1f\ufffe\uffff]")
_MIN_IOU = 0.5  # from which a rectangle that cannot be used is taken for the shown one that it was


@dataclass(frozen=True, kw_only=True)
class ShownRegion:
    """A region that a reviewer saw.

    Attributes:
        box: As it was exported, in pixels of the image.
        label: Its name; None: it was shown as `UNNAMED_LABEL`.
        mask_box: The box of its mask, which tools that keep masks alone return in the place of `box`.
    """

    box: Box
    label: str | None
    mask_box: Box | None = None

    def is_at(self, box: Box) -> bool:
        """Whether a returned box is this region's, not moved."""
        places = [self.box] if self.mask_box is None else [self.box, self.mask_box]
        return any(all(abs(a - b) <= MAX_SHIFT for a, b in zip(place, box, strict=True)) for place in places)

    def is_called(self, label: str | None) -> bool:
        """Whether a returned label is this region's, not changed."""
        return label_name(label) == label_name(self.label)


@dataclass(frozen=True, kw_only=True)
class ShownImage:
    """An image of the study.

    Attributes:
        size: Width and height in pixels.
        regions: What an export shows of it.
    """

    size: tuple[int, int]
    regions: tuple[ShownRegion, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Import:
    """What an export of a tool holds.

    Attributes:
        labels: The review labels.
        left_out: What no review label was made of, by reason code: unknown_image (annotations of an image that the
            study lacks), size_differs and image_rotated (all that one person did on an image, as the tool turned or
            scaled it), bad_annotation (one that cannot be read), turned_rectangle, not_a_rectangle, bad_box (without
            area, or not finite), name_removed (the box counts, its name stays).
    """

    labels: list[ReviewLabel] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def exported_regions(rows: Iterable[RegionRow]) -> list[RegionRow]:
    """The regions that people review, in the order of the exports: accepted ones that proposers found."""
    own = (ANNOTATIONS_PROPOSER, REVIEW_PROPOSER)
    shown = [row for row in rows if row.role == "input" and row.status == "accepted" and row.proposer not in own]
    return sorted(shown, key=lambda row: (row.image_id, row.n))


def shown_images(images: Iterable[SplitImageRow], rows: Iterable[RegionRow]) -> dict[str, ShownImage]:
    """All images of a study by their ids, with the regions that an export shows."""
    sizes = {image.image_id: (image.width, image.height) for image in images}
    regions: dict[str, list[ShownRegion]] = {image_id: [] for image_id in sizes}
    for row in exported_regions(rows):
        if row.image_id in sizes:
            width, height = sizes[row.image_id]
            mask_box = box_of_mask(decode(row.mask, height, width)) if row.mask else None
            regions[row.image_id].append(ShownRegion(box=row.box, label=row.label, mask_box=mask_box))
    return {image_id: ShownImage(size=size, regions=tuple(regions[image_id])) for image_id, size in sizes.items()}


def image_of(image_id: object, images: Mapping[str, ShownImage]) -> ShownImage | None:
    """The image with an id that came from outside; None where it is none of the study's."""
    return images.get(image_id) if isinstance(image_id, str) else None


def label_name(label: str | None) -> str:
    """What a tool shows for a label; without characters that XML cannot hold."""
    return _CONTROL.sub(" ", label or "").strip() or UNNAMED_LABEL


def label_of_name(name: str) -> str | None:
    """The label of a name in a tool: None where it says nothing."""
    return None if name == UNNAMED_LABEL else name


def add_edits(
    found: Import,
    image_id: str,
    shown: Sequence[ShownRegion],
    returned: Sequence[tuple[Box, str | None]],
    unusable: Sequence[Box] = (),
) -> None:
    """Add the review labels of one person on one image, from the boxes before and after the review.

    A shown region that is still there is accepted, with its new name if that changed. One that is gone is rejected,
    unless a box that cannot be used lies there. A box that is new is drawn.

    Args:
        found: What is added to.
        image_id: The image.
        shown: Regions that were shown to the reviewer.
        returned: Boxes that the reviewer left or drew, with their labels.
        unusable: Boxes of which no review label can be made.
    """
    sound = [(box, label) for box, label in returned if _has_area(box)]
    found.left_out["bad_box"] += len(returned) - len(sound)
    for region in shown:
        names = [label for box, label in sound if region.is_at(box)]
        if names:
            # Of several boxes on the same place one that says something new counts.
            new = next((name for name in names if not region.is_called(name)), None)
            found.left_out["name_removed"] += region.label is not None and set(names) == {None}
            found.labels.append(review_label(image_id, region.box, "accepted", new))
        elif not (box_ious([region.box], unusable) >= _MIN_IOU).any():
            found.labels.append(review_label(image_id, region.box, "rejected"))
    for box, label in sound:
        if not any(region.is_at(box) for region in shown):
            found.labels.append(review_label(image_id, box, "drawn", label))


def is_picture_turned(size: tuple[int, int], shown: Sequence[ShownRegion], returned: Sequence[Box]) -> bool:
    """Whether the boxes lie where the shown ones would if the tool had turned the picture and kept its size.

    True only if none lies where it was shown and all lie where one turn puts them: a half, or a quarter of a square.
    """
    if not shown or any(region.is_at(box) for region in shown for box in returned):
        return False
    width, height = size
    boxes = [region.box for region in shown]
    turns = [[(width - x1, height - y1, width - x0, height - y0) for x0, y0, x1, y1 in boxes]]
    if width == height:
        turns.append([(width - y1, x0, width - y0, x1) for x0, y0, x1, y1 in boxes])
        turns.append([(y0, width - x1, y1, width - x0) for x0, y0, x1, y1 in boxes])
    places = [[ShownRegion(box=box, label=None) for box in turned] for turned in turns]
    return any(all(any(place.is_at(box) for box in returned) for place in turned) for turned in places)


def _has_area(box: Box) -> bool:
    x0, y0, x1, y1 = (round(edge, 2) if math.isfinite(edge) else math.nan for edge in box)
    return x0 < x1 and y0 < y1


def review_label(image_id: str, box: Box, decision: Decided, label: str | None = None) -> ReviewLabel:
    x0, y0, x1, y1 = (round(edge, 2) for edge in box)
    return ReviewLabel(image_id=image_id, x0=x0, y0=y0, x1=x1, y1=y1, decision=decision, label=label)
