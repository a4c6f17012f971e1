"""Does a caption contradict what was measured? Side, level and size of a region; sides and levels of a summary.

The check allows for whoever looks at the image instead of measuring it:

- A region may be called by each third of the image that holds at least a quarter of its pixels, and always by the third
  that holds its centre, so that a large region or one on a line has several right answers.
- A size may be called by the neighbouring class within a quarter of the limit between them.
- A summary is checked only against regions that the source annotated, and only where no report speaks of more than
  these. It contradicts the geometry where it names a half of the image (left, right, upper, lower) in which no region
  has a quarter of its pixels. Where sides are the patient's, every left and right counts; elsewhere `left lung` may be
  the organ's name, so that only words such as `left side` or `upper right corner` count. `upper` and `lower` count in
  such words alone. A sentence that denies something is not checked.

Codes: contradicts_side, contradicts_level, contradicts_size.

A region's caption stands beside its image's report too: does it name the one side that the report names? Either may be
wrong, so this is marked and counted (column `report_side`) and no answer is asked for again.
"""

import dataclasses
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from models.geometry import HORIZONTAL, VERTICAL
from pipelines.captions.answer import ImageAnswer, RegionAnswer, parse_triple
from pipelines.captions.config import Sizes
from pipelines.captions.geometry import Geometry
from pipelines.captions.protocols import ImageItem, RegionItem
from pipelines.records import NO_FINDING, ReportSide
from pipelines.sides import DENIAL, named_side

_MIN_FRACTION = 0.25
_NEAR_LIMIT = 1.25

_PLACE = r"(?:part|side|half|third|quadrant|area|portion|field|zone|corner|edge)s?"
_WORDS = r"(?:left|right|upper|lower|middle|center|central)"
_PHRASE = re.compile(rf"\b((?:{_WORDS}[ -])+){_PLACE}\b", re.IGNORECASE)
_SIDE = re.compile(r"\b(left|right)\b(?!-)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class AllowedTerms:
    """What a region may be called.

    Attributes:
        sides: Of `HORIZONTAL`.
        levels: Of `VERTICAL`.
        sizes: Of small, medium and large.
    """

    sides: tuple[str, ...]
    levels: tuple[str, ...]
    sizes: tuple[str, ...]


def allowed_terms(geometry: Geometry, limits: Sizes) -> AllowedTerms:
    """The names that do not contradict the geometry of a region."""
    side, level = geometry.position.split()
    area = geometry.area_fraction
    sizes = {
        "small": area < limits.medium * _NEAR_LIMIT,
        "medium": limits.medium / _NEAR_LIMIT <= area < limits.large * _NEAR_LIMIT,
        "large": area >= limits.large / _NEAR_LIMIT,
    }
    return AllowedTerms(
        sides=_nameable(HORIZONTAL, geometry.horizontal_thirds, side),
        levels=_nameable(VERTICAL, geometry.vertical_thirds, level),
        sizes=tuple(size for size, fits in sizes.items() if fits),
    )


def region_contradiction(item: RegionItem, answer: RegionAnswer, limits: Sizes) -> str | None:
    """The code of the first thing in a region's caption that its geometry contradicts, or None."""
    if answer.region_extraction == NO_FINDING:
        return None
    side, level = parse_triple(answer.region_extraction).position.split()
    terms = allowed_terms(item.geometry, limits)
    if side not in terms.sides:
        return "contradicts_side"
    if level not in terms.levels:
        return "contradicts_level"
    if answer.size is not None and answer.size not in terms.sizes:
        return "contradicts_size"
    return None


def report_side(position: str, report: str | None) -> ReportSide | None:
    """How the side of a region's caption stands to the one side that its report names; None where there is none."""
    named, side = _named_side(report), position.split()[0]
    if named is None:
        return None
    return "same" if side == named else "center" if side == "center" else "opposite"


# The regions of an image come one after the other.
_named_side = lru_cache(maxsize=4)(named_side)


def summary_contradiction(item: ImageItem, answer: ImageAnswer) -> str | None:
    """The code of the first thing in a summary that the source's regions contradict, or None."""
    summary = answer.summary_caption
    if summary is None or item.basis == "report" or not item.regions or DENIAL.search(summary):
        return None
    position_words = {word for phrase in _PHRASE.findall(summary) for word in re.split("[ -]", phrase.lower())}
    side_words = {word.lower() for word in _SIDE.findall(summary)} if item.patient_side else position_words
    left_halves = [region.geometry.left_half for region in item.regions]
    upper_halves = [region.geometry.upper_half for region in item.regions]
    for code, words, first, second, fractions in (
        ("contradicts_side", side_words, "left", "right", left_halves),
        ("contradicts_level", position_words, "upper", "lower", upper_halves),
    ):
        if first in words and second not in words and all(fraction < _MIN_FRACTION for fraction in fractions):
            return code
        if second in words and first not in words and all(1 - fraction < _MIN_FRACTION for fraction in fractions):
            return code
    return None


def measured_values(item: ImageItem | RegionItem, limits: Sizes) -> list[Any]:
    """All that decides what contradicts an item, as a JSON value for keys."""
    if isinstance(item, RegionItem):
        return [*dataclasses.asdict(allowed_terms(item.geometry, limits)).values()]
    halves = ((region.geometry.left_half, region.geometry.upper_half) for region in item.regions)
    return [item.basis, item.patient_side, *halves]


def _nameable(names: tuple[str, ...], fractions: tuple[float, ...], centre: str) -> tuple[str, ...]:
    """The names of the thirds that hold enough of a region, and of the third that holds its centre."""
    return tuple(
        name for name, fraction in zip(names, fractions, strict=True) if fraction >= _MIN_FRACTION or name == centre
    )
