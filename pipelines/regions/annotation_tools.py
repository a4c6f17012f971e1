"""What the exports to Label Studio and COCO tools share: placeholder label and comparison of boxes before and after."""

from collections.abc import Sequence

from models.geometry import Box
from pipelines.regions.review_labels import ReviewLabel

IMAGES = "images"  # folder of an export; its files are called after the images' ids
UNNAMED_LABEL = "finding"  # what review tools show for a region without a label
MAX_SHIFT = 1.0  # pixels; a box whose edges stay within this of the exported ones was not moved


def labels_from_edits(
    image_id: str, exported: Sequence[Box], returned: Sequence[tuple[Box, str | None]]
) -> list[ReviewLabel]:
    """Review labels of one person on one image, from the boxes before and after the review.

    Args:
        image_id: The image.
        exported: Boxes that were shown to the reviewer.
        returned: Boxes that the reviewer left or drew, with their labels.

    Returns:
        An exported box that is still there is accepted, one that is gone is rejected, and a box that is new is drawn.
    """

    def unmoved(first: Box, second: Box) -> bool:
        return all(abs(a - b) <= MAX_SHIFT for a, b in zip(first, second, strict=True))

    def review_label(box: Box, decision: str, label: str | None = None) -> ReviewLabel:
        edges = {name: round(edge, 2) for name, edge in zip(("x0", "y0", "x1", "y1"), box, strict=True)}
        return ReviewLabel(image_id=image_id, decision=decision, label=label, **edges)  # type: ignore[arg-type]

    remains = [any(unmoved(box, other) for other, _ in returned) for box in exported]
    new = [(box, label) for box, label in returned if not any(unmoved(box, other) for other in exported)]
    reviewed = [
        review_label(box, "accepted" if kept else "rejected") for box, kept in zip(exported, remains, strict=True)
    ]
    return reviewed + [review_label(box, "drawn", label) for box, label in new]
