"""The shards in other libraries: Hugging Face `datasets` and webdataset read both families without a setting."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import webdataset

from models.data.shards import ShardSet
from pipelines.records import CAPTIONS, REGIONS, SPLIT_IMAGES
from tests.pipelines.shards.conftest import Workspace

# In its own process: the library reads HF_HOME when it is imported, and must not reach for the network.
LOAD = """
import json, sys
from datasets import load_dataset
for tars in json.loads(sys.argv[1]):
    for streaming in (False, True):
        data = load_dataset("webdataset", data_files={"train": tars}, split="train", streaming=streaming)
        rows = []
        for row in data:
            image, target = row.get("image.jpg"), row.get("target.png")
            rows.append({**row, **({"image.jpg": image.size, "target.png": target.size} if image else {})})
        print(json.dumps(rows, default=bytes.hex))
"""


@pytest.fixture
def varied(workspace: Workspace) -> Workspace:
    """The first images of the first tar have neither view nor labels nor regions; later ones have."""
    rows = sorted(SPLIT_IMAGES.read(workspace.images), key=lambda row: row.image_id)
    bare = {row.image_id for row in rows[:6]}
    changes = {True: {"view": None, "labels": None}, False: {"view": "frontal"}}
    rows = [dataclasses.replace(row, split="train", **changes[row.image_id in bare]) for row in rows]
    SPLIT_IMAGES.write(workspace.images, rows)
    regions = [region for region in REGIONS.read(workspace.regions) if region.image_id not in bare]
    REGIONS.write(workspace.regions, regions)
    items = {row.image_id for row in rows} | {region.region_id for region in regions}
    CAPTIONS.write(workspace.captions, [row for row in CAPTIONS.read(workspace.captions) if row.item_id in items])
    workspace.config = dataclasses.replace(workspace.config, samples_per_shard=11)
    workspace.run_images()
    workspace.run_captions()
    return workspace


def tars(folder: Path) -> list[str]:
    return [str(path) for path in sorted((folder / "train").glob("*.tar"))]


def test_datasets_loads_both_families_whole_and_streaming(varied: Workspace, tmp_path: Path) -> None:
    samples = list(ShardSet(varied.image_shards, varied.caption_shards, "train").samples())
    assert len(samples) == 22
    assert not any(sample.meta.regions or sample.meta.view for sample in samples[:5])
    assert any(sample.meta.regions and sample.meta.view for sample in samples[5:11])
    folders = varied.image_shards, varied.caption_shards
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps([tars(folder) for folder in folders])],
        env=os.environ | {"HF_HOME": str(tmp_path / "hugging-face"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    whole_images, streamed_images, whole_texts, streamed_texts = map(json.loads, done.stdout.splitlines())
    for images, texts in ((whole_images, whole_texts), (streamed_images, streamed_texts)):
        for sample, image, text in zip(samples, images, texts, strict=True):
            assert image["__key__"] == text["__key__"] == sample.key
            assert image["image.jpg"] == image["target.png"] == [32, 32]
            assert image["crops.bin"] == sample.members["crops.bin"].hex()
            assert image["masks.bin"] == sample.members["masks.bin"].hex()
            assert image["meta.json.txt"].encode() == sample.members["meta.json.txt"]
            assert json.loads(text["captions.json.txt"])["report"] == sample.captions.report


def test_webdataset_decodes_both_families(varied: Workspace) -> None:
    samples = ShardSet(varied.image_shards, varied.caption_shards, "train").samples()
    images, captions = (
        webdataset.WebDataset(tars(folder), shardshuffle=False).decode("pil")
        for folder in (varied.image_shards, varied.caption_shards)
    )
    for sample, image, caption in zip(samples, images, captions, strict=True):
        assert image["__key__"] == caption["__key__"] == sample.key
        assert image["image.jpg"].size == image["target.png"].size == (32, 32)
        assert (image["crops.bin"], image["masks.bin"]) == (sample.members["crops.bin"], sample.members["masks.bin"])
        assert json.loads(image["meta.json.txt"])["image_id"] == sample.key
        assert json.loads(caption["captions.json.txt"])["report"] == sample.captions.report
