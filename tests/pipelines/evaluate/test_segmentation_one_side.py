"""Texts and targets of one side."""

import numpy as np
import pytest

from pipelines.evaluate.evaluation_set import Item
from pipelines.evaluate.segmentation.halves import half_of, sides_of
from pipelines.evaluate.segmentation.one_side import (
    Answer,
    Votes,
    answer,
    names_both_sides,
    one_sided,
    patients_sides,
)

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
def test_what_is_said_of_the_other_side_goes(text: str, left: str, right: str) -> None:
    assert names_both_sides(text)
    assert one_sided(text, "left") == left
    assert one_sided(text, "right") == right


@pytest.mark.parametrize(
    "text",
    [
        "Unilateral pulmonary infection, one infected area, middle right left lung.",
        "A cyst from left to right.",
        "",
        "No lesion is seen.",
    ],
)
def test_what_cannot_be_parted_is_none(text: str) -> None:
    assert one_sided(text, "left") is None
    assert one_sided(text, "right") is None


def test_a_text_of_one_side_has_nothing_of_the_other() -> None:
    text = "Unilateral pulmonary infection, one infected area, lower left lung."
    assert one_sided(text, "right") is None
    assert one_sided(text, "left") == text


@pytest.mark.parametrize(
    "text",
    [
        "Lower left lung.",
        "Nodule left, cyst right, calcification in the center middle zone.",
        "A left and a right nodule in both lungs.",
        "Upright view, a bright spot left.",
    ],
)
def test_texts_that_do_not_name_two_sides_alone(text: str) -> None:
    assert not names_both_sides(text)


def masks(*rows: str) -> dict[str, np.ndarray]:
    """Letter -> where it stands."""
    grid = np.array([list(row) for row in rows])
    return {letter: grid == letter for letter in "abc"}


def test_a_connected_part_belongs_to_the_half_of_its_centroid() -> None:
    # a reaches over the middle of 6 columns, and its corner touches: one part.
    target = masks("aaa..b", "...a..", "....cc")
    whole = target["a"] | target["b"]
    sides = sides_of(whole, patients=False)
    assert (sides["left"] == target["a"]).all()
    assert (sides["right"] == target["b"]).all()
    # The patient faces the viewer.
    sides = sides_of(whole, patients=True)
    assert (sides["right"] == target["a"]).all()
    assert (sides["left"] == target["b"]).all()
    # A part in the very middle is the image's right.
    middle = np.array([[False, True, True, False]])
    assert sides_of(middle, patients=False)["right"].sum() == 2
    assert not sides_of(np.zeros((2, 2), bool), patients=False)["left"].any()


def test_shares_by_hand() -> None:
    target = np.array([[1, 1, 1, 0, 0, 1, 1]], bool)
    full = np.array([[1, 1, 0, 1, 0, 1, 1]], bool)
    asked = {
        "left": np.array([[1, 0, 1, 1, 0, 0, 1]], bool),
        "right": np.array([[0, 1, 0, 0, 0, 1, 1]], bool),
    }
    # Found of the target: 2 left, 2 right. Asked left: 1 of 2 stays, 1 of the right 2 goes. Asked right: both stay, 1
    # of the left 2 goes.
    assert answer(target, full, asked, patients=False) == Answer(kept=3 / 4, gone=2 / 4)
    swapped = {"left": asked["right"], "right": asked["left"]}
    assert answer(target, full, swapped, patients=True) == Answer(kept=3 / 4, gone=2 / 4)
    # Obeying in all, and in nothing.
    obedient = {"left": full & (np.arange(7) < 3), "right": full & (np.arange(7) > 3)}
    assert answer(target, full, obedient, patients=False) == Answer(kept=1, gone=1)
    assert answer(target, full, {"left": full, "right": full}, patients=False) == Answer(kept=1, gone=0)


def test_images_that_say_nothing() -> None:
    target = np.array([[1, 0, 0, 1]], bool)
    nothing = np.zeros_like(target)
    asked = {"left": target, "right": target}
    assert answer(target, nothing, asked, patients=False) == "nothing_found"
    assert answer(target, ~target, asked, patients=False) == "nothing_found"
    assert answer(np.array([[1, 1, 0, 0]], bool), target, asked, patients=False) == "target_on_one_side"


def item(place: int, view: str | None, half: str | None) -> Item:
    return Item(f"{place:016x}", "toy", None, "ok", "", False, view=view, target_half=half)


def test_whose_sides_the_reports_mean_is_read_from_those_that_name_one() -> None:
    items = [
        item(0, "frontal", "left"),
        item(1, "frontal", "left"),
        item(2, "frontal", "right"),
        item(3, "frontal", None),
        item(4, None, "left"),
    ]
    texts = {0: "Left lung.", 1: "Right lung.", 2: "Right lung.", 3: "Left lung.", 4: "Left and right lung."}
    found = patients_sides(texts, items)
    assert found == {("toy", "frontal"): Votes(patients=1, images=2)}
    assert not found["toy", "frontal"].decide("frontal")
    # Where nothing tells, radiology's habit.
    assert Votes().decide("frontal")
    assert not Votes(patients=2, images=2).decide("lateral")
    assert Votes(patients=2, images=1).decide(None)


def test_the_half_that_holds_a_target() -> None:
    target = np.array([[1, 1, 0, 0]], bool)
    assert half_of(target) == "left"
    assert half_of(target[:, ::-1]) == "right"
    assert half_of(np.array([[1, 0, 0, 1]], bool)) is None
    assert half_of(~target & target) is None
