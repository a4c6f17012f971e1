"""Cells as adapters read them: what is null, who is nobody, what is normal, and lists in every usual spelling."""

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import Rejected
from pipelines.ingest import cells

NULLS = [
    None,
    "",
    "  ",
    float("nan"),
    Decimal("nan"),
    "NaN",
    "N/A",
    "n/a.",
    "NA",
    "NULL",
    "<NA>",
    "#N/A",
    "nil",
    "-",
    "--",
]
NULLS += ["___", "...", "?", "\ufeff", " \u200b "]


@pytest.mark.parametrize("value", NULLS)
def test_what_says_nothing_is_null_in_every_column(value: Any) -> None:
    assert cells.text(value, "c") is None
    assert cells.identity(value, "c") is None
    assert cells.whole(value, "c") is None
    assert cells.words(value, "c") is None


def test_none_is_null_but_for_labels_and_answers() -> None:
    assert cells.text("None", "c") is None
    assert cells.words("None", "c") == ()
    assert cells.text("none", "c", null_words=False) == "none"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("A  report. ", "A  report. "),
        (3, "3"),
        (3.0, "3"),
        (2.5, "2.5"),
        (0, "0"),
        ("0", "0"),
        (10**30, "1" + "0" * 30),
    ],
)
def test_texts_stand_as_they_are_and_numbers_become_text(value: Any, expected: str) -> None:
    assert cells.text(value, "c") == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [([1], "bad_value"), ({}, "bad_value"), (True, "bad_value"), (float("inf"), "bad_value"), ("a\ud800", "bad_text")],
)
def test_what_is_no_text_is_rejected_with_the_column_alone(value: Any, reason: str) -> None:
    with pytest.raises(Rejected, match="findings") as caught:
        cells.text(value, "findings")
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("value", "expected"),
    [("777.0", "777"), (777.0, "777"), (777, "777"), (" 0042 ", "0042"), ("0", "0"), ("P.1.0", "P.1.0")],
)
def test_a_patient_is_the_same_in_every_spelling(value: Any, expected: str) -> None:
    assert cells.identity(value, "patient") == expected


@pytest.mark.parametrize(
    "value", ["unknown", "ANONYMOUS", "Anonymous^Patient", "de-identified", "XXXX", "unknown_patient"]
)
def test_nobody_is_no_patient(value: str) -> None:
    assert cells.identity(value, "patient") is None


@pytest.mark.parametrize("value", [1.2345678901234567e17, "1.23457E+17", "1,2E+10"])
def test_a_patient_id_that_lost_its_digits_stands_for_several(value: Any) -> None:
    with pytest.raises(Rejected, match=r"patient is .*lost digits"):
        cells.identity(value, "patient")


@pytest.mark.parametrize(
    "cell",
    [
        *("No Finding", "no finding", "No findings", "NORMAL", "None", "[]", "()", "set()", " healthy ", "['normal']"),
        *('["No finding"]', "no_finding", "No-Finding.", [], ["Normal"], "array([], dtype=object)"),
    ],
)
def test_words_for_normal_mean_no_finding(cell: Any) -> None:
    assert cells.words(cell, "labels") == ()


@pytest.mark.parametrize(
    "cell",
    [
        "['pneumonia', 'pleural effusion']",
        '["pneumonia", "pleural effusion"]',
        str(np.array(["pneumonia", "pleural effusion"])),  # without a comma
        repr(np.array(["pneumonia", "pleural effusion"], dtype=object)),
        "('pneumonia', 'pleural effusion')",
        "{'pneumonia', 'pleural effusion'}",
        "[pneumonia, pleural effusion]",
        "pneumonia|pleural effusion",
        "pneumonia; pleural effusion;",
        "'pneumonia', 'pleural effusion'",
        "['pneumonia', None, 'pleural effusion', nan]",
        ["pneumonia", " pleural effusion", "pneumonia", None, float("nan"), ""],
    ],
)
def test_a_list_in_any_spelling(cell: Any) -> None:
    assert sorted(cells.words(cell, "labels") or ()) == ["pleural effusion", "pneumonia"]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("Crohn's disease", ("Crohn's disease",)),
        ("mass (right), large", ("mass (right), large",)),
        ("(possible) mass", ("(possible) mass",)),
        ('"mass"', ("mass",)),
        ('["Crohn\'s disease", "\\u00e4"]', ("Crohn's disease", "\u00e4")),
        ("[null]", None),
        ("[None]", None),
        ("unknown", None),
    ],
)
def test_signs_in_words_stay(cell: str, expected: tuple[str, ...] | None) -> None:
    assert cells.words(cell, "labels") == expected


