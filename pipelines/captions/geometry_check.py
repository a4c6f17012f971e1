"""Does a caption contradict what was measured? Side, level and size of a region; sides and levels of a summary.

The check is fair to whoever looks at the picture instead of measuring it:

- A region may be called by each third of the image that holds at least a quarter of its pixels, and always by the third
  that holds its centre, so that a large region or one on a line has several right answers.
- A size may be called by the neighbouring class within a quarter of the limit between them.
- A summary is checked only against regions that the source drew, and only where no report speaks of more than these. It
  contradicts a side or a level that no region holds a quarter of its pixels in, halves instead of thirds. Where sides
  are the patient's every left and right counts; elsewhere `left lung` may be the organ's name, so that only words such
  as `left side` or `upper right corner` do. `upper` and `lower` count in such words alone. A sentence that denies
  something is not judged.

Codes: contradicts_side, contradicts_level, contradicts_size.
"""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from pipelines.captions.answer import ImageAnswer, RegionAnswer, parse_triple
from pipelines.captions.config import Sizes
from pipelines.captions.geometry import HORIZONTAL, VERTICAL, Geometry
from pipelines.captions.protocols import ImageItem, RegionItem
from pipelines.records import NO_FINDING

_LEAST_SHARE = 0.25
_NEAR_LIMIT = 1.25

_PLACE = r"(?:part|side|half|third|quadrant|area|portion|field|zone|corner|edge)s?"
_WORDS = r"(?:left|right|upper|lower|middle|center|central)"
_PHRASE = re.compile(rf"\b((?:{_WORDS}[ -])+){_PLACE}\b", re.IGNORECASE)
_SIDE = re.compile(r"\b(left|right)\b(?!-)", re.IGNORECASE)
_DENIAL = re.compile(r"\b(?:no|not|without|absent|nor|neither)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What a region may be called.

    Attributes:
        sides: Of `HORIZONTAL`.
        levels: Of `VERTICAL`.
        sizes: Of small, medium and large.
    """

    sides: tuple[str, ...]
    levels: tuple[str, ...]
    sizes: tuple[str, ...]


def allowed(geometry: Geometry, limits: Sizes) -> Allowed:
    """The names that do not contradict the geometry of a region."""
    side, level = geometry.position.split()
    share = geometry.area_fraction
    sizes = {
        "small": share < limits.medium * _NEAR_LIMIT,
        "medium": limits.medium / _NEAR_LIMIT <= share < limits.large * _NEAR_LIMIT,
        "large": share >= limits.large / _NEAR_LIMIT,
    }
    return Allowed(
        sides=_enough(HORIZONTAL, geometry.across, side),
        levels=_enough(VERTICAL, geometry.down, level),
        sizes=tuple(size for size, fits in sizes.items() if fits),
    )


def region_contradiction(item: RegionItem, answer: RegionAnswer, limits: Sizes) -> str | None:
    """The code of the first thing in a region's caption that its geometry contradicts, or None."""
    if answer.region_extraction == NO_FINDING:
        return None
    side, level = parse_triple(answer.region_extraction).position.split()
    right = allowed(item.geometry, limits)
    if side not in right.sides:
        return "contradicts_side"
    if level not in right.levels:
        return "contradicts_level"
    if answer.size is not None and answer.size not in right.sizes:
        return "contradicts_size"
    return None


def summary_contradiction(item: ImageItem, answer: ImageAnswer) -> str | None:
    """The code of the first thing in a summary that the source's regions contradict, or None."""
    summary = answer.summary_caption
    if summary is None or item.basis == "report" or not item.regions or _DENIAL.search(summary):
        return None
    named = {word for phrase in _PHRASE.findall(summary) for word in re.split("[ -]", phrase.lower())}
    sides = {word.lower() for word in _SIDE.findall(summary)} if item.patient_side else named
    halves = [region.geometry.halves for region in item.regions]
    for code, words, first, second, axis in (
        ("contradicts_side", sides, "left", "right", 0),
        ("contradicts_level", named, "upper", "lower", 1),
    ):
        if first in words and second not in words and all(half[axis] < _LEAST_SHARE for half in halves):
            return code
        if second in words and first not in words and all(1 - half[axis] < _LEAST_SHARE for half in halves):
            return code
    return None


def facts(item: ImageItem | RegionItem, limits: Sizes) -> list[Any]:
    """All that decides what contradicts an item, as a JSON value for keys."""
    if isinstance(item, RegionItem):
        return [*dataclasses.asdict(allowed(item.geometry, limits)).values()]
    return [item.basis, item.patient_side, *(region.geometry.halves for region in item.regions)]


def _enough(names: tuple[str, ...], shares: tuple[float, ...], centre: str) -> tuple[str, ...]:
    return tuple(name for name, share in zip(names, shares, strict=True) if share >= _LEAST_SHARE or name == centre)
