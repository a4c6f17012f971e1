"""Two evaluations by all tasks, whose kept rows several test files read."""

from pathlib import Path

import pytest

from pipelines.records import ITEMS, ItemRow
from tests.pipelines.evaluate.kept_world import IMAGES, run


@pytest.fixture(scope="session")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of two methods; the second one has no control."""
    second = run(tmp_path_factory.mktemp("second"), 2, IMAGES, scores_only=True, image_blind=False)
    return run(tmp_path_factory.mktemp("first"), 1, IMAGES), second


@pytest.fixture(scope="session")
def rows(evaluations: tuple[Path, Path]) -> list[ItemRow]:
    return ITEMS.read(evaluations[0] / "items.parquet")
