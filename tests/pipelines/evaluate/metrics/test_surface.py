"""HD95 and NSD by hand and by a slow reference, Dice and IoU beside MONAI's, and what is small, medium and large."""

import math

import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from monai.metrics.meaniou import compute_iou
from monai.metrics.surface_dice import compute_surface_dice
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from models.geometry import Mask
from pipelines.evaluate.metrics.lesion_sizes import by_size, thirds
from pipelines.evaluate.metrics.segmentation import confusion_counts, dice, iou
from pipelines.evaluate.metrics.surface import check_tolerance, surface_agreement


def points(*places: tuple[int, int]) -> Mask:
    mask = np.zeros((9, 12), bool)
    for row, column in places:
        mask[row, column] = True
    return mask


def blobs(seed: int) -> tuple[Mask, Mask]:
    """Two masks of rectangles, some at the image's edge."""
    random = np.random.default_rng(seed)
    masks = np.zeros((2, 24, 31), bool)
    for mask in masks:
        for _ in range(3):
            row, column = random.integers(0, 20, 2)
            mask[row : row + random.integers(1, 9), column : column + random.integers(1, 9)] = True
    return masks[0], masks[1]


def outline(mask: Mask) -> np.ndarray:
    return np.argwhere(mask & ~binary_erosion(mask))


@pytest.mark.parametrize("seed", range(6))
def test_by_all_distances_between_the_outlines(seed: int) -> None:
    predicted, target = blobs(seed)
    distances = cdist(outline(predicted), outline(target))
    there, back = distances.min(axis=1), distances.min(axis=0)
    for tolerance in (0.0, 1.0, 2.5):
        distance, within = surface_agreement(predicted, target, tolerance)
        assert distance == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-6)
        assert within == pytest.approx(np.mean(np.concatenate([there, back]) <= tolerance), rel=1e-6)


def test_by_hand() -> None:
    # Three columns apart; then a triangle of 3, 4 and 5.
    assert surface_agreement(points((2, 2)), points((2, 5)), 2.0) == (3.0, 0.0)
    assert surface_agreement(points((2, 2)), points((2, 5)), 3.0) == (3.0, 1.0)
    assert surface_agreement(points((1, 1)), points((4, 5)), 4.9) == (5.0, 0.0)
    # One of three outline pixels has nothing within a pixel.
    distance, within = surface_agreement(points((2, 2)), points((2, 2), (2, 7)), 1.0)
    assert distance == pytest.approx(0.95 * 5)
    assert within == pytest.approx(2 / 3)


def test_empty_masks() -> None:
    none, some = points(), points((8, 11))
    assert surface_agreement(none, none, 2.0) == (0.0, 1.0)
    assert surface_agreement(some, none, 2.0) == surface_agreement(none, some, 2.0) == (math.hypot(9, 12), 0.0)
    # Nothing that is predicted is worse than no prediction.
    assert surface_agreement(some, points((0, 0)), 2.0)[0] < math.hypot(9, 12)


def test_the_order_of_the_masks_and_flips_of_both_change_nothing() -> None:
    predicted, target = blobs(1)
    expected = surface_agreement(predicted, target, 1.0)
    assert surface_agreement(target, predicted, 1.0) == expected
    for axis in (0, 1):
        assert surface_agreement(np.flip(predicted, axis), np.flip(target, axis), 1.0) == pytest.approx(expected)


@pytest.mark.parametrize("tolerance", [-1.0, math.inf, math.nan])
def test_a_tolerance_is_a_number_of_pixels(tolerance: float) -> None:
    with pytest.raises(ValueError, match="give a number of pixels, 0 or more"):
        check_tolerance(tolerance)


@pytest.mark.parametrize("seed", range(3))
def test_all_are_those_of_monai(seed: int) -> None:
    predicted, target = blobs(seed)
    counts = np.array(confusion_counts(predicted, target))
    given = [torch.from_numpy(mask)[None, None].float() for mask in (predicted, target)]
    assert dice(counts) == pytest.approx(compute_dice(*given).item(), rel=1e-6)
    assert iou(counts) == pytest.approx(compute_iou(*given).item(), rel=1e-6)
    distance, within = surface_agreement(predicted, target, 1.5)
    hausdorff = compute_hausdorff_distance(*given, include_background=True, percentile=95)
    assert distance == pytest.approx(hausdorff.item(), rel=1e-6)
    surface_dice = compute_surface_dice(*given, class_thresholds=[1.5], include_background=True)
    assert within == pytest.approx(surface_dice.item(), rel=1e-6)


def test_thirds_of_outlines_and_limits_that_are_given() -> None:
    areas = [0.5, 0.1, 0.2, 0.4, 0.3, 0.6]
    assert {size: sorted(np.array(areas)[places]) for size, places in by_size(areas, thirds(areas)).items()} == {
        "small": [0.1, 0.2],
        "medium": [0.3, 0.4],
        "large": [0.5, 0.6],
    }
    # Equal areas are of one size, an area at a limit is of the smaller one, and a size may have none.
    assert {size: list(places) for size, places in by_size([0.2, 0.2, 0.2, 0.7], (0.2, 0.6)).items()} == {
        "small": [0, 1, 2],
        "large": [3],
    }
    assert thirds([0.2, 0.2, 0.2, 0.7]) == (0.2, 0.2)
