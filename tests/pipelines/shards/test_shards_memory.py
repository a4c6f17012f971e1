"""What the stage holds of an image while it writes tars is some numbers, not its rows and regions."""

import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipelines.shards.stored_images import ShardImage, StoredImages
from tests.pipelines.shards.conftest import region_row, split_image_row


def test_of_an_image_and_its_regions_some_numbers_are_held(tmp_path: Path) -> None:
    mask = np.ones((40, 60), dtype=bool)
    stored = StoredImages(tmp_path)

    def add(count: int) -> None:
        for number in range(len(stored), len(stored) + count):
            image_id = f"{number:016x}"
            row = split_image_row(image_id, "grey", f"{number}.png", 60, 40, ("train", "test")[number % 2])
            regions = tuple(region_row(image_id, "grey", n, "input", mask) for n in range(9))
            stored.add(ShardImage(row, regions))

    add(10)
    tracemalloc.start()
    try:
        add(500)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 500 * 400  # bytes, the buffer of the file among them; with rows and regions some 20,000 an image
    assert stored[7].row.image_id == f"{7:016x}"
    images = Counter(tar.split for tar in stored.tars(64) for _ in tar.images)
    assert images == {"train": 255, "test": 255}
    assert list(tmp_path.iterdir()) == []


def test_slices_are_made_file_by_file_and_pictures_of_files_of_their_own_are_none(tmp_path: Path) -> None:
    stored = StoredImages(tmp_path)
    for number, (path, frame) in enumerate(
        [("b.nii", 0), ("a.png", None), ("a.nii", 3), ("b.nii", 1), ("c.nii", 0), ("a.nii", 1)]
    ):
        row = split_image_row(f"{number:016x}", "grey", path, 60, 40, "train")
        stored.add(ShardImage(replace(row, frame=frame), ()))
    assert stored.slices() == [2, 5, 0, 3]
