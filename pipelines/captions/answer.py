"""The paper's JSON as pydantic models, and the rules that every captioner's answers must keep.

RegionMed-CLIP (MedRegion-500k), appendix B and figure 6: a summary of 10 to 15 words in one sentence without commas or
semicolons; a region as `adjective|term|position`; five negatives that replace the adjective alone; "No Finding" where
there is none. The paper asks for all in one answer; here images and regions are separate requests, so that a changed
prompt for the one leaves the answers for the other as they are. Figure 6 sets no minimum number of words: a shorter
summary is accepted with a warning.

The `type` of a rule's error is its reason code: summary_too_long, summary_punctuation, summary_not_one_sentence,
region_not_a_triple, unknown_position, wrong_number_of_negatives, negatives_not_distinct, negative_equals_caption,
negative_changes_more_than_adjective, negatives_without_region. The one warning is summary_too_short.
"""

import re
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from models.geometry import POSITIONS
from pipelines.errors import Rejected
from pipelines.records import NO_FINDING

NEGATIVES = 5
_MIN_WORDS, _MAX_WORDS = 10, 15

T = TypeVar("T", bound=BaseModel)


class RegionTriple(NamedTuple):
    """adjective, lesion term and position of a region caption."""

    adjective: str
    term: str
    position: str

    def __str__(self) -> str:
        return " | ".join(self)


@lru_cache(maxsize=4096)  # a region's texts are read when they are checked, and again for its row
def parse_triple(text: str) -> RegionTriple:
    """Read `adjective|term|position`, with or without spaces around the bars.

    Raises:
        PydanticCustomError: It has not three parts, or its position is not in the closed vocabulary.
    """
    parts = [" ".join(part.split()) for part in text.split("|")]
    if len(parts) != 3 or not all(parts):
        raise PydanticCustomError("region_not_a_triple", "write adjective|term|position")
    if parts[2] not in POSITIONS:
        raise PydanticCustomError("unknown_position", "the position is not one of the nine fields")
    return RegionTriple(*parts)


def plain_text(text: str) -> str:
    """A source's words without the marks that separate things in captions: commas, semicolons, bars, line ends."""
    return " ".join(re.sub(r"[,;|]", " ", text).split()).rstrip(".")


def summary_fault(summary: str) -> str | None:
    """The reason code of the first rule that a summary breaks, or None."""
    if len(summary.split()) > _MAX_WORDS:
        return "summary_too_long"
    if re.search(r"[,;]", summary):
        return "summary_punctuation"
    if not summary.endswith(".") or re.search(r"[.!?]\s|[!?]|\n", summary):
        return "summary_not_one_sentence"
    return None


def summary_warnings(summary: str | None) -> tuple[str, ...]:
    """Codes of what is doubtful in a summary that breaks no rule."""
    return ("summary_too_short",) if summary is not None and len(summary.split()) < _MIN_WORDS else ()


def _check_summary(summary: str) -> str:
    if code := summary_fault(summary):
        raise PydanticCustomError(code, "write one sentence of 10 to 15 words without comma or semicolon")
    return summary


class ImageAnswer(BaseModel):
    """A captioner's answer for an image; a summary of None means that nothing known can be summarised."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    summary_caption: Annotated[str, AfterValidator(_check_summary)] | None
    detailed_report: str


class RegionAnswer(BaseModel):
    """A captioner's answer for a region: `adjective|term|position` and five negatives, or "No Finding" and none.

    Attributes:
        region_extraction: The caption.
        negative_variations: The negatives.
        size: The size that it claims for the region, to be checked; None: it claims none.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    region_extraction: str
    negative_variations: list[str]
    size: Literal["small", "medium", "large"] | None = None

    @model_validator(mode="after")
    def _check(self) -> "RegionAnswer":
        if self.region_extraction == NO_FINDING:
            if self.negative_variations:
                raise PydanticCustomError("negatives_without_region", "No Finding has no negatives")
            return self
        caption = parse_triple(self.region_extraction)
        negatives = [parse_triple(text) for text in self.negative_variations]
        if len(negatives) != NEGATIVES:
            raise PydanticCustomError("wrong_number_of_negatives", "write five negatives")
        if any(negative[1:] != caption[1:] for negative in negatives):
            raise PydanticCustomError("negative_changes_more_than_adjective", "keep the term and the position")
        adjectives = {negative.adjective.casefold() for negative in negatives}
        if len(adjectives) != NEGATIVES:
            raise PydanticCustomError("negatives_not_distinct", "write five different adjectives")
        if caption.adjective.casefold() in adjectives:
            raise PydanticCustomError("negative_equals_caption", "a negative repeats the caption's adjective")
        return self


def parse_answer(cls: type[T], values: dict[str, Any]) -> T:
    """Check an answer.

    Raises:
        Rejected: It breaks a rule; the reason is the rule's code, or pydantic's for a wrong schema (such as missing).
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise Rejected(first["type"], f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
