"""Image shards with several workers: the bytes of one process, and an image that ends its worker fails alone."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.verified import sha256_file
from pipelines.files import read_json
from pipelines.records import SPLIT_IMAGES
from pipelines.shards import images
from pipelines.shards.images import Members, SampleMaker, ShardImage
from pipelines.sources import Sources
from pipelines.workers.config import WorkersConfig
from tests.pipelines.formats.volume_files import affine, nifti
from tests.pipelines.shards.conftest import CONFIG, Workspace, split_image_row
from tests.rows import by_image, with_digests
from tests.workers import few_are_worth_a_worker


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few images are worth a worker, and a batch holds five."""
    few_are_worth_a_worker(monkeypatch, images, 5)


@pytest.fixture
def with_volumes(workspace: Workspace) -> Workspace:
    """The pictures, and twelve slices of two volumes that stand between them."""
    random, rows = np.random.default_rng(1), []
    for name in "ab":
        values = random.integers(1, 1000, (20, 16, 6)).astype(np.int16)
        (workspace.roots["grey"] / f"{name}.nii").write_bytes(nifti(values, affine()))
        for frame in range(6):
            image_id = hashlib.sha256(f"{name}{frame}".encode()).hexdigest()[:16]
            row = split_image_row(image_id, "grey", f"{name}.nii", 20, 16, "train")
            rows.append(dataclasses.replace(row, frame=frame))
    found = [*SPLIT_IMAGES.read(workspace.images), *with_digests(rows, workspace.roots)]
    SPLIT_IMAGES.write(workspace.images, by_image(found))
    return workspace


def shards(workspace: Workspace, processes: int, output: Path) -> dict:
    sources = Sources(roots=workspace.roots, max_pixels=10_000)
    return images.run(
        CONFIG,
        sources,
        workspace.images,
        workspace.regions,
        output,
        workspace.root / "summaries",
        WorkersConfig(processes=processes),
    )


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(with_volumes: Workspace, tmp_path: Path) -> None:
    digests = {}
    for processes in (1, 3):
        output = tmp_path / f"shards-{processes}"
        assert shards(with_volumes, processes, output)["ok"] == 34
        digests[processes] = {
            file.relative_to(output).as_posix(): sha256_file(file) for file in output.rglob("*") if file.is_file()
        }
    assert len(digests[1]) == 22 + 2  # tars; manifest, digests
    assert digests[1] == digests[3]


class Mortal(SampleMaker):
    """Ends its process at one picture and one slice."""

    def __call__(self, images: Sequence[ShardImage]) -> list[Members | str]:
        if any(image.row.path == "07.png" or image.row.frame == 3 for image in images):
            os._exit(9)
        return super().__call__(images)


@pytest.mark.slow
def test_an_image_that_ends_its_worker_fails_alone(
    with_volumes: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards(with_volumes, 1, tmp_path / "whole")
    monkeypatch.setattr(images, "SampleMaker", Mortal)
    summary = shards(with_volumes, 2, tmp_path / "left")
    assert (summary["inputs"], summary["ok"], summary["reasons"]) == (34, 31, {"failed": {"worker_died": 3}})
    manifest = read_json(tmp_path / "left" / "manifest.json")
    assert (manifest["left_out"], manifest["splits"]["train"]["samples"]) == (3, 21)
    for split in ("validation", "test"):
        assert manifest["splits"][split] == read_json(tmp_path / "whole" / "manifest.json")["splits"][split]
