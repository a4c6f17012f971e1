"""Cells of a table that hold JSON: attributes of an image, objects marked in it, and questions about it.

Reason codes of `Rejected`: bad_attributes, bad_objects, bad_questions, unnamed_category, and those of
`pipelines.ingest.cells`.
"""

import json
from typing import Any

from pipelines.errors import Rejected, item_boundary
from pipelines.ingest import cells
from pipelines.ingest.details import kind_of
from pipelines.ingest.record import Question
from pipelines.ingest.tables import unique_keys

_OBJECT_KEYS = {"bbox", "label", "adjective", "phrase", "mask", "mask_value", "look_alike"}
_OBJECT_KEYS_WITHOUT_MEANING = {"id", "area", "iscrowd"}  # COCO's, common in Hugging Face data sets
_QUESTION_KEYS = ("question_id", "question", "answer", "answer_type")


def attributes(value: Any, column: str) -> dict[str, str]:
    """Values by name, as text without spaces around them; what says nothing is left out."""
    value = _decoded(value, "bad_attributes", column)
    # A map of Parquet is a list of pairs.
    pairs = list(value.items()) if isinstance(value, dict) else [] if value is None else value
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise Rejected("bad_attributes", f"{column} is {kind_of(value)}, not an object of names and values")
    if not all(isinstance(name, str) and name.strip() for name, _ in pairs):
        raise Rejected("bad_attributes", f"{column}: one has no name")
    if len({name.strip() for name, _ in pairs}) < len(pairs):
        raise Rejected("bad_attributes", f"{column}: a name stands twice")
    found = {name.strip(): cells.text(given, f"{column}: a value") for name, given in pairs}
    return {name: given.strip() for name, given in found.items() if given is not None}


def objects(value: Any, column: str) -> list[dict[str, Any]]:
    """Objects as a list of dicts, whether they came as one or as a dict of lists."""
    value = _decoded(value, "bad_objects", column)
    if isinstance(value, dict):
        columns = {key: entries for key, entries in value.items() if entries is not None}
        if (
            not all(isinstance(entries, list) for entries in columns.values())
            or len(set(map(len, columns.values()))) > 1
        ):
            raise Rejected("bad_objects", f"{column}: lists of different lengths")
        value = [dict(zip(columns, entries, strict=True)) for entries in zip(*columns.values(), strict=True)]
    items = _list(value, "bad_objects", column)
    if not all(isinstance(item, dict) for item in items):
        raise Rejected("bad_objects", f"{column}: one in the list is no object")
    return [_object(item, column) for item in items]


def questions(value: Any, column: str) -> tuple[tuple[Question, ...], tuple[str, ...]]:
    """The questions that can be read, and the reason codes of the others; an id that stands again is left out."""
    found: dict[str, Question] = {}
    left_out = []
    for item in _list(_decoded(value, "bad_questions", column), "bad_questions", column):
        try:
            question = _question(item, column)
            if question.question_id in found:
                raise Rejected("repeated_question_id", f"{column}: an id stands twice")
            found[question.question_id] = question
        except Rejected as error:
            left_out.append(error.reason)
    return tuple(found.values()), tuple(left_out)


def _decoded(value: Any, reason: str, column: str) -> Any:
    if cells.is_null(value):
        return None
    if not isinstance(value, str):
        return value
    with item_boundary(reason, f"{column} is not JSON"):
        return json.loads(value, object_pairs_hook=unique_keys)


def _list(value: Any, reason: str, column: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Rejected(reason, f"{column} is {kind_of(value)}, not a list of objects")
    return value


def _object(item: dict[str, Any], column: str) -> dict[str, Any]:
    item = {("label" if key in ("categories", "category") else key): value for key, value in item.items()}
    if unknown := item.keys() - _OBJECT_KEYS - _OBJECT_KEYS_WITHOUT_MEANING:
        known = ", ".join(sorted(_OBJECT_KEYS))
        raise Rejected("bad_objects", f"{column}: {len(unknown)} unknown keys: choose from {known}")
    if isinstance(item.get("label"), int):
        raise Rejected("unnamed_category", f"{column}: the category is a number: write its name instead")
    return item


def _question(item: Any, column: str) -> Question:
    if not isinstance(item, dict):
        raise Rejected("bad_questions", f"{column}: one in the list is no object")
    # An answer may well be `none`.
    values = {key: cells.text(item.get(key), f"{column}: {key}", null_words=False) for key in _QUESTION_KEYS}
    if missing := sorted(key for key, value in values.items() if value is None):
        raise Rejected("bad_questions", f"{column}: one is without {', '.join(missing)}")
    values["answer_type"] = str(values["answer_type"]).strip().lower()
    if values["answer_type"] not in ("closed", "open"):
        raise Rejected("bad_questions", f"{column}: answer_type is neither closed nor open")
    return Question(**values)  # type: ignore[arg-type]
