"""Left and right: which of them a text names, and in which half of an image a mask lies.

Whose left and right a source's texts mean, the patient's or the image's, stands in the column `sides` of the table
`split images` (`pipelines/split/sides.py`). The patient faces the viewer of a frontal view, so that his left is the
image's right.
"""

import re

import numpy as np
import scipy.ndimage

from models.geometry import Mask
from models.places import names_both_sides, side_words, spelled_out

OPPOSITE = {"left": "right", "right": "left"}
# A sentence with such a word says what is not there.
DENIAL = re.compile(r"\b(?:no|not|without|absent|nor|neither)\b", re.IGNORECASE)

_ONE = re.compile(r"\bunilateral(?:ly)?\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.;!?])\s+|(?<=[a-z][.;!?])(?=[A-Z])|\n")


def named_side(text: str | None) -> str | None:
    """The one side that a report names, left or right; None where it names none, or both in one way or another.

    Sentences that deny something do not count: `no effusion on the left` places nothing there.
    """
    stated = statements(text or "")
    words = side_words(stated)
    return words.pop() if len(words) == 1 and not names_both_sides(stated) else None


def statements(text: str) -> str:
    """A report without its sentences that deny something, and with abbreviations of place in words."""
    return " ".join(part for part in _SENTENCE.split(spelled_out(text)) if not DENIAL.search(part))


def extent(text: str) -> str | None:
    """unilateral or bilateral, as a report says in one way or another; None where it says neither."""
    stated = statements(text)
    if named_side(text) or _ONE.search(stated):
        return "unilateral"
    return "bilateral" if side_words(stated) == set(OPPOSITE) or names_both_sides(stated) else None


def split_by_side(target: Mask, *, patient_sides: bool) -> dict[str, Mask]:
    """The parts of a target on each side: a connected component belongs to the image half that its centroid is in.

    Args:
        target: (height, width), without padding.
        patient_sides: Whether left and right are those of the patient, who faces the viewer, or those of the image.
    """
    components, number = scipy.ndimage.label(target, np.ones((3, 3)))
    centroids = scipy.ndimage.center_of_mass(target, components, range(1, number + 1))
    in_left_half = [n for n, (_, column) in enumerate(centroids, start=1) if column + 0.5 < target.shape[1] / 2]
    left_half = np.isin(components, in_left_half)
    halves = {"left": left_half, "right": target & ~left_half}
    return {side: halves[OPPOSITE[side]] for side in OPPOSITE} if patient_sides else halves


def image_half(target: Mask) -> str | None:
    """The image half (left or right) that holds all components of a target; None where both do, or it is empty."""
    halves = [half for half, part in split_by_side(target, patient_sides=False).items() if part.any()]
    return halves[0] if len(halves) == 1 else None
