"""Words of place in a text: left and right, in full and abbreviated, both sides at once, and levels.

One vocabulary for all that reads them: what mirroring an image must change in its text, which side a report names, and
what is taken out of a phrase so that it does not say where its finding is.
"""

import re

# A word begins and ends at anything but letters and digits: "upper-left", "left_lung".
_START, _END = r"(?<![^\W_])", r"(?![^\W_])"
# What a single letter, or "rt", must stand before to mean a side: "R lung", "lt. base". Alone it may mean anything.
_PART = (
    r"(?:lungs?|lobes?|upper|middle|mid|lower|bas(?:e|al|ilar)|apex|apical|hemithorax|hil(?:um|ar)|pleural|chest|sided?"
    r"|costophrenic|zones?|fields?|breast|effusion)"
)
# Left and right alone, or as a part of "leftmost", "rightward", "right-sided"; not "bilateral" and "upright", which
# stay true when an image is mirrored, nor the angle.
_WHOLE = rf"(?i:left|right)(?=(?i:most|wards?|hand|handed|side|sided)?{_END})(?!(?i:[\s-]angled?){_END})"
# Lobes and zones as in "RUL", and short forms before a part of the body.
_LOBE, _SHORT = rf"[LR](?=[UML][LZ]{_END})", rf"(?i:[lr])(?=(?i:t?\.?\s+{_PART}){_END})"
_SIDE = re.compile(rf"{_START}(?:{_WHOLE}|{_LOBE}|{_SHORT})")
_OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}
_LEVEL = re.compile(
    rf"{_START}(?:(?:upper|lower|top|bottom)(?:most)?|up|down|(?:up|down)wards?|middle|mid|superior|inferior|above|below"
    rf"|apical|apex|apices|basal|basilar|bases?|cranial|caudal|horizontal(?:ly)?|vertical(?:ly)?){_END}",
    re.IGNORECASE,
)
_ABBREVIATED = re.compile(
    rf"{_START}(?:(?P<side>[LR])(?P<level>[UML])(?P<part>[LZ]){_END}"
    rf"|(?P<short>(?i:[lr]))(?i:t?)\.?(?=(?i:\s+{_PART}){_END}))"
)
_SIDES, _LEVELS = {"L": "left", "R": "right"}, {"U": "upper", "M": "middle", "L": "lower"}
_PARTS = {"L": "lobe", "Z": "zone"}

# Words that name both sides at once.
BOTH_SIDES = ("both", "bilateral", "bilaterally", "bilat", "bibasal", "bibasilar", "biapical", "bihilar")
_BOTH = re.compile(rf"{_START}(?:{'|'.join(BOTH_SIDES)}){_END}", re.IGNORECASE)
_SIDE_WORD = re.compile(rf"{_START}{_WHOLE}")


def names_position(text: str) -> bool:
    """Whether a text could become false if its image were turned; in doubt it could ("middle", "base")."""
    return _SIDE.search(text) is not None or _LEVEL.search(text) is not None


def flip_text(text: str) -> str:
    """The text of the flipped image: left and right exchanged, everything else as it is."""

    def exchange(match: re.Match[str]) -> str:
        word = match.group()
        other = _OTHER[word.lower()]
        return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other

    return _SIDE.sub(exchange, text)


def spelled_out(text: str) -> str:
    """The text with its abbreviations of place in words: `RUL` is `right upper lobe`, `lt. base` is `left base`."""

    def in_words(match: re.Match[str]) -> str:
        if match["short"]:
            return _SIDES[match["short"].upper()]
        return f"{_SIDES[match['side']]} {_LEVELS[match['level']]} {_PARTS[match['part']]}"

    return _ABBREVIATED.sub(in_words, text)


def side_words(text: str) -> set[str]:
    """Which of left and right a text names, in words or abbreviated."""
    return {match.group().lower() for match in _SIDE_WORD.finditer(spelled_out(text))}


def names_both_sides(text: str) -> bool:
    """Whether a word names both sides at once."""
    return _BOTH.search(text) is not None
