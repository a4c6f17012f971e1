"""Texts cut to one side."""

import pytest

from pipelines.evaluate.segmentation.laterality import counterfactual_texts, names_both_sides, single_side_text

QATA = "Bilateral pulmonary infection, two infected areas, upper left lung and middle lower right lung."


@pytest.mark.parametrize(
    ("text", "left", "right"),
    [
        (
            QATA,
            "Unilateral pulmonary infection, one infected area, upper left lung.",
            "Unilateral pulmonary infection, one infected area, middle lower right lung.",
        ),
        # Without a space, one "lung" for both, a blank too many, no full stop: all as QaTa has them.
        (
            "Bilateral pulmonary infection,two infected areas,lower left and all  right lung",
            "Unilateral pulmonary infection,one infected area,lower left",
            "Unilateral pulmonary infection,one infected area,all  right lung",
        ),
        (
            "Bilateral pulmonary infection, threeinfected areas, lower left lung, right lung and upper left lung.",
            "Unilateral pulmonary infection, one infected area, lower left lung, upper left lung.",
            "Unilateral pulmonary infection, one infected area, right lung.",
        ),
        (
            "Unilateral pulmonary infection, one infected area, left and right lung.",
            "Unilateral pulmonary infection, one infected area, left.",
            "Unilateral pulmonary infection, one infected area, right lung.",
        ),
        # The phantom's.
        (
            "Endoscopic image. Wide lumen. A large lobulated cyst is seen in the right middle zone. In the left upper "
            "zone lies a round nodule, small. Large oval cyst, right lower zone.",
            "Endoscopic image. Wide lumen. In the left upper zone lies a round nodule, small.",
            "Endoscopic image. Wide lumen. A large lobulated cyst is seen in the right middle zone. Large oval cyst, "
            "right lower zone.",
        ),
        (
            "A spiculated cyst lies in the left middle zone; large, 18 percent of the width. The heart is slim. "
            "Note a small oval nodule, right upper zone.",
            "A spiculated cyst lies in the left middle zone; large, 18 percent of the width. The heart is slim.",
            "The heart is slim. Note a small oval nodule, right upper zone.",
        ),
        # Parts at the beginning, and words that only look like sides.
        ("Right cyst, and left-sided upright nodule.", "left-sided upright nodule.", "Right cyst."),
        ("Left nodule of 2.5 cm; rightmost cyst of 1.5 cm.", "Left nodule of 2.5 cm;", "rightmost cyst of 1.5 cm."),
    ],
)
def test_statements_on_the_other_side_are_cut(text: str, left: str, right: str) -> None:
    assert names_both_sides(text)
    assert single_side_text(text, "left") == left
    assert single_side_text(text, "right") == right


@pytest.mark.parametrize(
    "text",
    [
        "Unilateral pulmonary infection, one infected area, middle right left lung.",
        "A cyst from left to right.",
        "",
        "No lesion is seen.",
    ],
)
def test_a_text_that_cannot_be_cut_gives_none(text: str) -> None:
    assert single_side_text(text, "left") is None
    assert single_side_text(text, "right") is None


def test_a_text_of_one_side_stays_and_gives_none_for_the_other() -> None:
    text = "Unilateral pulmonary infection, one infected area, lower left lung."
    assert single_side_text(text, "right") is None
    assert single_side_text(text, "left") == text


@pytest.mark.parametrize(
    "text",
    [
        "Lower left lung.",
        "Nodule left, cyst right, calcification in the center middle zone.",
        "A left and a right nodule in both lungs.",
        "Upright view, a bright spot left.",
    ],
)
def test_a_text_without_both_sides_or_with_a_centre_does_not_name_both_sides(text: str) -> None:
    assert not names_both_sides(text)


def test_only_texts_that_can_be_cut_to_either_side_have_counterfactual_texts() -> None:
    texts = {0: "Left lung. Right lung.", 1: "Left lung.", 2: "A cyst from left to right."}
    assert counterfactual_texts(texts) == {0: {"left": "Left lung.", "right": "Right lung."}}
