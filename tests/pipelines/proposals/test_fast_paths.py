"""The fast ways of `saliency` and `threshold` against the plain ones of scipy and scikit-image, bit by bit."""

import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes, gaussian_filter
from skimage.feature import peak_local_max
from skimage.measure import label

from models.geometry import Mask, box_of_mask
from pipelines.proposals.proposers import saliency
from pipelines.proposals.segmenters.threshold import _largest_part


def noise(seed: int, shape: tuple[int, int] = (60, 128), smooth: float = 1.5) -> np.ndarray:
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), smooth)


@pytest.mark.parametrize("distance", [1, 3, 10])
@pytest.mark.parametrize("decimals", [1, 6])
def test_peaks_are_those_of_scikit_image_also_where_pixels_are_equal(distance: int, decimals: int) -> None:
    contrast = np.round(noise(0), decimals)
    expected = peak_local_max(contrast, min_distance=distance, threshold_abs=0.03, exclude_border=False)
    assert saliency._peaks(contrast, distance) == [tuple(peak) for peak in expected.tolist()]


@pytest.mark.parametrize("seed", range(5))
def test_boxes_are_those_of_each_area_labelled_alone(seed: int) -> None:
    contrast = noise(seed)
    pixels = saliency._peaks(contrast, 3)
    feet = [float(contrast[pixel]) * 0.2 for pixel in pixels]
    areas = [label(contrast >= foot, connectivity=1) for foot in feet]
    expected = [box_of_mask(area == area[pixel]) for area, pixel in zip(areas, pixels, strict=True)]
    assert len(expected) > 20
    assert saliency._boxes(contrast, pixels, feet) == expected
    assert saliency._boxes(contrast, [], []) == []


@pytest.mark.parametrize("seed", range(5))
def test_largest_part_is_that_of_scikit_image_with_its_holes_filled(seed: int) -> None:
    mask: Mask = noise(seed) > -0.05
    components = label(mask, connectivity=2)
    largest = components == np.bincount(components.ravel())[1:].argmax() + 1
    expected = binary_fill_holes(largest)
    assert expected.sum() > largest.sum()
    assert np.array_equal(_largest_part(mask), expected)
    assert not _largest_part(np.zeros((3, 4), dtype=bool)).any()


def test_surroundings_that_touch_at_a_corner_are_one() -> None:
    """Black pixels on a diagonal from the border belong to the surroundings (8-connectivity)."""
    grey = np.full((32, 32), 100, dtype=np.uint8)
    grey[np.arange(16), np.arange(16)] = 0
    assert not saliency._field(grey)[15, 15]
