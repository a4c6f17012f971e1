"""Laterality counterfactual: of findings on both sides, does a method leave out those that the text no longer names?

A report that names findings left and right is cut to one side, and then to the other. `metrics/laterality.py` compares
the predictions.

Whether left and right are the patient's, whose left is a frontal image's right, or the image's, the shards say of each
image (`ImageMeta.sides`).
"""

import re
from collections.abc import Mapping

from models.places import side_words
from pipelines.sides import OPPOSITE

# Words that put a finding on no side alone.
_NO_SIDE = re.compile(r"\b(cent(er|re|ral)|both)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.;])\s+")
_BETWEEN = re.compile(r"(\s*,\s*and\s+|\s*,\s*|\s+and\s+)")
_BILATERAL = re.compile(r"\b([Bb])ilateral\b")
_AREAS = re.compile(
    r"\b(two|three|four|five|six|seven|eight|nine|ten|several|multiple|\d+)\s*infected\s+areas?\b", re.IGNORECASE
)


def names_both_sides(text: str) -> bool:
    """Whether a text names left and right, and nothing between them."""
    return side_words(text) == set(OPPOSITE) and not _NO_SIDE.search(text)


def counterfactual_texts(texts: Mapping[int, str]) -> dict[int, dict[str, str]]:
    """Image -> side -> its text cut to this side, for the texts that name both sides and can be cut to either."""
    cut = {
        index: {side: single_side_text(text, side) for side in OPPOSITE}
        for index, text in texts.items()
        if names_both_sides(text)
    }
    by_side = {index: {side: text for side, text in sides.items() if text is not None} for index, sides in cut.items()}
    return {index: sides for index, sides in by_side.items() if len(sides) == len(OPPOSITE)}


def single_side_text(text: str, side: str) -> str | None:
    """A text without its statements on the other side.

    Sentences that name the other side alone are dropped, together with what a semicolon adds to them. In a sentence
    that names both, the parts between commas and "and" that name the other side alone are dropped. QaTa's "Bilateral"
    and its number of areas are changed to match.

    Args:
        text: Whole sentences.
        side: left or right.

    Returns:
        None where nothing on the given side would be left, or the other side could not be taken out.
    """
    other = OPPOSITE[side]
    sentences, continues, dropped = [], False, False
    for sentence in _SENTENCE.split(text.strip()):
        dropped = side_words(sentence) == {other} or (continues and dropped and not side_words(sentence))
        continues = sentence.endswith(";")
        if not dropped:
            sentences.append(_without_side(sentence, other))
    result = " ".join(sentences)
    if side_words(result) != {side}:
        return None
    return _AREAS.sub("one infected area", _BILATERAL.sub(_unilateral, result))


def _unilateral(match: re.Match[str]) -> str:
    return "Unilateral" if match.group(1) == "B" else "unilateral"


def _without_side(sentence: str, side: str) -> str:
    """The sentence without its parts that name this side alone."""
    end = sentence[-1] if sentence[-1:] in (".", ";") else ""
    first, *rest = _BETWEEN.split(sentence.removesuffix(end))
    result, link = "" if side_words(first) == {side} else first, ""
    for between, part in zip(rest[::2], rest[1::2], strict=True):
        # What linked a dropped part links the next one: "two areas, left lung and right lung" has a comma before both.
        link = link or between
        if side_words(part) != {side}:
            result, link = f"{result}{link if result else ''}{part}", ""
    return result + end
