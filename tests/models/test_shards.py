"""Reading the two shard families."""

import dataclasses
import json
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from models.data.format import ShardError, read_manifest, write_manifest
from models.data.shards import ShardSet
from models.verified import seal
from tests.shards import (
    SmallSample,
    image_captions,
    image_meta,
    jpeg,
    png,
    region_caption,
    region_meta,
    write_shards,
)


def shard_set(folder: Path, split: str = "train") -> ShardSet:
    return ShardSet(folder / "images", folder / "captions", split)


def test_samples_join_both_families(shards: Path) -> None:
    samples = list(shard_set(shards).samples())
    assert [sample.key for sample in samples] == [f"{number:016x}" for number in range(40)]
    assert all(sample.captions.image_id == sample.key == sample.meta.image_id for sample in samples)
    assert samples[0].image.shape == (16, 16, 3)
    assert samples[0].crop(0).shape == (8, 8, 3)
    assert samples[0].mask(0) is None


def test_an_epoch_is_a_permutation_and_depends_on_seed_and_epoch(shards: Path) -> None:
    def order(seed: int, epoch: int, buffer: int) -> list[int]:
        return list(shard_set(shards).order(seed, epoch, buffer))

    first = order(0, 0, 10)
    assert sorted(first) == list(range(40))
    assert first == order(0, 0, 10)
    assert first != order(0, 1, 10)
    assert first != order(1, 0, 10)
    # A buffer of one shard and a bit: whole shards come first.
    assert len({number // 8 for number in first[:4]}) <= 2


def test_any_sample_can_be_read_alone(shards: Path) -> None:
    split = shard_set(shards)
    whole = list(split.samples())
    for number in (39, 0, 8, 7):
        alone = shard_set(shards).sample(number)
        assert alone == whole[number]
    for sample in whole:
        assert tuple(sample.members) == ("crops.bin", "image.jpg", "masks.bin", "meta.json.txt", "target.png")
    texts = split.sample(9, with_image=False)
    assert texts == dataclasses.replace(whole[9], members={})
    targets = [sample.meta.has_target for sample in split.samples(with_image=False)]
    assert targets == [number % 6 != 5 for number in range(40)]


def test_crops_masks_and_target_are_those_of_their_region(tmp_path: Path) -> None:
    grey = [np.full((8, 8), level, np.uint8) for level in (10, 90, 200)]
    halves = [np.zeros((16, 16), np.uint8) for _ in range(2)]
    halves[0][:, :8] = halves[1][:, 8:] = 255
    regions = [region_meta(f"{0:016x}-{n}") for n in range(3)]
    captions = image_captions(
        f"{0:016x}", [region_caption(region.region_id, "round", "spot", "left upper") for region in regions]
    )
    pixels = jpeg(np.full((16, 16, 3), 50, np.uint8))
    crops, masks = [jpeg(level) for level in grey], [png(halves[0]), None, png(halves[1])]
    outlined = SmallSample(image_meta(f"{0:016x}", regions), captions, pixels, crops, masks, png(halves[1]))
    bare = SmallSample(image_meta(f"{1:016x}"), image_captions(f"{1:016x}"), pixels)
    write_shards(tmp_path, [outlined, bare], "train", per_shard=8)
    first, second = shard_set(tmp_path).samples()
    assert [first.crop(n)[0, 0].tolist() for n in range(3)] == [[level] * 3 for level in (10, 90, 200)]
    assert (first.mask(0) == (halves[0] > 0)).all()
    assert first.mask(1) is None
    assert (first.mask(2) == (halves[1] > 0)).all()
    assert first.meta.has_target
    assert (first.target == (halves[1] > 0)).all()
    assert not second.meta.has_target
    assert second.target.shape == (16, 16)
    assert not second.target.any()


def test_look_alikes_are_masks_of_the_image_and_of_no_region(tmp_path: Path) -> None:
    left, right, low = (np.zeros((16, 16), np.uint8) for _ in range(3))
    left[:, :8] = right[:, 8:] = low[8:] = 255
    key = f"{0:016x}"
    regions = [region_meta(f"{key}-{n}") for n in range(2)]
    captions = image_captions(key, [region_caption(one.region_id, "round", "spot", "left upper") for one in regions])
    pixels, crop = jpeg(np.full((16, 16, 3), 50, np.uint8)), jpeg(np.full((8, 8), 10, np.uint8))
    both = SmallSample(
        image_meta(key, regions), captions, pixels, [crop] * 2, [png(left), None], None, [png(right), png(low)]
    )
    none = SmallSample(image_meta(f"{1:016x}"), image_captions(f"{1:016x}"), pixels)
    write_shards(tmp_path, [both, none], "train", per_shard=8)
    first, second = shard_set(tmp_path).samples()
    assert [(mask > 0).tolist() for mask in first.look_alikes()] == [(right > 0).tolist(), (low > 0).tolist()]
    assert (first.mask(0) == (left > 0)).all()
    assert first.mask(1) is None
    assert second.look_alikes() == []


def test_the_bytes_are_those_that_webdataset_reads(shards: Path) -> None:
    urls = [str(file) for file in sorted((shards / "images" / "train").glob("*.tar"))]
    expected = list(webdataset.WebDataset(urls, shardshuffle=False))
    for sample, other in zip(shard_set(shards).samples(), expected, strict=True):
        assert sample.members == {name: data for name, data in other.items() if not name.startswith("__")}


def test_what_was_read_of_the_headers_travels_with_a_pickle(shards: Path, tmp_path: Path) -> None:
    folder = copied(shards, tmp_path)
    split = shard_set(folder)
    first = split.sample(3).key
    travelled = pickle.loads(pickle.dumps(split))
    for family in ("images", "captions"):
        (folder / family / "manifest.json").unlink()
    assert travelled.sample(3).key == first


def test_a_split_that_nothing_was_assigned_to_has_no_samples(shards: Path) -> None:
    assert list(shard_set(shards, "validation").samples()) == []


def test_a_shard_that_is_cut_after_its_headers_were_read_is_an_error(shards: Path, tmp_path: Path) -> None:
    folder = copied(shards, tmp_path)
    split = shard_set(folder)
    split.sample(0)
    file = folder / "images" / "train" / "000000.tar"
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(ShardError, match=r"000000\.tar changed while it was read"):
        split.sample(0)


def copied(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "shards"))


@pytest.mark.parametrize(
    ("beyond", "message"),
    [(0, r"000001\.tar holds 3 samples, its manifest says 8"), (700, r"000001\.tar is damaged")],
)
def test_a_truncated_shard_is_an_error(shards: Path, tmp_path: Path, beyond: int, message: str) -> None:
    folder = copied(shards, tmp_path)
    file = folder / "captions" / "train" / "000001.tar"
    with tarfile.open(file) as tar:
        fourth = tar.getmembers()[3].offset
    # Cut between two members, where a reader sees a shorter archive and no damage, and inside one.
    file.write_bytes(file.read_bytes()[: fourth + beyond])
    with pytest.raises(ShardError, match=rf"000001\.tar has {fourth + beyond} bytes, its manifest says"):
        list(shard_set(folder).samples())
    # And where the manifest has the size of what is left.
    manifest = read_manifest(folder / "captions")
    shards_left = list(manifest.splits["train"].shards)
    shards_left[1] = dataclasses.replace(shards_left[1], bytes=fourth + beyond)
    split = dataclasses.replace(manifest.splits["train"], shards=shards_left)
    write_manifest(folder / "captions", dataclasses.replace(manifest, splits={"train": split}))
    with pytest.raises(ShardError, match=message):
        list(shard_set(folder).samples())


def test_captions_of_other_images_are_refused(shards: Path, tmp_path: Path) -> None:
    folder = copied(shards, tmp_path)
    manifest = folder / "captions" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["splits"]["train"]["keys_sha256"] = "0" * 64
    manifest.write_text(json.dumps(content))
    seal(manifest.parent)
    with pytest.raises(ShardError, match="describes other images"):
        len(shard_set(folder))


def test_shards_without_a_manifest_are_incomplete(shards: Path, tmp_path: Path) -> None:
    folder = copied(shards, tmp_path)
    (folder / "images" / "manifest.json").unlink()
    with pytest.raises(ShardError, match=r"manifest\.json not found"):
        len(shard_set(folder))
