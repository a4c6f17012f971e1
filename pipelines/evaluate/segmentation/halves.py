"""Which half of an image, and which side of a patient, the parts of a target lie on."""

import numpy as np
import scipy.ndimage

from pipelines.evaluate.segmentation.metrics import Mask

OTHER = {"left": "right", "right": "left"}


def sides_of(target: Mask, *, patients: bool) -> dict[str, Mask]:
    """What of a target lies on each side: every connected part belongs to the half that its centroid is in.

    Args:
        target: (height, width), without padding.
        patients: Whether sides are the patient's, who faces the viewer, or the image's.
    """
    parts, number = scipy.ndimage.label(target, np.ones((3, 3)))
    centroids = scipy.ndimage.center_of_mass(target, parts, range(1, number + 1))
    in_left_half = [n for n, (_, column) in enumerate(centroids, start=1) if column + 0.5 < target.shape[1] / 2]
    left_half = np.isin(parts, in_left_half)
    halves = {"left": left_half, "right": target & ~left_half}
    return {side: halves[OTHER[side]] for side in OTHER} if patients else halves


def half_of(target: Mask) -> str | None:
    """The half of the image that holds all parts of a target; None where both do, or it is empty."""
    halves = [half for half, part in sides_of(target, patients=False).items() if part.any()]
    return halves[0] if len(halves) == 1 else None
