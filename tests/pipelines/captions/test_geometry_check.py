"""Contradictions worked out by hand, on an image of 90 x 90 pixels with thirds of 30."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions.answer import ImageAnswer, RegionAnswer
from pipelines.captions.config import Sizes
from pipelines.captions.evidence import image_item, region_items
from pipelines.captions.geometry import Geometry, measure
from pipelines.captions.geometry_check import allowed_terms, region_contradiction, summary_contradiction
from pipelines.captions.protocols import ImageItem, RegionItem
from tests.pipelines.captions.world import CONFIG, FINDINGS, SIDE, image_row, region_row

LIMITS = CONFIG.sizes


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def items(masks: list[np.ndarray], **image: Any) -> tuple[ImageItem, list[RegionItem]]:
    """An image, by default a frontal radiograph with labels, and a region that the source annotated for each mask."""
    row = image_row(**({"labels": ("nodule",)} | image))
    rows = [region_row(row.image_id, n, mask, label="nodule") for n, mask in enumerate(masks)]
    regions = region_items(row, rows, CONFIG)
    item = image_item(row, regions, CONFIG, sees_pixels=True)
    assert item is not None
    return item, regions


def region(mask: np.ndarray, **image: Any) -> RegionItem:
    return items([mask], **image)[1][0]


def answer_with(position: str, size: str | None = None) -> RegionAnswer:
    negatives = [f"{word}|nodule|{position}" for word in ("a", "b", "c", "d", "e")]
    return RegionAnswer(region_extraction=f"round|nodule|{position}", negative_variations=negatives, size=size)


def test_thirds_and_halves_of_a_mask_and_of_its_box() -> None:
    mask = region_row("0" * 16, 0, rectangle(15, 27, 75, 57))
    for row in (mask, dataclasses.replace(mask, mask=None)):
        geometry = measure(row, SIDE, SIDE, False, LIMITS)
        assert geometry.horizontal_thirds == pytest.approx((0.25, 0.5, 0.25))
        assert geometry.vertical_thirds == pytest.approx((0.1, 0.9, 0.0))
        assert (geometry.left_half, geometry.upper_half) == pytest.approx((0.5, 0.6))


def test_thirds_and_halves_on_the_patients_side_are_swapped() -> None:
    row = region_row("0" * 16, 0, rectangle(0, 0, 40, 10))
    assert measure(row, SIDE, SIDE, False, LIMITS).horizontal_thirds == pytest.approx((0.75, 0.25, 0.0))
    geometry = measure(row, SIDE, SIDE, True, LIMITS)
    assert geometry.horizontal_thirds == pytest.approx((0.0, 0.25, 0.75))
    assert (geometry.left_half, geometry.upper_half) == pytest.approx((0.0, 1.0))


@pytest.mark.parametrize(
    ("position", "of_image", "of_patient"),
    [
        ("left upper", None, "contradicts_side"),
        ("center upper", "contradicts_side", "contradicts_side"),
        ("right upper", "contradicts_side", None),
        ("left middle", "contradicts_level", "contradicts_side"),
        ("left lower", "contradicts_level", "contradicts_side"),
        ("right lower", "contradicts_side", "contradicts_level"),
    ],
)
def test_region_in_one_field_contradicts_every_other_position(
    position: str, of_image: str | None, of_patient: str | None
) -> None:
    mask = rectangle(2, 2, 12, 12)
    assert region_contradiction(region(mask, modality="ct"), answer_with(position), LIMITS) == of_image
    assert region_contradiction(region(mask, view="lateral"), answer_with(position), LIMITS) == of_image
    assert region_contradiction(region(mask), answer_with(position), LIMITS) == of_patient


@pytest.mark.parametrize(
    ("x0", "x1", "sides"),
    [
        (0, 30, ("left",)),
        (0, 40, ("left", "center")),  # 10 of 40
        (1, 40, ("left", "center")),  # 10 of 39
        (0, 39, ("left",)),  # 9 of 39
        (15, 75, ("left", "center", "right")),  # 15, 30, 15 of 60
        (16, 75, ("center", "right")),  # 14, 30, 15 of 59
        (0, 90, ("left", "center", "right")),
    ],
)
def test_a_third_with_a_quarter_of_the_pixels_may_be_named(x0: int, x1: int, sides: tuple[str, ...]) -> None:
    assert allowed_terms(region(rectangle(x0, 40, x1, 50), modality="ct").geometry, LIMITS).sides == sides


def test_the_third_of_the_centre_may_be_named_though_it_is_empty() -> None:
    mask = rectangle(0, 40, 20, 50) | rectangle(70, 40, 90, 50)
    assert allowed_terms(region(mask, modality="ct").geometry, LIMITS).sides == ("left", "center", "right")


@pytest.mark.parametrize(
    ("fraction", "sizes"),
    [
        (0.0, ("small",)),
        (0.0079, ("small",)),
        (0.008, ("small", "medium")),
        (0.0124, ("small", "medium")),
        (0.0125, ("medium",)),
        (0.0399, ("medium",)),
        (0.04, ("medium", "large")),
        (0.0624, ("medium", "large")),
        (0.0625, ("large",)),
        (1.0, ("large",)),
    ],
)
def test_sizes_near_a_limit_may_be_called_either(fraction: float, sizes: tuple[str, ...]) -> None:
    geometry = Geometry(
        position="center middle",
        size="small",
        shape="round",
        area_fraction=fraction,
        horizontal_thirds=(0, 1, 0),
        vertical_thirds=(0, 1, 0),
        left_half=0.5,
        upper_half=0.5,
    )
    assert allowed_terms(geometry, Sizes(medium=0.01, large=0.05)).sizes == sizes


def test_wrong_size_contradicts_only_where_it_is_claimed() -> None:
    small = region(rectangle(40, 40, 45, 45))  # 25 of 8,100 pixels
    assert region_contradiction(small, answer_with("center middle", "large"), LIMITS) == "contradicts_size"
    assert region_contradiction(small, answer_with("center middle", "small"), LIMITS) is None
    assert region_contradiction(small, answer_with("center middle"), LIMITS) is None


def test_no_finding_contradicts_nothing() -> None:
    answer = RegionAnswer(region_extraction="No Finding", negative_variations=[])
    assert region_contradiction(region(rectangle(0, 0, 9, 9)), answer, LIMITS) is None


@pytest.mark.parametrize(
    ("summary", "of_patient", "of_image"),
    [
        ("Chest radiograph shows a round nodule in the left lung field of the patient.", "contradicts_side", None),
        ("Chest radiograph shows a round nodule in the right lung of the patient here.", None, None),
        ("Chest radiograph shows a round nodule on the left side of this chest image.", "contradicts_side", None),
        ("Chest radiograph shows a round nodule on the right side of this chest image.", None, "contradicts_side"),
        ("A round nodule in the right lower part of the image is seen here.", "contradicts_level", "contradicts_side"),
        ("A round nodule in the lower right corner is seen in this image.", "contradicts_level", "contradicts_side"),
        ("A round nodule in the lower zone of the chest can be seen here.", "contradicts_level", "contradicts_level"),
        ("A round nodule in the right lower lobe of the lung can be seen.", None, None),
        ("Nodules on the left side and on the right side of the chest are seen.", None, None),
        ("There is no nodule on the left side of the chest of this patient.", None, None),
        ("A round left-sided nodule without any other finding can be seen in here.", None, None),
        ("A round nodule can be seen in this frontal radiograph of the chest here.", None, None),
    ],
)  # fmt: skip
def test_summaries_of_a_region_in_the_upper_left_of_the_image(
    summary: str, of_patient: str | None, of_image: str | None
) -> None:
    answer = ImageAnswer(summary_caption=summary, detailed_report="x")
    mask = rectangle(2, 2, 22, 22)  # the patient's right
    assert summary_contradiction(items([mask])[0], answer) == of_patient
    assert summary_contradiction(items([mask], modality="ct")[0], answer) == of_image


def test_summary_is_checked_against_all_regions_and_only_where_there_is_no_report() -> None:
    summary = "A round nodule on the left side of the chest can be seen here."
    answer = ImageAnswer(summary_caption=summary, detailed_report="x")
    here, there = rectangle(2, 2, 22, 22), rectangle(68, 2, 88, 22)
    assert summary_contradiction(items([here])[0], answer) == "contradicts_side"
    assert summary_contradiction(items([here, there])[0], answer) is None
    assert summary_contradiction(items([here], report="Nodule, left.")[0], answer) is None
    assert summary_contradiction(items([here], split="test")[0], answer) is None
    assert summary_contradiction(items([])[0], answer) is None
    nothing = ImageAnswer(summary_caption=None, detailed_report="x")
    assert summary_contradiction(items([here])[0], nothing) is None


@given(
    pixels=st.lists(st.tuples(st.integers(0, SIDE - 1), st.integers(0, SIDE - 1)), min_size=1, max_size=8),
    modality=st.sampled_from(["radiograph", "endoscopy"]),
    labels=st.sampled_from([("nodule",), None]),
)
def test_findings_never_contradicts_the_geometry(
    pixels: list[tuple[int, int]], modality: str, labels: tuple[str, ...] | None
) -> None:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    for x, y in pixels:
        mask[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5] = True
    item, (region,) = items([mask], modality=modality, labels=labels)
    summary, caption = FINDINGS.describe([item, region])
    assert isinstance(summary, ImageAnswer)
    assert isinstance(caption, RegionAnswer)
    assert summary_contradiction(item, summary) is None
    claimed = caption.model_copy(update={"size": region.geometry.size})
    assert region_contradiction(region, claimed, LIMITS) is None
