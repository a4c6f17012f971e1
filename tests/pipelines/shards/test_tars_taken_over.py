"""A run takes over the tars of the run before where nothing that decides them changed, and writes the others."""

import dataclasses
import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.verified import sha256_file
from pipelines.files import read_json
from pipelines.records import CAPTIONS, REGIONS, SPLIT_IMAGES
from pipelines.shards.stored_images import ranges
from tests.pipelines.shards.conftest import Workspace
from tests.rows import by_image

FIRST = 2**60  # an id whose first hexadecimal digit is 1


@pytest.fixture
def built(workspace: Workspace) -> Workspace:
    """Both families, written by the code that later runs have too."""
    workspace.code = "of the first run"
    workspace.run_images()
    workspace.run_captions()
    return workspace


def tars_of(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(folder.rglob("*.tar"))}


def all_digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(folder.rglob("*.*"))}


def as_if_new(workspace: Workspace) -> dict[str, str]:
    """What a run gives that takes nothing over."""
    run = dataclasses.replace(workspace, code=None)
    run.run_images(workspace.root / "new")
    return all_digests(workspace.root / "new")


@pytest.mark.parametrize(
    ("ids", "at_most", "expected"),
    [
        ([], 4, []),
        ([3, 2**64 - 1], 2, [(0, 0, 2)]),
        ([3, 2**64 - 1], 1, [(0, 0, 1), (1, 1, 2)]),
        # First digits 1, 1, 5 and 15: halves have three and one, quarters two, one, none and one.
        ([FIRST, FIRST + 1, 5 * FIRST, 15 * FIRST], 3, [(0, 0, 3), (1, 3, 4)]),
        ([FIRST, FIRST + 1, 5 * FIRST, 15 * FIRST], 2, [(0, 0, 2), (1, 2, 3), (3, 3, 4)]),
        # Neighbours are parted by the last of the 64 bits alone.
        ([6, 7], 1, [(6, 0, 1), (7, 1, 2)]),
    ],
)
def test_ranges(ids: list[int], at_most: int, expected: list[tuple[int, int, int]]) -> None:
    assert list(ranges(np.array(ids, dtype=np.uint64), at_most)) == expected


def test_evenly_spread_ids_fill_tars_at_least_half(tmp_path: Path) -> None:
    ids = np.sort(np.random.default_rng(3).integers(0, 2**64, 100_000, dtype=np.uint64))
    sizes = [end - start for _, start, end in ranges(ids, 256)]
    assert (sum(sizes), len(sizes)) == (100_000, 512)
    assert max(sizes) <= 256


def test_a_second_run_takes_over_all(built: Workspace) -> None:
    before = {path: path.stat().st_ino for path in built.root.rglob("*.tar")}
    assert len(set(before.values())) == len(before) / 2  # each has two names
    digests = all_digests(built.image_shards), all_digests(built.caption_shards)
    tars = len(tars_of(built.image_shards))
    assert built.run_images()["tars"] == {"written": 0, "taken_over": tars}
    assert built.run_captions()["tars"] == {"written": 0, "taken_over": tars}
    assert {path: path.stat().st_ino for path in built.root.rglob("*.tar")} == before
    assert (all_digests(built.image_shards), all_digests(built.caption_shards)) == digests
    assert digests[0] == as_if_new(built)


def test_an_image_that_goes_comes_or_changes_touches_its_own_tar(built: Workspace) -> None:
    rows, regions = SPLIT_IMAGES.read(built.images), REGIONS.read(built.regions)
    whole = all_digests(built.image_shards)
    # One of the three of its tar: without one of the first quarter's five, quarters would be small enough.
    left = next(row for row in rows if row.split == "train" and row.image_id[0] in "45")
    SPLIT_IMAGES.write(built.images, [row for row in rows if row != left])
    REGIONS.write(built.regions, by_image(row for row in regions if row.image_id != left.image_id))
    tars = len(tars_of(built.image_shards))
    assert built.run_images()["tars"] == {"written": 1, "taken_over": tars - 1}
    assert all_digests(built.image_shards) == as_if_new(built) != whole
    SPLIT_IMAGES.write(built.images, rows)
    REGIONS.write(built.regions, regions)
    # The tar with this image is gone.
    assert built.run_images()["tars"] == {"written": 1, "taken_over": tars - 1}
    assert all_digests(built.image_shards) == whole
    changed = [dataclasses.replace(row, labels=("mass",)) if row == left else row for row in rows]
    SPLIT_IMAGES.write(built.images, changed)
    assert built.run_images()["tars"] == {"written": 1, "taken_over": tars - 1}
    assert all_digests(built.image_shards) == as_if_new(built)


