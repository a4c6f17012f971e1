"""Measures of heatmaps: by hand, against loops, and under scale, shift and reordering."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluate.metrics import localisation
from pipelines.evaluate.metrics.localisation import (
    CNR_BOUND,
    RATIO_HEATMAPS,
    centre_heatmap,
    random_heatmaps,
    scaled,
    upsample,
)
from tests.pipelines.evaluate.metrics.slow_localisation import slow_cnr, slow_pointing, slow_resize


def cnr(heatmaps: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return localisation.cnr(scaled(heatmaps), inside)


def pointing_game(heatmaps: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return localisation.pointing_game(scaled(heatmaps), inside)


# The middle four of 4 x 4 pixels.
MIDDLE = np.zeros((4, 4), bool)
MIDDLE[1:3, 1:3] = True
# 4, 4, 2, 2 inside; outside ten times 0 and twice 6.
MAP = np.array([[0, 0, 0, 0], [0, 4, 4, 0], [0, 2, 2, 0], [6, 0, 0, 6]], float)


def test_cnr_by_hand() -> None:
    # Inside: mean 3, variance 1. Outside: mean 1, variance (10 * 1 + 2 * 25) / 12 = 5. 2 / sqrt(6).
    assert cnr(MAP.ravel(), MIDDLE.ravel()) == pytest.approx(2 / np.sqrt(6))


def test_an_anti_correlated_heatmap_has_a_negative_ratio_of_the_same_size() -> None:
    assert cnr(-MAP.ravel(), MIDDLE.ravel()) == pytest.approx(-2 / np.sqrt(6))


def test_pointing_by_hand_and_with_ties() -> None:
    assert pointing_game(MAP.ravel(), MIDDLE.ravel()) == 0
    assert pointing_game(-MAP.ravel(), MIDDLE.ravel()) == 0
    # Two of three highest pixels inside.
    tied = np.where(MAP == 4, 9, MAP)
    tied[0, 0] = 9
    assert pointing_game(tied.ravel(), MIDDLE.ravel()) == pytest.approx(2 / 3)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e8])
def test_a_constant_heatmap_scores_chance(value: float) -> None:
    constant = np.full(16, value)
    # Not quite: float32 rounds.
    noisy = constant + np.linspace(-1, 1, 16) * 1e-8 * abs(value)
    for values in (constant, noisy):
        assert cnr(values, MIDDLE.ravel()) == 0
        assert pointing_game(values, MIDDLE.ravel()) == MIDDLE.mean()


def test_a_heatmap_equal_to_its_mask_has_a_finite_ratio() -> None:
    # No variance at all: the least sum of variances is 0.0025.
    assert cnr(MIDDLE.ravel().astype(float), MIDDLE.ravel()) == pytest.approx(20) == pytest.approx(CNR_BOUND)
    # Nearly so: outside 0, inside 0.99 and 1, which has a variance of 0.0075 ** 2 and would have a ratio of 230.
    nearly = np.where(MIDDLE, 1.0, 0.0)
    nearly[1, 1:3] = 0.985
    assert cnr(nearly.ravel(), MIDDLE.ravel()) == pytest.approx(0.9925 / 0.05)


def test_the_bound_leaves_heatmaps_of_patches_as_they_are() -> None:
    random = np.random.default_rng(0)
    for heatmap in upsample(random.normal(size=(20, 4, 4)), 16, slice(0, 16)).reshape(20, -1):
        inside = random.permutation(np.arange(256) < 30)
        levels = scaled(heatmap)
        unbounded = levels[inside].mean() - levels[~inside].mean()
        unbounded /= np.sqrt(levels[inside].var() + levels[~inside].var())
        assert cnr(heatmap, inside) == pytest.approx(unbounded, rel=1e-9)


def test_overlap_by_hand() -> None:
    # 0 to 6 as 0 to 1: from 2/6 on six pixels, of which four are inside; from 4/6 four, of which two; from 1 two, none.
    found = localisation.overlap(scaled(MAP.ravel()), MIDDLE.ravel(), np.array([0.3, 0.6, 1.0]))
    np.testing.assert_allclose(found, [4 / 6, 2 / 6, 0])
    # A constant one marks nothing, its own mask marks itself.
    assert (localisation.overlap(scaled(np.full(16, 3.0)), MIDDLE.ravel(), np.array([0.1, 0.9])) == 0).all()
    assert (localisation.overlap(scaled(MIDDLE.ravel() * 2.0), MIDDLE.ravel(), np.array([0.1, 0.9])) == 1).all()


def test_which_of_all_that_is_drawn_is_highest_by_hand_and_with_ties() -> None:
    drawn = np.zeros((3, 6), bool)
    drawn[0, :2] = drawn[1, 2:4] = drawn[2, 4:] = True
    first, second = np.array([True, False, False]), np.array([False, True, True])

    def chosen(values: list[float], meant: np.ndarray) -> float:
        return float(localisation.highest_on(scaled(np.array(values)), drawn, meant))

    assert (chosen([0, 9, 8, 8, 1, 1], first), chosen([0, 9, 8, 8, 1, 1], second)) == (1, 0)
    # Two share the greatest height; one of three is meant, then two of three.
    assert (chosen([0, 9, 9, 8, 1, 1], first), chosen([0, 9, 9, 8, 1, 1], second)) == (0.5, 0.5)
    assert (chosen([5, 5, 5, 5, 5, 5], first), chosen([5, 5, 5, 5, 5, 5], second)) == pytest.approx((1 / 3, 2 / 3))


@given(st.integers(0, 2**32 - 1))
def test_cnr_and_pointing_equal_the_loops_and_ignore_scale_and_shift(seed: int) -> None:
    random = np.random.default_rng(seed)
    # Whole numbers: the highest is often tied.
    values = random.integers(-3, 4, (2, 20)).astype(float)
    inside = random.permutation(np.arange(20) < random.integers(1, 20))
    functions: tuple[tuple[Callable, Callable], ...] = ((cnr, slow_cnr), (pointing_game, slow_pointing))
    for function, slow in functions:
        expected = [slow(row.tolist(), inside.tolist()) for row in values]
        np.testing.assert_allclose(function(values, inside), expected, atol=1e-12)
        np.testing.assert_allclose(function(values * 0.03 + 5, inside), expected, atol=1e-9)
        order = random.permutation(20)
        np.testing.assert_allclose(function(values[:, order], inside[order]), expected, atol=1e-12)


@pytest.mark.parametrize(("shape", "side"), [((4, 4), 16), ((3, 5), 10), ((1, 1), 4)])
def test_heatmaps_are_upsampled_bilinearly(shape: tuple[int, int], side: int) -> None:
    grid = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_allclose(upsample(grid[None], side, slice(0, side))[0], slow_resize(grid, side), atol=1e-12)


def test_pixels_outside_the_visible_crop_are_nan() -> None:
    grid = np.arange(4.0).reshape(1, 2, 2)
    (pixels,) = upsample(grid, 6, slice(1, 5))
    np.testing.assert_allclose(pixels[1:5, 1:5], slow_resize(grid[0], 4))
    outside = np.ones((6, 6), bool)
    outside[1:5, 1:5] = False
    assert (np.isnan(pixels) == outside).all()


def test_the_centre_heatmap_is_highest_in_the_centre_of_the_image() -> None:
    heatmap = centre_heatmap(8, 4, 8)
    assert {(int(row), int(column)) for row, column in np.argwhere(heatmap == heatmap.max())} == {
        (row, column) for row in (1, 2) for column in (3, 4)
    }
    np.testing.assert_allclose(heatmap[:4], heatmap[:4][::-1, ::-1])


def test_the_chance_of_the_absolute_ratio_is_that_of_many_random_heatmaps() -> None:
    random = np.random.default_rng(7)
    many = upsample(random.normal(size=(2000, 4, 4)), 16, slice(0, 16)).reshape(2000, -1)
    few = random_heatmaps((4, 4), 16, 0, 16)[:RATIO_HEATMAPS].reshape(RATIO_HEATMAPS, -1)
    masks = [np.zeros((16, 16), bool) for _ in range(30)]
    for mask in masks:
        y, x = random.integers(0, 12, 2)
        mask[y : y + 4, x : x + 4] = True
    expected, estimated = (np.mean([np.abs(cnr(maps, mask.ravel())).mean() for mask in masks]) for maps in (many, few))
    assert estimated == pytest.approx(expected, rel=0.15)
    # Over many heatmaps the signed ratio is 0.
    assert np.mean([cnr(many, mask.ravel()).mean() for mask in masks]) == pytest.approx(0, abs=0.02)
