"""What the model fills in: JSON schemas for the server, and their check when the answer is back.

The schemas are tighter than the rules of `pipelines.captions.answer`, so that guided decoding steers clear of answers
that would be rejected: a summary of 10 to 15 words, adjectives of one word. The check on this side goes by the rules
alone, for a server may ignore a schema. Patterns keep to what xgrammar compiles: classes, groups, bounded repeats up to
about 100; it gets `(...)?` after a bounded repeat wrong, hence `{0,1}`.

The model never writes a region's caption or its negatives. It gives words; the client puts them together, so that term
and position are the same in all six, and a term that the source gave cannot change.

Names and docstrings of the three classes are part of the schemas that are sent and of the result cache's keys: another
name or docstring makes the stage request every answer anew.
"""

from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from models.geometry import POSITIONS
from pipelines.captions.answer import NEGATIVES, ImageAnswer, RegionAnswer, parse_answer, plain_text
from pipelines.captions.non_answers import COMPLAINTS, empty_term, is_empty_word, non_answer
from pipelines.captions.protocols import ImageItem, Item, RegionItem
from pipelines.errors import Rejected
from pipelines.records import NO_FINDING

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
_SUMMARY = {"type": "string", "pattern": r"^[A-Z][A-Za-z0-9-]{0,19}( [A-Za-z0-9-]{1,20}){9,14}\.$"}
# 6 to 101 words of ASCII. A pattern, as maxLength alone lets raw control characters through, which is no JSON; the last
# word is bounded, or a model of noise never ends.
_REPORT = {
    "type": "string",
    "pattern": r"^[A-Z][A-Za-z0-9-]*( [A-Za-z0-9.,:;()%/'+-]+){4,99} [A-Za-z0-9-]{1,20}\.$",
}

Adjective = Annotated[str, Field(pattern=r"^[a-z]{3,14}(-[a-z]{2,14}){0,1}$")]
Term = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{1,19}( [A-Za-z0-9-]{1,20}){0,3}$")]
Position = Annotated[str, WithJsonSchema({"type": "string", "enum": list(POSITIONS)})]
Size = Annotated[str, WithJsonSchema({"type": "string", "enum": ["small", "medium", "large"]})]
Alternatives = Annotated[list[Adjective], Field(min_length=NEGATIVES, max_length=NEGATIVES)]


class ImageWords(BaseModel):
    """What the model says of an image."""

    model_config = _STRICT

    summary_caption: Annotated[str, WithJsonSchema(_SUMMARY)]
    detailed_report: Annotated[str, Field(min_length=1), WithJsonSchema(_REPORT)]


class RegionWords(BaseModel):
    """What the model says of a region that nobody named; the term may be `No Finding`."""

    model_config = _STRICT

    adjective: Adjective
    term: Term
    position: Position
    size: Size
    alternative_adjectives: Alternatives


class NamedRegionWords(BaseModel):
    """What the model says of a region that the source named."""

    model_config = _STRICT

    adjective: Adjective
    position: Position
    size: Size
    alternative_adjectives: Alternatives


def term_of(item: RegionItem) -> str:
    """What the source calls the region, fit for a caption; '' where the source gives no name."""
    return plain_text(item.label or "")


def answer_class(item: Item) -> type[ImageWords] | type[RegionWords] | type[NamedRegionWords]:
    """The class whose fields the model fills in for an item."""
    if isinstance(item, ImageItem):
        return ImageWords
    return NamedRegionWords if term_of(item) else RegionWords


def response_format(item: Item) -> dict[str, Any]:
    """The field `response_format` of a request; its schema is named `image` or `region`."""
    schema = _json_schema(answer_class(item))
    return {"type": "json_schema", "json_schema": {"name": item.kind, "strict": True, "schema": schema}}


@cache
def _json_schema(words: type[BaseModel]) -> dict[str, Any]:
    """Made once for all items, for that took half of the time of a key; whoever gets it does not change it."""
    return words.model_json_schema()


def read_answer(item: Item, content: str, instructions: str) -> ImageAnswer | RegionAnswer:
    """Check what the model wrote and put the caption together.

    Args:
        item: What was asked about.
        content: The model's words.
        instructions: What the prompt says to every item of the kind.

    Raises:
        Rejected: malformed_json, pydantic's code for a wrong schema, or a code of `non_answers.py` or `answer.py`.
    """
    try:
        words = answer_class(item).model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        code = "malformed_json" if first["type"] == "json_invalid" else first["type"]
        raise Rejected(code, f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")) from None
    if isinstance(words, ImageWords):
        for text in (words.summary_caption, words.detailed_report):
            _refuse(non_answer(text, instructions))
        return parse_answer(ImageAnswer, words.model_dump())
    assert isinstance(item, RegionItem)
    term = words.term if isinstance(words, RegionWords) else term_of(item)
    if isinstance(words, RegionWords) and term.casefold() == NO_FINDING.casefold():
        return RegionAnswer(region_extraction=NO_FINDING, negative_variations=[])
    if isinstance(words, RegionWords):
        _refuse(empty_term(term))
    if any(map(is_empty_word, (words.adjective, *words.alternative_adjectives))):
        _refuse("placeholder")
    caption, *negatives = (
        f"{adjective}|{term}|{words.position}" for adjective in (words.adjective, *words.alternative_adjectives)
    )
    values = {"region_extraction": caption, "negative_variations": negatives, "size": words.size}
    return parse_answer(RegionAnswer, values)


def _refuse(code: str | None) -> None:
    if code is not None:
        raise Rejected(code, COMPLAINTS[code])
