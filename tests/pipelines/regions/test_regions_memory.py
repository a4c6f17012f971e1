"""The stage's memory is that of the candidates' columns and not of rows: it hardly grows with the number of images."""

import dataclasses
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import tables
from pipelines.records import PROPOSALS, SPLIT_IMAGES, ProposalRow, SplitImageRow
from pipelines.regions import scoring
from pipelines.regions.stage import run
from tests.pipelines.regions.small_world import CONFIG, World, image_id, square

BOXES = [(4 + 12 * n, 4, 14 + 12 * n, 14) for n in range(5)]


def write_study(folder: Path, count: int) -> World:
    """So many images with a report and five masked proposals each; 60 of them are annotated, whatever the number."""
    world = World(folder)
    world.image("train", report="Nothing. " * 100)
    image, mask = world.images[0], square(4, 4, 14, 14)
    proposals = [world.propose(image_id(0), *box, mask=mask, score=0.2 + n / 10) for n, box in enumerate(BOXES)]

    def images() -> Iterator[SplitImageRow]:
        for n in range(count):
            yield dataclasses.replace(image, image_id=image_id(n), group=str(n), split="train" if n % 2 else "test")

    def rows() -> Iterator[ProposalRow]:
        for n in range(count):
            for proposal in proposals:
                truth_iou = (0.9 if proposal.n == n % 5 else 0.1) if n < 60 else None
                yield dataclasses.replace(proposal, image_id=image_id(n), truth_iou=truth_iou)

    SPLIT_IMAGES.write(world.split_file, images())
    PROPOSALS.write(world.proposals_file, rows())
    return world


def peak_bytes(folder: Path, count: int) -> int:
    world = write_study(folder, count)
    tracemalloc.start()
    try:
        summary = run(CONFIG, world.split_file, world.proposals_file, world.regions_file, world.summaries)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # On the annotated training images proposals are fitted on and get no row.
    assert summary["inputs"] == 5 * (count - 30)
    assert summary["self_training"][0]["models"]["radiograph"]["images"] == 30
    return peak


def test_memory_of_four_times_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Few rows at a time, so that the smaller study has more.
    monkeypatch.setattr(tables, "BATCH_ROWS", 256)
    monkeypatch.setattr(scoring, "_BLOCK", 256)
    # The first run also pays for what is kept for good, such as compiled patterns.
    peak_bytes(tmp_path / "warm", 70)
    few, many = peak_bytes(tmp_path / "few", 300), peak_bytes(tmp_path / "many", 1_200)
    assert many - few < 900 * 2_000  # five proposals an image; as rows they take 8 KB
