"""Volumes through the stage: slices along an axis, masks by their place, files opened once, and what is refused."""

import gzip
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from pipelines import opened
from pipelines.errors import Rejected
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.stage import run
from pipelines.masks import decode
from pipelines.raw_images import open_raw
from pipelines.records import ANNOTATIONS, IMAGES, REJECTED, SPLIT_IMAGES, ImageRow
from pipelines.sources import Sources
from tests.pipelines.formats.volume_files import affine, nifti, with_itk
from tests.pipelines.test_images import dicom

RANDOM = np.random.default_rng(3)
VALUES = RANDOM.integers(1, 1000, (20, 30, 6)).astype(np.int16)
HERE = np.diag([1.0, 1.0, 3.0, 1.0])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def write_rows(root: Path, *rows: dict[str, Any]) -> None:
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def ingest(root: Path, **options: Any) -> dict[str, Any]:
    source = SourceConfig(adapter="table", root=str(root), patient_ids="public", options={"modality": "ct", **options})
    config = IngestConfig(sources={"here": source}, max_pixels=1_000_000, max_failed_fraction=0.0)
    return run("here", config, root.parent / "out", root.parent)


def images(root: Path) -> list[ImageRow]:
    return sorted(IMAGES.read(root.parent / "out/images.parquet"), key=lambda row: (row.path, row.frame or 0))


def rejected(root: Path) -> dict[str, str]:
    return {row.row: row.reason for row in REJECTED.read(root.parent / "out/rejected.parquet")}


def regions(root: Path) -> dict[int | None, np.ndarray]:
    """Frame -> mask of its one region."""
    frames = {row.image_id: row for row in images(root)}
    return {
        frames[row.image_id].frame: decode(row.mask, frames[row.image_id].height, frames[row.image_id].width)
        for row in ANNOTATIONS.read(root.parent / "out/annotations.parquet")
    }


def zone(frames: tuple[int, ...], mask: str = "m.nii.gz", image: str = "v.nii.gz") -> list[dict[str, Any]]:
    return [{"file_name": image, "frame": n, "objects": [{"mask": mask, "label": "zone"}]} for n in frames]


def test_a_mask_of_another_place_goes_where_it_lies(root: Path) -> None:
    mask = np.zeros(VALUES.shape, np.uint8)
    mask[3:8, 4:10, 1] = 1
    there = HERE.copy()
    there[2, 3] = 6  # its slice 1 lies where the volume's slice 3 does
    nibabel.Nifti1Image(VALUES, HERE).to_filename(root / "v.nii.gz")
    nibabel.Nifti1Image(mask, there).to_filename(root / "m.nii.gz")
    write_rows(root, *zone((1, 3)))
    summary = ingest(root)
    assert (summary["ok"], rejected(root)) == (1, {"metadata.jsonl:1": "empty_region_mask"})
    ((frame, region),) = regions(root).items()
    assert frame == 3
    # Shown with the patient's right and the front first: columns 19 - 7 to 19 - 3, rows 29 - 9 to 29 - 4.
    assert np.argwhere(region).min(axis=0).tolist() == [20, 12]
    assert np.argwhere(region).max(axis=0).tolist() == [25, 16]
    assert region.sum() == 30


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii"])
def test_a_nifti_mask_fits_slices_of_other_formats(root: Path, suffix: str) -> None:
    where = affine((1.0, 1.0, 3.0), 0.1)
    mask = np.zeros((40, 60, 6), np.uint8)  # half the spacing in the plane, and stored the other way up
    mask[6:16, 8:20, 2] = 7
    fine = where @ np.diag([0.5, 0.5, -1.0, 1.0])
    fine[:3, 3] += where[:3, :3] @ (-0.25, -0.25, 5.0)
    (root / f"v{suffix}").write_bytes(with_itk(VALUES, where, suffix)[f"v{suffix}"])
    (root / "m.nii").write_bytes(nifti(mask, fine))
    write_rows(root, *zone((2, 3), "m.nii", f"v{suffix}"))
    assert ingest(root)["reasons"] == {"rejected": {"empty_region_mask": 1}}
    ((frame, region),) = regions(root).items()
    assert (frame, region.sum()) == (3, 5 * 6)
    assert np.argwhere(region).min(axis=0).tolist() == [20, 12]


