"""Position, size and shape by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.draw import ellipse
from skimage.measure import regionprops

from models.geometry import POSITIONS
from pipelines.captions.config import Sizes
from pipelines.captions.geometry import measure, position, shape_of_box
from pipelines.captions.mask_shape import convex_area, summed
from pipelines.masks import column_runs, encode
from pipelines.records import RegionRow
from tests.pipelines.captions.world import region_row

SIZES = Sizes(medium=0.01, large=0.05)


@pytest.mark.parametrize(
    ("x", "y", "of_image", "of_patient"),
    [
        (0.10, 0.10, "left upper", "right upper"),
        (0.50, 0.10, "center upper", "center upper"),
        (0.90, 0.10, "right upper", "left upper"),
        (0.10, 0.50, "left middle", "right middle"),
        (0.50, 0.50, "center middle", "center middle"),
        (0.90, 0.50, "right middle", "left middle"),
        (0.10, 0.90, "left lower", "right lower"),
        (0.50, 0.90, "center lower", "center lower"),
        (0.90, 0.90, "right lower", "left lower"),
        (0.00, 1.00, "left lower", "right lower"),
        (0.33, 0.34, "left middle", "right middle"),
    ],
)
def test_point_gets_its_field_of_the_grid(x: float, y: float, of_image: str, of_patient: str) -> None:
    assert position(x, y, patient_side=False) == of_image
    assert position(x, y, patient_side=True) == of_patient


def test_vocabulary_has_nine_positions() -> None:
    assert len(set(POSITIONS)) == 9


@given(st.floats(0, 1), st.floats(0, 1))
def test_mirror_swaps_left_and_right_alone(x: float, y: float) -> None:
    swap = {"left": "right", "right": "left", "center": "center"}
    side, level = position(x, y, patient_side=False).split()
    assert position(x, y, patient_side=True) == f"{swap[side]} {level}"


def box_row(area_fraction: float, x0: float = 0.0, y0: float = 0.0, x1: float = 1.0, y1: float = 1.0) -> RegionRow:
    """A region without a mask."""
    return region_row(x0=x0, y0=y0, x1=x1, y1=y1, area_fraction=area_fraction)


def test_position_of_a_mask_is_its_centroid_not_its_box() -> None:
    mask = np.zeros((90, 90), dtype=bool)
    mask[0:10, 0:90] = True  # the bar alone: center upper
    mask[10:90, 80:90] = True  # with the column the centroid moves right of 60 and below 30
    x = (np.arange(90).sum() * 10 + np.arange(80, 90).sum() * 80) / 1700 + 0.5
    y = (np.arange(10).sum() * 90 + np.arange(10, 90).sum() * 10) / 1700 + 0.5
    assert (x > 60, y < 30) == (True, True)
    assert measure(region_row("0" * 16, 0, mask), 90, 90, False, SIZES).position == "right upper"
    assert measure(region_row("0" * 16, 0, mask), 90, 90, True, SIZES).position == "left upper"


def test_region_without_mask_is_measured_by_its_box() -> None:
    geometry = measure(box_row(0.05, x0=60.0, y0=60.0, x1=90.0, y1=75.0), 90, 90, False, SIZES)
    assert (geometry.position, geometry.size, geometry.shape) == ("right lower", "large", "elongated")


@pytest.mark.parametrize(("fraction", "size"), [(0.0, "small"), (0.0099, "small"), (0.01, "medium"), (0.05, "large")])
def test_area_fraction_gives_the_size(fraction: float, size: str) -> None:
    assert measure(box_row(fraction), 10, 10, False, SIZES).size == size


def ellipse_mask(radius_y: float, radius_x: float) -> np.ndarray:
    mask = np.zeros((120, 120), dtype=bool)
    mask[ellipse(60, 60, radius_y, radius_x)] = True
    return mask


def shape_of_mask(mask: np.ndarray) -> str:
    height, width = mask.shape
    return measure(region_row("0" * 16, 0, mask), width, height, False, SIZES).shape


@pytest.mark.parametrize("radius", [6, 10, 40])
def test_ellipse_is_round_oval_or_elongated_by_its_axes(radius: float) -> None:
    assert shape_of_mask(ellipse_mask(radius, radius)) == "round"
    assert shape_of_mask(ellipse_mask(radius, radius * 0.65)) == "oval"
    assert shape_of_mask(ellipse_mask(radius * 0.3, radius)) == "elongated"


def test_shapes_that_are_not_convex_or_tiny() -> None:
    crescent = ellipse_mask(40, 40)
    crescent[ellipse(60, 80, 38, 38)] = False
    assert shape_of_mask(crescent) == "irregular"
    lobes = np.zeros((120, 120), dtype=bool)
    for y, x in ((26, 60), (77, 31), (77, 89)):
        lobes[ellipse(y, x, 27, 27)] = True
    assert shape_of_mask(lobes) == "lobulated"
    dot = np.zeros((9, 9), dtype=bool)
    dot[3:6, 3:6] = True
    assert shape_of_mask(dot) == "punctate"


def test_shape_of_a_box() -> None:
    assert [shape_of_box(*sides) for sides in ((10, 20), (20, 10), (10, 19))] == ["elongated", "elongated", "localized"]


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=24)).filter(np.any))
def test_sums_over_runs_are_those_of_the_pixels(mask: np.ndarray) -> None:
    """Beside skimage, whose figures they take the place of, and NumPy's sums of the pixels themselves."""
    height, width = mask.shape
    runs = column_runs(encode(mask), height, width)
    sums = summed(runs, height, width)
    rows, columns = np.nonzero(mask)
    assert sums.area == len(rows)
    assert (sums.x, sums.y) == pytest.approx((columns.mean() + 0.5, rows.mean() + 0.5), abs=1e-12)
    assert sums.columns == tuple(np.bincount(6 * (2 * columns + 1) // (2 * width), minlength=6))
    assert sums.rows == tuple(np.bincount(6 * (2 * rows + 1) // (2 * height), minlength=6))
    (properties,) = regionprops(mask.astype(np.uint8))
    assert convex_area(runs) == properties.area_convex
    if sums.area > 1:
        # The root of an eigenvalue that is 0 but for rounding is its largest error.
        expected = properties.axis_minor_length / properties.axis_major_length
        assert sums.axis_ratio == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 200), (200, 1), (2, 90), (300, 200)])
def test_a_full_image_is_in_all_parts_alike(height: int, width: int) -> None:
    geometry = measure(region_row("0" * 16, 0, np.ones((height, width), dtype=bool)), width, height, False, SIZES)
    assert geometry.position == "center middle"
    assert geometry.left_half == pytest.approx(0.5 if width > 1 else 0)
    assert geometry.shape == ("oval" if height == 300 else "elongated")
