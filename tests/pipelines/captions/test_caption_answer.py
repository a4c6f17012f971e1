"""The paper's rules, one violation at a time."""

from typing import Any

import pytest

from pipelines.captions.answer import (
    ImageAnswer,
    RegionAnswer,
    parse_answer,
    parse_triple,
    plain_text,
    summary_fault,
    summary_warnings,
)
from pipelines.errors import Rejected

TEN = "one two three four five six seven eight nine ten."
FIFTEEN = "a b c d e f g h i j k l m n o."


@pytest.mark.parametrize(
    ("summary", "fault"),
    [
        (TEN, None),
        (FIFTEEN, None),
        ("one two three four five six seven eight nine.", None),
        ("", "summary_not_one_sentence"),
        ("a b c d e f g h i j k l m n o p.", "summary_too_long"),
        ("one two, three four five six seven eight nine ten.", "summary_punctuation"),
        ("one two; three four five six seven eight nine ten.", "summary_punctuation"),
        (TEN[:-1], "summary_not_one_sentence"),
        ("one two three four five. Six seven eight nine ten.", "summary_not_one_sentence"),
        ("one two three four five? six seven eight nine ten.", "summary_not_one_sentence"),
        ("one two three four five\nsix seven eight nine ten.", "summary_not_one_sentence"),
        ("lesion of 2.5 cm in the left upper part of image.", None),
    ],
)
def test_summary_that_breaks_a_rule_is_rejected_with_its_code(summary: str, fault: str | None) -> None:
    assert summary_fault(summary) == fault
    values = {"summary_caption": summary, "detailed_report": "x"}
    if fault is None:
        assert parse_answer(ImageAnswer, values).summary_caption == summary
    else:
        with pytest.raises(Rejected) as error:
            parse_answer(ImageAnswer, values)
        assert error.value.reason == fault


def test_a_short_summary_is_accepted_with_a_warning() -> None:
    assert summary_warnings("one two three four five six seven eight nine.") == ("summary_too_short",)
    assert summary_warnings(TEN) == summary_warnings(None) == ()


def test_plain_text_has_no_separators() -> None:
    assert plain_text(" mass, left;\n lung|base. ") == "mass left lung base"


GOOD = ["oval|mass|left upper", "flat|mass|left upper", "lobulated|mass|left upper", "spiculated|mass|left upper",
        "irregular | mass | left upper"]  # fmt: skip


@pytest.mark.parametrize(
    ("caption", "negatives", "fault"),
    [
        ("round|mass|left upper", GOOD, None),
        ("round|mass", GOOD, "region_not_a_triple"),
        ("round||left upper", GOOD, "region_not_a_triple"),
        ("round|mass|left|upper", GOOD, "region_not_a_triple"),
        ("round|mass|upper left", GOOD, "unknown_position"),
        ("round|mass|left upper", GOOD[:4], "wrong_number_of_negatives"),
        ("round|mass|left upper", [*GOOD, "flat|mass|left upper"], "wrong_number_of_negatives"),
        ("round|mass|left upper", [*GOOD[:4], "OVAL|mass|left upper"], "negatives_not_distinct"),
        ("round|mass|left upper", [*GOOD[:4], "Round|mass|left upper"], "negative_equals_caption"),
        ("round|mass|left upper", [*GOOD[:4], "x|cyst|left upper"], "negative_changes_more_than_adjective"),
        ("round|mass|left upper", [*GOOD[:4], "x|mass|left lower"], "negative_changes_more_than_adjective"),
        ("No Finding", [], None),
        ("No Finding", GOOD, "negatives_without_region"),
        ("no finding", [], "region_not_a_triple"),
    ],
)
def test_region_that_breaks_a_rule_is_rejected_with_its_code(
    caption: str, negatives: list[str], fault: str | None
) -> None:
    values = {"region_extraction": caption, "negative_variations": negatives}
    if fault is None:
        assert parse_answer(RegionAnswer, values).region_extraction == caption
    else:
        with pytest.raises(Rejected) as error:
            parse_answer(RegionAnswer, values)
        assert error.value.reason == fault


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"summary_caption": TEN}, "missing"),
        ({"summary_caption": TEN, "detailed_report": "x", "diagnosis": "y"}, "extra_forbidden"),
        ({"summary_caption": 3, "detailed_report": "x"}, "string_type"),
    ],
)
def test_wrong_schema_is_rejected_with_its_code(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(Rejected) as error:
        parse_answer(ImageAnswer, values)
    assert error.value.reason == reason


def test_triple_is_written_with_spaces_around_bars() -> None:
    assert str(parse_triple("round|  pleural   mass |left upper")) == "round | pleural mass | left upper"
