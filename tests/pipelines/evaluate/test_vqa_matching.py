"""When an answer in free words is the source's: cases by hand, and what must stay wrong."""

import pytest

from pipelines.evaluate.vqa.matching import EXACT, NORMALISED, is_right


@pytest.mark.parametrize(
    ("answer", "expected", "exact", "normalised"),
    [
        ("left lung", "left lung", True, True),
        (" left lung\n", "left lung", True, True),
        ("Left lung", "left lung", False, True),
        ("The left lung.", "left lung", False, True),
        ("right-sided", "right sided", False, True),
        ("in a left lung", "left lung", False, False),
        ("left lung and right lung", "left lung", False, False),
        # Number words, none among them, on either side; digits with a point stay a number.
        ("two", "2", False, True),
        ("2 nodules", "Two nodules", False, True),
        ("None", "0", False, True),
        ("zero", "none", False, True),
        ("ten", "10", False, True),
        ("eleven", "11", False, False),
        ("2.5 cm", "2.5 cm", True, True),
        ("2.5 cm", "25 cm", False, False),
        # Yes and no: the first word counts where the source says so, and nowhere else.
        ("Yes", "yes", False, True),
        ("Yes, there is a fracture.", "Yes", False, True),
        ("No evidence of an effusion", "no", False, True),
        ("No, yes", "yes", False, False),
        ("There is no effusion", "no", False, False),
        ("Not seen", "no", False, False),
        ("Normal", "no", False, False),
        ("Yes, left lung", "left lung", False, False),
        ("Yes", "yes in the left lung", False, False),
        ("yes, in left lung", "Yes, in the left lung", False, True),
        # Answers of which normalising leaves nothing are kept: blood group A, rhesus +.
        ("A", "a", False, True),
        ("A.", "A", False, True),
        ("(A)", "A", False, True),
        ("A", "B", False, False),
        ("The", "the.", False, True),
        ("+", "+", True, True),
        ("-", "+", False, False),
        # Signs that are no punctuation.
        ("-5", "5", False, False),
        (".5 cm", "5 cm", False, False),
        (".5 cm", "0.5 cm", False, True),
        ("CD3+", "CD3-", False, False),
        ("Gram (+)", "Gram -", False, False),
        ("Gram (+)", "gram+", False, True),
        ("Yes + an effusion", "yes", False, True),
        ("Yes -", "yes", False, True),
        ("< 5", "> 5", False, False),
        ("<5 mm", "< 5 mm", False, True),
        ("10,000", "10000", False, True),
        # Silence is right nowhere, not even where nothing is expected.
        ("", "yes", False, False),
        ("", "", False, False),
        (" \n", "", False, False),
    ],
)
def test_cases_by_hand(answer: str, expected: str, exact: bool, normalised: bool) -> None:
    assert is_right(answer, expected, EXACT) is exact
    assert is_right(answer, expected, NORMALISED) is normalised