def test_a_changed_region_touches_its_tar_and_a_rejected_one_none(built: Workspace) -> None:
    found = REGIONS.read(built.regions)
    rows = [dataclasses.replace(row, proposer="threshold") if row.status == "rejected" else row for row in found]
    REGIONS.write(built.regions, rows)
    built.run_images()
    for status, written in (("accepted", 1), ("rejected", 0)):
        one = next(row for row in rows if row.status == status and row.role == "input")
        one_less = dataclasses.replace(one, proposer="threshold", x1=one.x1 - 1)
        REGIONS.write(built.regions, by_image(one_less if row == one else row for row in rows))
        assert built.run_images()["tars"]["written"] == written
        assert all_digests(built.image_shards) == as_if_new(built)
        REGIONS.write(built.regions, rows)
        built.run_images()
    # Where one labelled image changes, the joint score gives every region another probability, which no sample shows.
    REGIONS.write(built.regions, [dataclasses.replace(row, probability=0.125, round=3, certified=True) for row in rows])
    assert built.run_images()["tars"]["written"] == 0
    assert all_digests(built.image_shards) == as_if_new(built)


@pytest.mark.parametrize("setting", ["quality", "crop_margin", "image_size"])
def test_a_changed_setting_touches_all(built: Workspace, setting: str) -> None:
    value = {"quality": 80, "crop_margin": 0.5, "image_size": 48}[setting]
    built.config = dataclasses.replace(built.config, **{setting: value})
    assert built.run_images()["tars"]["taken_over"] == 0
    assert all_digests(built.image_shards) == as_if_new(built)


def test_other_code_takes_over_nothing(built: Workspace) -> None:
    built.code = "edited"
    assert built.run_images()["tars"]["taken_over"] == 0
    assert built.run_captions()["tars"]["taken_over"] == 0


@pytest.mark.parametrize("what", ["a folder", "a link to nothing"])
def test_what_cannot_be_read_where_a_tar_was_kept_is_written_anew_and_told(
    built: Workspace, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = all_digests(built.image_shards)
    kept = min((built.root / "tars/images").iterdir())
    kept.unlink()
    if what == "a folder":
        (kept / "more").mkdir(parents=True)
    else:
        kept.symlink_to("nothing")
    tars = len(tars_of(built.image_shards))
    assert built.run_images()["tars"] == {"written": 1, "taken_over": tars - 1}
    assert all_digests(built.image_shards) == whole
    # A folder in the way of a kept tar stays, and that tar is written in every run.
    assert kept.is_dir() == (what == "a folder")
    assert built.run_images()["tars"]["written"] == (what == "a folder")
    assert caplog.messages == []


def test_shards_are_whole_where_nothing_can_be_kept(built: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    whole = all_digests(built.image_shards)
    shutil.rmtree(built.root / "tars/images")
    (built.root / "tars/images").write_text("in the way")
    built.run_images()
    assert all_digests(built.image_shards) == whole
    (message,) = caplog.messages
    assert message.endswith("tars/images cannot be kept for the next run (File exists)")


def test_a_tar_that_was_damaged_or_deleted_is_written_anew(built: Workspace) -> None:
    whole = all_digests(built.image_shards)
    # As DVC does before the stage runs.
    shutil.rmtree(built.image_shards)
    damaged, deleted = sorted((built.root / "tars/images").iterdir())[:2]
    data = bytearray(damaged.read_bytes())
    data[700] ^= 1
    damaged.write_bytes(data)
    deleted.unlink()
    assert built.run_images()["tars"]["written"] == 2
    assert all_digests(built.image_shards) == whole


def test_links_are_those_of_the_last_run_and_none_where_there_can_be_none(
    built: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    tars = len(tars_of(built.image_shards))
    built.config = dataclasses.replace(built.config, quality=80)
    built.run_images()
    assert {sha256_file(path) for path in (built.root / "tars/images").iterdir()} == set(
        tars_of(built.image_shards).values()
    )

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    # As a file system without hard links answers.
    monkeypatch.setattr(os, "link", no_links)
    assert built.run_images()["tars"] == {"written": 0, "taken_over": tars}
    assert list((built.root / "tars/images").iterdir()) == []
    assert built.run_images()["tars"] == {"written": tars, "taken_over": 0}


def test_a_tar_that_lacks_an_image_is_tried_again(built: Workspace) -> None:
    whole = all_digests(built.image_shards)
    row = SPLIT_IMAGES.read(built.images)[0]
    file = built.roots[row.source] / row.path
    there = file.read_bytes()
    file.unlink()
    built.code = "another"
    assert built.run_images()["failed"] == 1
    tars = len(tars_of(built.image_shards))
    file.write_bytes(there)
    assert built.run_images()["tars"] == {"written": 1, "taken_over": tars - 1}
    assert all_digests(built.image_shards) == whole


def test_one_changed_caption_touches_one_tar_of_texts(built: Workspace) -> None:
    rows = CAPTIONS.read(built.captions)
    CAPTIONS.write(built.captions, [dataclasses.replace(rows[0], report="Other words."), *rows[1:]])
    before = tars_of(built.caption_shards)
    assert built.run_captions()["tars"] == {"written": 1, "taken_over": len(before) - 1}
    after = tars_of(built.caption_shards)
    assert sum(after[name] != before[name] for name in before) == 1
    manifest = read_json(built.caption_shards / "manifest.json")
    stored = {tar["file"]: tar["sha256"] for split in manifest["splits"].values() for tar in split["shards"]}
    assert stored == after
