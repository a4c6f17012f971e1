"""Shards of volumes: each file is opened once, although the tars are in the order of a hash; outcomes stay the same."""

import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest

from models.data import format as shard_format
from pipelines import opened
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.stage import run as ingest
from pipelines.raw_images import open_raw
from pipelines.records import IMAGES, REGIONS, SPLIT_IMAGES, ImageRow, SplitImageRow
from pipelines.shards import images
from pipelines.shards.config import ShardsConfig
from pipelines.shards.images import image_members
from pipelines.sources import Sources
from tests.pipelines.formats.volume_files import affine, nifti

CONFIG = ShardsConfig(
    image_size=32, crop_size=16, crop_margin=0.25, samples_per_shard=4, quality=90, max_failed_fraction=0.5
)


@pytest.fixture
def rows(tmp_path: Path) -> list[SplitImageRow]:
    """Coronal slices of three volumes, six each, in one split."""
    root, random = tmp_path / "raw", np.random.default_rng(0)
    root.mkdir()
    for name in "abc":
        values = random.integers(1, 1000, (20, 6, 9)).astype(np.int16)
        (root / f"{name}.nii").write_bytes(nifti(values, affine((1, 1, 2))))
    (root / "metadata.csv").write_text("file_name\na.nii\nb.nii\nc.nii\n")
    options = {"modality": "mri", "frames": "all", "axis": "coronal"}
    source = SourceConfig(adapter="table", root=str(root), patient_ids="public", options=options)
    config = IngestConfig(sources={"here": source}, max_pixels=10_000, max_failed_fraction=0.0)
    assert ingest("here", config, tmp_path / "ingest", tmp_path)["ok"] == 18
    names = [name for name in ImageRow.__dataclass_fields__ if name not in ("split", "thumbnail")]
    found = [
        SPLIT_IMAGES.row(**{name: getattr(row, name) for name in names}, group="g", split="train", leak=False)
        for row in IMAGES.read(tmp_path / "ingest/images.parquet")
    ]
    SPLIT_IMAGES.write(tmp_path / "images.parquet", found)
    REGIONS.write(tmp_path / "regions.parquet", [])
    return found


def shards(tmp_path: Path) -> dict:
    sources = Sources(roots={"here": tmp_path / "raw"}, max_pixels=10_000)
    tables = (tmp_path / "images.parquet", tmp_path / "regions.parquet")
    return images.run(CONFIG, sources, *tables, tmp_path / "shards", tmp_path)


def test_each_volume_is_opened_once(rows: list[SplitImageRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = [row.path for row in sorted(rows, key=lambda row: row.image_id)]
    assert sum(one != other for one, other in itertools.pairwise(by_name)) > 4  # the volumes alternate
    reads: list[str] = []
    read = opened.read_bytes
    monkeypatch.setattr(opened, "read_bytes", lambda *place: reads.append(place[1]) or read(*place))
    monkeypatch.setattr(opened, "_LAST", opened._LastFiles())
    monkeypatch.setattr(opened, "_KEPT_FILES", 1)
    assert shards(tmp_path)["ok"] == 18
    assert sorted(reads) == ["a.nii", "b.nii", "c.nii"]
    sources = Sources(roots={"here": tmp_path / "raw"}, max_pixels=10_000)
    stored: dict[str, bytes] = {}
    for tar in sorted((tmp_path / "shards/train").glob("*.tar")):
        with tarfile.open(tar) as archive:
            stored |= {member.name: archive.extractfile(member).read() for member in archive}
    assert len(stored) == 18 * len(shard_format.EXTENSIONS["images"])
    for row in rows:
        for extension, data in image_members(row, [], [], open_raw(sources, row), CONFIG).items():
            assert stored[f"{row.image_id}.{extension}"] == data


def test_slices_of_a_volume_that_changed_fail_alone(rows: list[SplitImageRow], tmp_path: Path) -> None:
    data = bytearray((tmp_path / "raw/b.nii").read_bytes())
    data[-1] ^= 1
    (tmp_path / "raw/new").write_bytes(data)
    (tmp_path / "raw/new").rename(tmp_path / "raw/b.nii")
    summary = shards(tmp_path)
    assert (summary["ok"], summary["reasons"]) == (12, {"failed": {"changed_since_ingest": 6}})
    assert list((tmp_path / "shards").glob("tmp*")) == []
