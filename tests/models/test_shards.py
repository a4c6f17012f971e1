"""Reading the two shard families."""

import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from models.data.shards import ShardError, ShardSet


def shard_set(folder: Path, split: str = "train") -> ShardSet:
    return ShardSet(folder / "images", folder / "captions", split)


def test_samples_join_both_families(shards: Path) -> None:
    samples = list(shard_set(shards).samples())
    assert [sample.key for sample in samples] == [f"{number:016x}" for number in range(40)]
    assert all(sample.captions["image_id"] == sample.key == sample.meta["image_id"] for sample in samples)
    assert samples[0].image.shape == (16, 16, 3)
    assert samples[0].crop(0).shape == (8, 8, 3)
    assert samples[0].mask(0) is None


def test_an_epoch_is_a_permutation_and_depends_on_seed_and_epoch(shards: Path) -> None:
    def keys(seed: int, epoch: int, buffer: int) -> list[str]:
        return [sample.key for sample in shard_set(shards).shuffled(seed, epoch, buffer)]

    first = keys(0, 0, 10)
    assert Counter(first) == Counter(f"{number:016x}" for number in range(40))
    assert first == keys(0, 0, 10)
    assert first != keys(0, 1, 10)
    assert first != keys(1, 0, 10)
    assert first != sorted(first)


def copied(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "shards"))


@pytest.mark.parametrize(
    ("beyond", "message"), [(0, r"000001\.tar holds 3 samples of 8"), (700, r"000001\.tar is damaged")]
)
def test_a_truncated_shard_is_an_error(shards: Path, tmp_path: Path, beyond: int, message: str) -> None:
    folder = copied(shards, tmp_path)
    file = folder / "captions" / "train" / "000001.tar"
    with tarfile.open(file) as tar:
        fourth = tar.getmembers()[3].offset
    # Cut between two members, where a reader sees a shorter archive and no damage, and inside one.
    file.write_bytes(file.read_bytes()[: fourth + beyond])
    with pytest.raises(ShardError, match=message):
        list(shard_set(folder).samples())


def test_captions_of_other_images_are_refused(shards: Path, tmp_path: Path) -> None:
    folder = copied(shards, tmp_path)
    manifest = folder / "captions" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["splits"]["train"]["keys_sha256"] = "0" * 64
    manifest.write_text(json.dumps(content))
    with pytest.raises(ShardError, match="describes other images"):
        len(shard_set(folder))


def test_shards_without_a_manifest_are_incomplete(shards: Path, tmp_path: Path) -> None:
    folder = copied(shards, tmp_path)
    (folder / "images" / "manifest.json").unlink()
    with pytest.raises(ShardError, match=r"manifest\.json not found"):
        len(shard_set(folder))
