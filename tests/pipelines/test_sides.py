"""The side that a text names, and the sides of a target, by hand."""

import numpy as np
import pytest

from pipelines.sides import extent, image_half, named_side, split_by_side


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("Unilateral pulmonary infection, one infected area, lower left lung.", "left"),
        ("RIGHT-sided opacity. Rightmost zone is dense.", "right"),
        ("Upright view; opacity of the left base", "left"),
        # Both, in words or by two sides.
        ("Bilateral pulmonary infection, two infected areas, upper left lung and right lung.", None),
        ("Bilateral opacities, denser on the left.", None),
        ("Opacity on the left. The changes are seen in both lungs.", None),
        # In other words for both, and abbreviated.
        ("Opacity in the RUL and effusion on the left.", None),
        ("bibasilar atelectasis and left effusion", None),
        ("Bibasal opacities. Left nodule.", None),
        ("RLL opacity", "right"),
        ("left_lung mass", "left"),
        ("Mass at the L. base.", "left"),
        # A sentence may end without a space, and with other marks.
        ("Left effusion.No right effusion.", "left"),
        ("Left nodule! No right effusion", "left"),
        # What is denied is not placed anywhere.
        ("No effusion on the left.", None),
        ("No effusion on the left. Nodule in the right lung.", "right"),
        ("Nodule in the right lung\nwithout a left effusion", "right"),
        ("A copyright notice.", None),
        ("", None),
        (None, None),
    ],
)
def test_the_one_side_that_a_report_names(text: str | None, side: str | None) -> None:
    assert named_side(text) == side


def letter_masks(*rows: str) -> dict[str, np.ndarray]:
    """Letter -> mask of its pixels."""
    grid = np.array([list(row) for row in rows])
    return {letter: grid == letter for letter in "abc"}


def test_a_connected_component_belongs_to_the_half_of_its_centroid() -> None:
    # a reaches over the middle of 6 columns, and its pixels touch at a corner: one component.
    target = letter_masks("aaa..b", "...a..", "....cc")
    whole = target["a"] | target["b"]
    sides = split_by_side(whole, patient_sides=False)
    assert (sides["left"] == target["a"]).all()
    assert (sides["right"] == target["b"]).all()
    # The patient faces the viewer.
    sides = split_by_side(whole, patient_sides=True)
    assert (sides["right"] == target["a"]).all()
    assert (sides["left"] == target["b"]).all()
    # A component in the very middle is on the image's right.
    middle = np.array([[False, True, True, False]])
    assert split_by_side(middle, patient_sides=False)["right"].sum() == 2
    assert not split_by_side(np.zeros((2, 2), bool), patient_sides=False)["left"].any()


def test_the_image_half_that_holds_a_target() -> None:
    target = np.array([[1, 1, 0, 0]], bool)
    assert image_half(target) == "left"
    assert image_half(target[:, ::-1]) == "right"
    assert image_half(np.array([[1, 0, 0, 1]], bool)) is None
    assert image_half(~target & target) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Unilateral pulmonary infection, one infected area.", "unilateral"),
        ("Opacity of the left base.", "unilateral"),
        ("Bilateral pulmonary infection, two infected areas.", "bilateral"),
        ("A nodule left, a cyst right.", "bilateral"),
        ("No bilateral effusion. A nodule.", None),
        ("", None),
    ],
)
def test_the_extent_that_a_report_states(text: str, found: str | None) -> None:
    assert extent(text) == found
