"""The stage's memory hardly grows with the number of images: rows and work items wait on the disk."""

import dataclasses
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import tables
from pipelines.proposals.stage import run
from pipelines.records import ANNOTATIONS, SPLIT_IMAGES, AnnotationRow, SplitImageRow
from pipelines.sources import MAX_PIXELS, Sources
from tests.pipelines.proposals.proposals_world import CONFIG, FIRST, SECOND, World, image_id, square


def peak_bytes(folder: Path, count: int) -> int:
    """Of a run on so many images that show one file and have a report and two annotated masks each."""
    world = World(folder)
    world.image("test", report="Nothing. " * 200)
    (image,) = world.images
    for corners in (FIRST, SECOND):
        world.mask(image_id(0), square(*corners), phrase="Something round. " * 50)

    def images() -> Iterator[SplitImageRow]:
        return (dataclasses.replace(image, image_id=image_id(n)) for n in range(count))

    def annotations() -> Iterator[AnnotationRow]:
        return (dataclasses.replace(row, image_id=image_id(n)) for n in range(count) for row in world.annotations)

    SPLIT_IMAGES.write(world.split / "images.parquet", images())
    ANNOTATIONS.write(world.split / "annotations.parquet", annotations())
    config = dataclasses.replace(CONFIG, proposers=[])
    sources = Sources(roots={"toy": world.root}, max_pixels=MAX_PIXELS)
    tracemalloc.start()
    try:
        summary = run(config, sources, world.split, world.output, world.cache, world.summaries)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert summary["ok"] == count
    assert summary["proposals"] == {"toy": {"annotations": {"proposed": 2 * count, "masks": 2 * count, "reasons": {}}}}
    return peak


def test_memory_of_four_times_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Few rows at a time, so that the smaller study has more.
    monkeypatch.setattr(tables, "BATCH_ROWS", 64)
    # The first run also pays for what is kept for good, such as compiled patterns.
    peak_bytes(tmp_path / "warm", 5)
    few, many = peak_bytes(tmp_path / "few", 100), peak_bytes(tmp_path / "many", 400)
    assert many - few < 300 * 2_000  # as rows they take 7 KB an image