@pytest.mark.parametrize(
    "cell", ["['a'", "[a", "{'a': 1}", '{"a": 1}', "[[1]]", "3", 3, True, [1], [["a"]], "No Finding|mass"]
)
def test_labels_that_are_none_are_rejected(cell: Any) -> None:
    with pytest.raises(Rejected) as caught:
        cells.words(cell, "labels")
    assert caught.value.reason == "bad_labels"


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).map(lambda word: f"x{word}x"))
)
def test_json_and_python_spell_the_same_words(words: list[str]) -> None:
    expected = tuple(dict.fromkeys(words))
    assert cells.words(json.dumps(words), "labels") == cells.words(repr(words), "labels") == expected


def test_a_value_map_is_looked_up_for_the_cell_and_for_its_words() -> None:
    values = {"sano": "No Finding", "todo": None, "PNA": "pneumonia", "a|b": "both", "None": None}
    assert cells.words("sano", "labels", values) == ()
    assert cells.words("PNA|todo", "labels", values) == ("pneumonia",)
    assert cells.words("a|b", "labels", values) == ("both",)
    assert cells.words("todo", "labels", values) is None
    assert cells.words("None", "labels", values) is None
    assert cells.mapped(2.0, cells.ValueMap({"2": "lateral"})) == "lateral"


CHEXPERT = ["No Finding", "Cardiomegaly", "Edema"]


@pytest.mark.parametrize(
    ("row", "uncertain", "expected"),
    [
        ([1.0, None, None], "missing", ()),
        (["1.0", "", "0"], "missing", ()),
        ([None, 1, -1], "missing", ("Cardiomegaly",)),
        ([None, 1, "-1.0"], "positive", ("Cardiomegaly", "Edema")),
        ([None, None, -1], "missing", None),
        ([None, 0, 0], "missing", None),  # nobody said that there is nothing else
        ([0, 0, 0], "missing", None),  # not normal: a finding that no column names
        ([1, 1, None], "missing", ("Cardiomegaly",)),  # as CheXpert's Support Devices beside No Finding
        ([None, True, False], "missing", ("Cardiomegaly",)),
    ],
)
def test_columns_of_ones(row: list[Any], uncertain: str, expected: tuple[str, ...] | None) -> None:
    assert cells.one_hot(dict(zip(CHEXPERT, row, strict=True)), uncertain, {}) == expected


def test_columns_of_ones_without_one_for_normal() -> None:
    assert cells.one_hot({"mass": 0, "nodule": "0.0"}, "missing", {}) == ()
    assert cells.one_hot({"mass": 0, "nodule": -1}, "negative", {}) == ()
    assert cells.one_hot({"mass": 0, "nodule": None}, "missing", {}) is None
    assert cells.one_hot({"mass": "ja"}, "missing", {"mass": {"ja": "1"}}) == ("mass",)
    assert cells.one_hot({"M": 1, "tube": 1}, "missing", {"labels": {"M": "mass", "tube": None}}) == ("mass",)
    with pytest.raises(Rejected, match="mass is none of 1, 0, -1"):
        cells.one_hot({"mass": "maybe"}, "missing", {})


@pytest.mark.parametrize(("value", "expected"), [("0", 0), ("007", 7), ("2.0", 2), (3, 3), ("9" * 18, 10**18 - 1)])
def test_whole_numbers(value: Any, expected: int) -> None:
    assert cells.whole(value, "c") == expected


@pytest.mark.parametrize("value", [-1, "-1", "0.5", 1e300, 10**18, "9" * 5000, True, "two"])
def test_what_is_no_whole_number_that_a_table_can_hold_is_rejected(value: Any) -> None:
    with pytest.raises(Rejected, match=r"^bad_value: c "):
        cells.whole(value, "c")
