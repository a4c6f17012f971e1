"""Text-faithfulness: of findings on both sides, does a method leave out those that the text no longer names?

No paper measures it. Left and right are the patient's on a frontal view, whose left is the image's right; elsewhere
they are the image's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from pipelines.evaluate.segmentation.metrics import Mask

OTHER = {"left": "right", "right": "left"}
_SIDE = re.compile(r"\b(left|right)(?=\b|most)", re.IGNORECASE)
# Words that put a finding on no side alone.
_NO_SIDE = re.compile(r"\b(cent(er|re|ral)|both)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.;])\s+")
_BETWEEN = re.compile(r"(\s*,\s*and\s+|\s*,\s*|\s+and\s+)")
_BILATERAL = re.compile(r"\b([Bb])ilateral\b")
_AREAS = re.compile(
    r"\b(two|three|four|five|six|seven|eight|nine|ten|several|multiple|\d+)\s*infected\s+areas?\b", re.IGNORECASE
)


def names_both_sides(text: str) -> bool:
    """Whether a text names left and right, and no place between them."""
    return _sides(text) == set(OTHER) and not _NO_SIDE.search(text)


def one_sided(text: str, side: str) -> str | None:
    """A text without what it says of the other side.

    Sentences that name the other side alone are dropped, with what a semicolon adds to them; of one that names both,
    the parts between commas and "and" that name the other side alone. QaTa's "Bilateral" and its number of areas
    follow.

    Args:
        text: Whole sentences.
        side: left or right.

    Returns:
        None where nothing of the asked side would be left, or the other one could not be taken out.
    """
    other = OTHER[side]
    kept, adds, dropped = [], False, False
    for sentence in _SENTENCE.split(text.strip()):
        dropped = _sides(sentence) == {other} or (adds and dropped and not _sides(sentence))
        adds = sentence.endswith(";")
        if not dropped:
            kept.append(_without(sentence, other))
    found = " ".join(kept)
    if _sides(found) != {side}:
        return None
    return _AREAS.sub("one infected area", _BILATERAL.sub(_unilateral, found))


def _unilateral(found: re.Match[str]) -> str:
    return "Unilateral" if found.group(1) == "B" else "unilateral"


def _sides(text: str) -> set[str]:
    return {word.lower() for word in _SIDE.findall(text)}


def _without(sentence: str, side: str) -> str:
    """The sentence without its parts that name this side alone."""
    end = sentence[-1] if sentence[-1:] in (".", ";") else ""
    first, *rest = _BETWEEN.split(sentence.removesuffix(end))
    found, link = "" if _sides(first) == {side} else first, ""
    for between, part in zip(rest[::2], rest[1::2], strict=True):
        # What linked a dropped part links the next one: "two areas, left lung and right lung" has a comma before both.
        link = link or between
        if _sides(part) != {side}:
            found, link = f"{found}{link if found else ''}{part}", ""
    return found + end


def sides_of(target: Mask, view: str | None) -> dict[str, Mask]:
    """What of a target lies on each side: every connected part belongs to the half that its centroid is in.

    Args:
        target: (height, width), without padding.
        view: Projection of a radiograph, see `pipelines.records.VIEWS`.
    """
    parts, number = scipy.ndimage.label(target, np.ones((3, 3)))
    centroids = scipy.ndimage.center_of_mass(target, parts, range(1, number + 1))
    in_left_half = [n for n, (_, column) in enumerate(centroids, start=1) if column + 0.5 < target.shape[1] / 2]
    left_half = np.isin(parts, in_left_half)
    halves = {"left": left_half, "right": target & ~left_half}
    return {side: halves[OTHER[side]] for side in OTHER} if view == "frontal" else halves


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of the pixels of one image's target that were found with the full text; both sides were asked.

    Attributes:
        kept: Share of the asked side's that are still found, 0 to 1.
        gone: Share of the other side's that no longer are, 0 to 1.
    """

    kept: float
    gone: float


def answer(target: Mask, view: str | None, found: Mask, asked: Mapping[str, Mask]) -> Answer | str:
    """Ask for one side, then for the other; the pixels of both questions count together.

    Args:
        target: (height, width), without padding.
        view: As in `sides_of`.
        found: What was found with the full text.
        asked: What was found with the text of each side.

    Returns:
        Or why the image says nothing: `target_on_one_side`, or `nothing_found` with the full text.
    """
    sides = sides_of(target, view)
    if not all(part.any() for part in sides.values()):
        return "target_on_one_side"
    pixels = int((target & found).sum())
    if not pixels:
        return "nothing_found"
    still = sum(int((sides[side] & found & mask).sum()) for side, mask in asked.items())
    lost = sum(int((sides[OTHER[side]] & found & ~mask).sum()) for side, mask in asked.items())
    return Answer(kept=still / pixels, gone=lost / pixels)