def test_masks_that_have_no_place_are_refused(root: Path) -> None:
    mask = np.ones(VALUES.shape, np.uint8)
    beside = HERE.copy()
    beside[0, 3] = 500
    (root / "v.nii").write_bytes(nifti(VALUES, HERE))
    (root / "beside.nii").write_bytes(nifti(mask, beside))
    (root / "m.nii").write_bytes(nifti(mask, HERE))
    Image.fromarray(RANDOM.integers(0, 255, (30, 20)).astype(np.uint8)).save(root / "a.png")
    (root / "b.dcm").write_bytes(dicom(RANDOM.integers(0, 999, (30, 20)).astype(np.uint16)))
    Image.fromarray(np.full((30, 20), 255, np.uint8)).save(root / "m.png")
    write_rows(
        root,
        *zone((2,), "beside.nii", "v.nii"),
        {"file_name": "a.png", "mask": "m.nii"},
        {"file_name": "b.dcm", "mask": "m.nii"},
        {"file_name": "v.nii", "frame": 3, "mask": "m.png"},  # a picture's pixels are those of the slice
    )
    assert ingest(root)["ok"] == 1
    assert rejected(root) == {
        "metadata.jsonl:1": "mask_no_overlap",
        "metadata.jsonl:2": "mask_unplaced",
        "metadata.jsonl:3": "mask_unplaced",
    }


def test_slices_along_another_axis_and_their_boxes(root: Path) -> None:
    """Spacings of 1, 1 and 3 mm: a coronal slice has 20 columns and 6 x 3 rows, and its boxes are in these pixels."""
    mask = np.zeros(VALUES.shape, np.uint8)
    mask[2:5, 12, 1:3] = 1
    (root / "v.nii").write_bytes(nifti(VALUES, HERE))
    (root / "m.nii").write_bytes(nifti(mask, HERE))
    objects = [{"bbox": [10, 9, 6, 5], "label": "box"}, {"mask": "m.nii", "label": "zone"}]
    write_rows(
        root,
        {"file_name": "v.nii", "frame": 12, "objects": objects},
        {"file_name": "v.nii", "frame": 12, "axis": "Axial"} | {"frame": 5},
        {"file_name": "v.nii", "frame": 12, "axis": "sagittal"},
        {"file_name": "v.nii", "frame": 12, "axis": "oblique"},
        {"file_name": "v.nii", "frame": 20, "axis": "sagittal"},
    )
    summary = ingest(root, axis="coronal")
    assert summary["ok"] == 3
    assert rejected(root) == {"metadata.jsonl:4": "unknown_axis", "metadata.jsonl:5": "missing_frame"}
    by_axis = {row.axis: row for row in images(root)}
    data = (root / "v.nii").read_bytes()
    assert {axis: (row.frame, row.width, row.height) for axis, row in by_axis.items()} == {
        None: (5, 20, 30),
        "coronal": (12, 20, 18),
        "sagittal": (12, 30, 18),
    }
    assert by_axis[None].image_id == hashlib.sha256(data + b"\0\0005").hexdigest()[:16]
    rows = ANNOTATIONS.read(root.parent / "out/annotations.parquet")
    box, region = (row for row in rows if row.image_id == by_axis["coronal"].image_id)
    assert box.box == (10, 9, 16, 14)
    # i = 2 to 4 of 20, seen from the front: columns 15 to 17; k = 1 and 2 from below, 3 pixels each: rows 9 to 14.
    pixels = np.argwhere(decode(region.mask, 18, 20))
    assert (pixels.min(axis=0).tolist(), pixels.max(axis=0).tolist()) == ([9, 15], [14, 17])
    for row in by_axis.values():  # the later stages see the same pixels
        assert later(root, row).size == (row.width, row.height)


def later(root: Path, row: ImageRow) -> Image.Image:
    columns = {name: getattr(row, name) for name in ImageRow.__dataclass_fields__ if name not in ("split", "thumbnail")}
    split = SPLIT_IMAGES.row(**columns, group="g", split="train", leak=False)
    return open_raw(Sources(roots={"here": root}, max_pixels=1_000_000), split)


def test_volumes_of_a_time_series(root: Path) -> None:
    series = RANDOM.integers(1, 1000, (20, 30, 4, 3)).astype(np.int16)
    (root / "v.nii").write_bytes(nifti(series, HERE))
    write_rows(root, {"file_name": "v.nii", "volume": 2}, {"file_name": "v.nii"})
    assert ingest(root, frames="all")["ok"] == 4
    assert rejected(root) == {"metadata.jsonl:2": "missing_volume"}
    assert {(row.frame, row.volume) for row in images(root)} == {(frame, 2) for frame in range(4)}
    assert ingest(root, frames="all", volume=0)["ok"] == 8
    assert {row.volume for row in images(root)} == {0, 2}


