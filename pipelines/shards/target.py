"""The segmentation target of an image: all findings that its source outlined, whatever became of them as regions."""

from collections.abc import Sequence

import numpy as np

from models.geometry import Mask
from pipelines.masks import decode
from pipelines.records import RegionRow, SplitImageRow


def segmentation_target(image: SplitImageRow, annotated: Sequence[RegionRow]) -> Mask | None:
    """The mask that a method should predict.

    Args:
        image: Row of the table of images.
        annotated: All of its regions that the source annotated, those too small for a region of their own included.

    Returns:
        (height, width): the masks of all findings together, empty where the source says that there is none; None
        where nobody said, or where a finding has only a box: what a segmenter made of it is no outline. Anatomy is no
        finding: a region whose label is none of the image's labels does not count, nor does one that a reviewer
        rejected.
    """
    labels = image.labels
    findings = [
        region
        for region in annotated
        if region.review != "rejected" and (labels is None or region.label is None or region.label in labels)
    ]
    if not findings and (labels is None or labels):
        return None
    target = np.zeros((image.height, image.width), dtype=bool)
    for region in findings:
        if region.mask is None or region.segmenter is not None:
            return None
        target |= decode(region.mask, image.height, image.width)
    return target
