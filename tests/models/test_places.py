"""Words of place, by hand: abbreviations in full, sides that a text names, and what mirroring makes of them."""

import pytest

from models.places import flip_text, names_both_sides, names_position, side_words, spelled_out


@pytest.mark.parametrize(
    ("text", "words", "mirrored"),
    [
        ("RUL nodule", "right upper lobe nodule", "LUL nodule"),
        ("(LLL) mass, RMZ", "(left lower lobe) mass, right middle zone", "(RLL) mass, LMZ"),
        ("R lung clear", "right lung clear", "L lung clear"),
        ("l. lung; Lt. base, rt upper zone", "left lung; left base, right upper zone", None),
        # Alone they may be anything.
        ("R 2 of 3, L-shaped, RT planned", "R 2 of 3, L-shaped, RT planned", "R 2 of 3, L-shaped, RT planned"),
        ("ALL of it, ROLL", "ALL of it, ROLL", "ALL of it, ROLL"),
    ],
)
def test_abbreviations_of_place(text: str, words: str, mirrored: str | None) -> None:
    assert spelled_out(text) == words
    if mirrored is not None:
        assert flip_text(text) == mirrored
    # Twice mirrored it is what it was, and both name a side or neither does.
    assert flip_text(flip_text(text)) == text
    assert names_position(text) == bool(side_words(text))


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("Left_lung and RLL", {"left", "right"}),
        ("leftmost, LEFT-sided, leftwards", {"left"}),
        ("upright, bilateral, leftover", set()),
        ("a right-angled mass, a right angle", set()),
        ("Lt. effusion", {"left"}),
    ],
)
def test_the_sides_that_a_text_names(text: str, sides: set[str]) -> None:
    assert side_words(text) == sides
    assert side_words(flip_text(text)) == {"left" if side == "right" else "right" for side in sides}


@pytest.mark.parametrize(
    ("text", "both"),
    [
        ("Bibasilar atelectasis", True),
        ("bilat effusion", True),
        ("Bilaterally clear", True),
        ("bilateralism", False),
        ("left and right", False),
    ],
)
def test_words_for_both_sides(text: str, both: bool) -> None:
    assert names_both_sides(text) is both