def test_truncated_volumes_leave_the_whole_one(root: Path) -> None:
    whole = nifti(VALUES, HERE)
    files = {
        "whole.nii": whole,
        "half.nii": whole[: len(whole) // 2],
        "header.nii": whole[:200],
        "empty.nii": b"",
        "second_kind.nii": struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n" + bytes(92),
        "half.nii.gz": gzip.compress(whole)[: len(whole) // 3],
        "half.nrrd": with_itk(VALUES, HERE, ".nrrd", compressed=True)["v.nrrd"][:-500],
        "half.mha": with_itk(VALUES, HERE, ".mha")["v.mha"][:-500],
    }
    for name, data in files.items():
        (root / name).write_bytes(data)
    write_rows(root, *({"file_name": name, "frame": 2} for name in files))
    assert ingest(root)["ok"] == 1
    assert [row.path for row in images(root)] == ["whole.nii"]
    reasons = rejected(root)
    assert reasons.pop("metadata.jsonl:4") == "empty_file"
    assert set(reasons.values()) <= {"truncated", "corrupt"}
    assert len(reasons) == 6


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_empty_slices_are_left_out_and_counted(root: Path, suffix: str) -> None:
    rows = []
    for number in range(3):
        values = np.zeros((24, 24, 8), np.int16)
        values[4:20, 4:20, 2:6] = RANDOM.integers(0, 1000, (16, 16, 4))
        (root / f"v{number}{suffix}").write_bytes(with_itk(values, HERE, suffix)[f"v{suffix}"])
        rows.append({"file_name": f"v{number}{suffix}", "patient_id": f"P{number}"})
    write_rows(root, *rows)
    summary = ingest(root, frames="all")
    assert (summary["inputs"], summary["ok"]) == (24, 12)
    assert summary["reasons"] == {"rejected": {"blank_image": 12}}
    assert (len({row.patient for row in images(root)}), summary["patients_joined"]) == (3, 0)


def test_a_file_is_opened_once_whatever_the_order_of_its_slices(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of two volumes and of their masks alternate."""
    for name in ("v", "w"):
        values = RANDOM.integers(1, 1000, VALUES.shape).astype(np.int16)
        (root / f"{name}.nii").write_bytes(nifti(values, HERE))
        (root / f"{name}_mask.nii").write_bytes(nifti(np.ones(VALUES.shape, np.uint8), HERE))
    write_rows(
        root, *(zone((frame,), f"{name}_mask.nii", f"{name}.nii")[0] for frame in range(6) for name in ("v", "w"))
    )
    reads = []
    read = opened.read_bytes
    monkeypatch.setattr(opened, "read_bytes", lambda *place: reads.append(place[1]) or read(*place))
    assert ingest(root)["ok"] == 12
    assert sorted(reads) == ["v.nii", "v_mask.nii", "w.nii", "w_mask.nii"]
    for row in images(root):
        later(root, row)
    assert len(reads) <= 6  # what is still in memory is not read again


def test_a_changed_file_is_read_again(root: Path) -> None:
    (root / "v.nii").write_bytes(nifti(VALUES, HERE))
    write_rows(root, {"file_name": "v.nii"})
    ingest(root, frames="all")
    rows = images(root)
    assert later(root, rows[0]).size == (20, 30)
    changed = VALUES.copy()
    changed[0, 0, 0] += 1
    (root / "new").write_bytes(nifti(changed, HERE))
    (root / "new").rename(root / "v.nii")
    for row in rows:
        with pytest.raises(Rejected, match="changed_since_ingest"):
            later(root, row)


def test_the_voxels_of_a_pair_are_no_unlisted_image(root: Path) -> None:
    for name, data in with_itk(VALUES, HERE, ".img").items():
        (root / name).write_bytes(data)
    for name, data in with_itk(VALUES, HERE, ".mhd").items():
        (root / name).write_bytes(data)
    (root / "other.nrrd").write_bytes(with_itk(VALUES, HERE, ".nrrd")["v.nrrd"])
    write_rows(root, {"file_name": "v.hdr"}, {"file_name": "v.mhd"})
    summary = ingest(root)
    assert (summary["ok"], summary["duplicates"]) == (1, 1)
    assert summary["files"] == {"listed": 5, "unlisted": 1, "unlisted_suffixes": {".nrrd": 1}}
