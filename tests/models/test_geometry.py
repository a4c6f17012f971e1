"""Geometry of the shards, with values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.geometry import crop_with_margin, filled_box, fit_image, fit_mask, fitted_size, mask_in_box, unit_box


@pytest.mark.parametrize(
    ("width", "height", "side", "expected"),
    [
        (96, 96, 64, (64, 64)),
        (100, 50, 64, (64, 32)),
        (30, 200, 64, (10, 64)),
        (1000, 3, 64, (64, 1)),
        (8, 4, 64, (64, 32)),
    ],
)
def test_fitted_size(width, height, side, expected):
    assert fitted_size(width, height, side) == expected


def test_picture_fills_the_top_left_and_the_rest_is_black():
    square = np.asarray(fit_image(Image.new("L", (100, 40), 200), 50))
    assert square.shape == (50, 50, 3)
    assert (square[:20] == 200).all()
    assert (square[20:] == 0).all()


def test_tall_picture_is_padded_at_the_right():
    square = np.asarray(fit_image(Image.new("RGB", (20, 80), (10, 20, 30)), 40))
    assert (square[:, :10] == (10, 20, 30)).all()
    assert (square[:, 10:] == 0).all()


def test_mask_lies_where_the_picture_lies():
    mask = np.zeros((40, 100), dtype=bool)
    mask[10:20, 60:80] = True
    square = np.asarray(fit_mask(mask, 50))
    expected = np.zeros((50, 50), dtype=np.uint8)
    expected[5:10, 30:40] = 255
    assert (square == expected).all()


def test_a_mask_in_a_box_keeps_the_pixels_that_the_box_touches():
    mask = np.ones((4, 5), bool)
    mask[1, 2] = False
    inside = mask_in_box(mask, (1.5, 0.0, 3.2, 1.1))
    assert np.argwhere(inside).tolist() == [[0, 1], [0, 2], [0, 3], [1, 1], [1, 3]]
    assert mask_in_box(mask, (-3.0, 3.0, 1.0, 9.0)).sum() == 1
    assert not mask_in_box(mask, (5.0, 0.0, 9.0, 4.0)).any()


def test_one_pixel_mask_of_a_large_picture_does_not_vanish():
    mask = np.zeros((2000, 1000), dtype=bool)
    mask[1000, 500] = True
    square = np.asarray(fit_mask(mask, 64))
    assert np.argwhere(square).tolist() == [[32, 16]]


def test_empty_mask_stays_empty():
    assert not np.asarray(fit_mask(np.zeros((30, 20), dtype=bool), 10)).any()


@pytest.mark.parametrize(
    ("box", "width", "height", "expected"),
    [
        ((0, 0, 100, 50), 100, 50, [0, 0, 1, 0.5]),
        ((25, 10, 75, 20), 100, 50, [0.25, 0.1, 0.75, 0.2]),
        ((10, 40, 20, 80), 20, 80, [0.125, 0.5, 0.25, 1]),
        # 100 x 33 becomes 64 x 21 pixels (21.12 rounded): the box follows the pixels.
        ((0, 0, 100, 33), 100, 33, [0, 0, 1, 21 / 64]),
        ((-5, 0, 130, 50), 100, 50, [0, 0, 1, 0.5]),
    ],
)
def test_unit_box(box, width, height, expected):
    assert unit_box(box, width, height, 64) == pytest.approx(expected, abs=1e-6)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(8, 128))
def test_box_of_the_whole_picture_is_the_picture_in_the_square(width, height, side):
    lit = np.asarray(fit_image(Image.new("L", (width, height), 255), side))[..., 0] > 0
    box = unit_box((0, 0, width, height), width, height, side)
    assert lit.any(axis=0).sum() == pytest.approx(box[2] * side, abs=1e-4)
    assert lit.any(axis=1).sum() == pytest.approx(box[3] * side, abs=1e-4)


def test_crop_takes_margin_of_the_longer_side_from_the_full_resolution():
    pixels = np.zeros((100, 200), dtype=np.uint8)
    pixels[40:50, 80:100] = 255
    # The longer side is 20, so the margin is 5: columns 75 to 105, rows 35 to 55; 30 x 20 pixels in a square of 30.
    square = np.asarray(crop_with_margin(Image.fromarray(pixels), (80, 40, 100, 50), 0.25, 30))[..., 0]
    expected = np.zeros((30, 30), dtype=np.uint8)
    expected[5:15, 5:25] = 255
    assert (square == expected).all()


def test_crop_ends_at_the_border():
    pixels = np.full((40, 60), 9, dtype=np.uint8)
    pixels[30:40, 50:60] = 200
    # Margin 10: columns 40 to 60 and rows 20 to 40, no black padding from outside the picture.
    square = np.asarray(crop_with_margin(Image.fromarray(pixels), (50, 30, 60, 40), 1.0, 20))[..., 0]
    assert (square[10:, 10:] == 200).all()
    assert (square[:10] == 9).all()


def test_a_filled_box_holds_the_pixels_whose_centres_it_covers():
    # 0.1 to 2.4 pixels across, 0.6 to 2.8 down: the centres 0.5 and 1.5, and 1.5 and 2.5.
    expected = np.zeros((4, 4), bool)
    expected[1:3, 0:2] = True
    np.testing.assert_array_equal(filled_box((0.025, 0.15, 0.6, 0.7), 4), expected)
    # Smaller than a pixel, in a corner: one pixel.
    assert np.argwhere(filled_box((0.99, 0.99, 1.0, 1.0), 4)).tolist() == [[3, 3]]
    assert filled_box((0.0, 0.0, 1.0, 1.0), 4).all()
