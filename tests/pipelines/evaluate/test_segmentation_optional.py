"""Outlines, sizes and images without a finding in the task `segmentation`, which only options ask for."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.metrics.surface import surface_agreement
from pipelines.evaluate.tasks.segmentation import Segmentation
from pipelines.promotion.paired import value_of
from pipelines.records import ITEMS
from tests.pipelines.evaluate.small_world import SIDE, image, task_result
from tests.pipelines.evaluate.test_segmentation import TOKENIZER, Reader

LEFT, RIGHT, SMALL = (0, 0, 8, 8), (8, 0, 16, 8), (8, 8, 12, 12)
ALL = {"surface": True, "tolerance": 1.0, "by_size": True, "specificity": True}


def world() -> list[dict[str, Any]]:
    """What is white is predicted on the side that the text names: the first lacks a half, and the last everything."""
    return [
        image(0, target=[LEFT, RIGHT], report="Spot left."),
        image(1, target=[RIGHT], report="Spot right."),
        image(2, target=[SMALL], report="Spot right."),
        image(3, target=[], report="Spot left."),
        image(4, source="two", target=[], report="Spot right."),
        image(5, source="two", target=[LEFT], report="Spot right."),
    ]


def score(folder: Path, **options: Any) -> dict[str, Any]:
    return task_result(folder, world(), "segmentation", options, Reader(), TOKENIZER)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("scored")
    return score(folder, **ALL), folder / "out"


def test_by_hand(scored: tuple[dict[str, Any], Path]) -> None:
    metrics = scored[0]["metrics"]
    masks = {box: np.zeros((SIDE, SIDE), bool) for box in (LEFT, RIGHT)}
    for (x0, y0, x1, y1), mask in masks.items():
        mask[y0:y1, x0:x1] = True
    half = surface_agreement(masks[LEFT], masks[LEFT] | masks[RIGHT], 1.0)
    # The first lacks a half, the last is empty, and the four others are right.
    diagonal = math.hypot(SIDE, SIDE)
    assert metrics["own/hd95_per_image"]["value"] == pytest.approx((half[0] + diagonal) / 6, abs=1e-5)
    assert metrics["own/nsd_per_image"]["value"] == pytest.approx((half[1] + 4 + 0) / 6, abs=1e-5)
    # No pixel is right of two images; every pixel is a diagonal off there.
    assert metrics["own/nsd_per_image"]["chance"] == pytest.approx(2 / 6, abs=1e-6)
    # Targets fill 1/16, 1/4 twice and 1/2 of their images: thirds end at 1/4.
    assert scored[0]["details"]["items"]["small"] == 3
    assert scored[0]["details"]["items"]["large"] == 1
    assert metrics["small/dice_per_image"]["value"] == pytest.approx((1 + 1 + 0) / 3, abs=1e-6)
    assert metrics["large/dice_per_image"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert metrics["large/dice_per_image"]["chance"] == pytest.approx(2 / 3, abs=1e-6)
    assert metrics["no_finding/specificity"]["value"] == metrics["no_finding/pixel_specificity"]["value"] == 1
    assert scored[0]["details"]["items"]["no_finding"] == 2
    # Every pixel is the better constant prediction by Dice: (0.4 * 2 + 2 / 3 + 2 / 17) / 6 against 2 / 6 of no pixel.
    assert metrics["no_finding/specificity"]["chance"] == float(2 / 6 > (0.8 + 2 / 3 + 2 / 17) / 6)


def test_sources_by_themselves_have_the_same_limits(scored: tuple[dict[str, Any], Path]) -> None:
    metrics = scored[0]["by_source"]["two"]["metrics"]
    assert metrics["own/hd95_per_image"]["value"] == pytest.approx(math.hypot(SIDE, SIDE) / 2, abs=1e-5)
    assert metrics["small/dice_per_image"]["value"] == 0
    assert "large/dice_per_image" not in metrics


def test_they_add_to_the_scores_and_change_none(scored: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    plain = score(tmp_path)
    added = scored[0]["metrics"].keys() - plain["metrics"].keys()
    assert added == {
        *("own/hd95_per_image", "own/nsd_per_image", "small/dice_per_image", "large/dice_per_image"),
        *("no_finding/specificity", "no_finding/pixel_specificity"),
    }
    assert {name: scored[0]["metrics"][name] for name in plain["metrics"]} == plain["metrics"]
    assert scored[0]["notes"][: len(plain["notes"])] == plain["notes"]
    rows = list(ITEMS.rows(scored[1] / "items.parquet"))
    values = {name: value_of(rows, name) for name in added}
    assert values == pytest.approx({name: scored[0]["metrics"][name]["value"] for name in added}, abs=1e-5)
    assert {entry["metric"] for entry in scored[0]["definitions"]} >= {
        name.partition("own/")[2] or name for name in added
    }


def test_a_mistaken_tolerance_is_one_line() -> None:
    with pytest.raises(UserError, match=r"tolerance is -2\.0; give a number of pixels, 0 or more"):
        parse(Segmentation.Config, {"tolerance": -2.0}, "here")
