"""Text-faithfulness: of findings on both sides, does a method leave out those that the text no longer names?

No paper measures it. Left and right may be the patient's, whose left is a frontal image's right, or the image's own. A
source does not say which: reports that name one side, beside targets in one half of the image, tell. (QaTa-COV19's are
the image's in 200 of 208, although radiology's habit, and what is written of the data set, is the other.)
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.evaluate.evaluation_set import Item
from pipelines.evaluate.segmentation.halves import OTHER, sides_of
from pipelines.evaluate.segmentation.metrics import Mask

_SIDE = re.compile(r"\b(left|right)(?=\b|most)", re.IGNORECASE)
# Words that put a finding on no side alone.
_NO_SIDE = re.compile(r"\b(cent(er|re|ral)|both)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.;])\s+")
_BETWEEN = re.compile(r"(\s*,\s*and\s+|\s*,\s*|\s+and\s+)")
_BILATERAL = re.compile(r"\b([Bb])ilateral\b")
_AREAS = re.compile(
    r"\b(two|three|four|five|six|seven|eight|nine|ten|several|multiple|\d+)\s*infected\s+areas?\b", re.IGNORECASE
)


# Source and view.
Where = tuple[str, str | None]


@dataclass(frozen=True, kw_only=True)
class Votes:
    """What reports that name one side mean by it.

    Attributes:
        patients: Reports that mean the patient's side.
        images: Those that mean the image's.
    """

    patients: int = 0
    images: int = 0

    def decide(self, view: str | None) -> bool:
        """Whether sides are the patient's; on frontal views they are, where nothing tells."""
        return view == "frontal" if self.patients == self.images else self.patients > self.images


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


def patients_sides(texts: Mapping[int, str], items: Sequence[Item]) -> dict[Where, Votes]:
    """By source and view, how many reports mean the patient's sides, and how many the image's.

    Args:
        texts: Place of an image in `items` -> its report.
        items: The test images.
    """
    found: dict[Where, Votes] = defaultdict(Votes)
    for place, text in texts.items():
        item, named = items[place], _sides(text)
        if item.target_half is not None and len(named) == 1:
            where = item.source, item.view
            before = found[where]
            patients = named == {OTHER[item.target_half]}
            found[where] = Votes(patients=before.patients + patients, images=before.images + (not patients))
    return found


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of the pixels of one image's target that were found with the full text; both sides were asked.

    Attributes:
        kept: Share of the asked side's that are still found, 0 to 1.
        gone: Share of the other side's that no longer are, 0 to 1.
    """

    kept: float
    gone: float


def answer(target: Mask, found: Mask, asked: Mapping[str, Mask], *, patients: bool) -> Answer | str:
    """Ask for one side, then for the other; the pixels of both questions count together.

    Args:
        target: (height, width), without padding.
        found: What was found with the full text.
        asked: What was found with the text of each side.
        patients: As in `sides_of`.

    Returns:
        Or why the image says nothing: `target_on_one_side`, or `nothing_found` with the full text.
    """
    sides = sides_of(target, patients=patients)
    if not all(part.any() for part in sides.values()):
        return "target_on_one_side"
    pixels = int((target & found).sum())
    if not pixels:
        return "nothing_found"
    still = sum(int((sides[side] & found & mask).sum()) for side, mask in asked.items())
    lost = sum(int((sides[OTHER[side]] & found & ~mask).sum()) for side, mask in asked.items())
    return Answer(kept=still / pixels, gone=lost / pixels)
