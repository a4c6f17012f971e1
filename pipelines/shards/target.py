"""The target of an image: everything in it that its source drew as a finding, whatever became of it as a region."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.masks import decode

# The proposer that hands on what the source drew, see pipelines/proposals/proposers/annotations.py.
DRAWN = "annotations"

Row = dict[str, Any]


def target_of(image: Row, drawn: list[Row]) -> NDArray[np.bool_] | None:
    """What a method should segment.

    Args:
        image: Row of the table of images.
        drawn: All of its regions that the source drew, those too small for a region of their own included.

    Returns:
        (height, width): the masks of all findings together, empty where the source says that there is none; None
        where nobody said, or where a finding has only a box: what a segmenter made of it is no outline. Anatomy is no
        finding: a region whose label is none of the image's labels does not count, nor does one that a person
        rejected.
    """
    labels = image["labels"]
    findings = [
        region
        for region in drawn
        if region["review"] != "rejected" and (labels is None or region["label"] is None or region["label"] in labels)
    ]
    if any(region["mask"] is None or region["segmenter"] is not None for region in findings) or (
        not findings and labels != []
    ):
        return None
    found = np.zeros((image["height"], image["width"]), dtype=bool)
    for region in findings:
        found |= decode(region["mask"], image["height"], image["width"])
    return found
