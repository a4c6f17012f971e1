"""The contract of a shard: JSON with checks, packed members, manifests, tars with reproducible bytes."""

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.data.format import (
    ImageCaptions,
    ImageMeta,
    Manifest,
    ShardError,
    from_json,
    keys_sha256,
    pack,
    read_manifest,
    to_json,
    unpack,
    write_manifest,
)
from models.data.tars import UnwrittenSample, open_shard, write_samples
from models.verified import seal
from tests.shards import image_captions, image_meta, region_caption, region_meta

KEY = "00000000000000a7"
META = image_meta(
    KEY,
    [
        region_meta(f"{KEY}-0", label="nodule", box=(0.25, 0.0, 0.5, 1.0), crop=(0, 7), mask=(3, 4)),
        region_meta(f"{KEY}-3", role="truth", score=0.5, crop=(7, 2)),
    ],
    labels=("nodule", "Ödem"),
    view="frontal",
)
CAPTIONS = image_captions(KEY, [region_caption(f"{KEY}-0", "round", "spot", "left upper", negatives=("a", "b"))])


def test_metadata_as_json_is_compact_sorted_and_comes_back_equal() -> None:
    text = to_json(META)
    assert text.startswith(b'{"group":"00000000000000a7","has_target":false,"height":16,"image_id":"00000000000000a7"')
    assert "Ödem".encode() in text
    assert from_json(ImageMeta, text, "x") == META
    # What holds its default is left out.
    assert b"sides" not in text
    declared = dataclasses.replace(META, sides="image")
    assert from_json(ImageMeta, to_json(declared), "x") == declared
    assert b'"sides":"image"' in to_json(declared)
    assert from_json(ImageCaptions, to_json(CAPTIONS), "x") == CAPTIONS
    assert CAPTIONS.regions[0].triple == ("round", "spot", "left upper")


@pytest.mark.parametrize(
    ("view", "sides", "patient"),
    [
        ("frontal", None, True),
        ("lateral", None, False),
        (None, None, False),
        ("frontal", "image", False),
        (None, "patient", True),
    ],
)
def test_sides_are_radiologys_where_the_source_means_no_others(
    view: str | None, sides: str | None, patient: bool
) -> None:
    assert dataclasses.replace(META, view=view, sides=sides).patient_sides == patient


def test_further_reports_stand_in_the_json_where_there_are_any() -> None:
    assert b"other_reports" not in to_json(CAPTIONS)
    several = dataclasses.replace(CAPTIONS, report="a", other_reports=("b", "c"))
    assert b'"other_reports":["b","c"]' in to_json(several)
    assert from_json(ImageCaptions, to_json(several), "x") == several


def test_what_is_known_of_an_image_stands_in_the_json_where_there_is_any() -> None:
    assert b"attributes" not in to_json(META)
    assert b"look_alikes" not in to_json(META)
    known = dataclasses.replace(META, attributes={"heart": "slim", "age": "61"}, look_alikes=((7, 5), (12, 9)))
    assert b'"attributes":{"age":"61","heart":"slim"}' in to_json(known)
    assert b'"look_alikes":[[7,5],[12,9]]' in to_json(known)
    assert from_json(ImageMeta, to_json(known), "x") == known
    said = dataclasses.replace(CAPTIONS.regions[0], phrase="A round spot.")
    several = dataclasses.replace(CAPTIONS, regions=(said,))
    assert from_json(ImageCaptions, to_json(several), "x") == several
    # Shards of before phrases are read as they were.
    assert from_json(ImageCaptions, to_json(CAPTIONS).replace(b'"phrase":null,', b""), "x") == CAPTIONS


def test_a_region_without_a_caption_has_no_triple() -> None:
    rejected = dataclasses.replace(CAPTIONS.regions[0], status="rejected", adjective=None)
    with pytest.raises(ShardError, match=f"region {KEY}-0 of status rejected has no caption"):
        _ = rejected.triple


def drop(*path: str | int) -> Callable[[Any], None]:
    def change(values: Any) -> None:
        for key in path[:-1]:
            values = values[key]
        del values[path[-1]]

    return change


def put(value: Any, *path: str | int) -> Callable[[Any], None]:
    def change(values: Any) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(1, "colour"), "colour: unknown key"),
        (drop("view"), "view: missing key"),
        (put(1, "regions", 1, "n"), r"regions\[1\]\.n: unknown key"),
        (drop("regions", 0, "role"), r"regions\[0\]\.role: missing key"),
        (put("wide", "width"), "width: 'wide' is no int"),
        (put(True, "width"), "width: True is no int"),
        (put(None, "source"), "source: None is no str"),
        (put("nodule", "labels"), "labels: 'nodule' is no list"),
        (put([3], "labels"), r"labels\[0\]: 3 is no str"),
        (put([0, 0, 1], "regions", 0, "box"), r"regions\[0\]\.box: \[0, 0, 1\] is no list of 4"),
        (put([0, 0, 1, "1"], "regions", 0, "box"), r"regions\[0\]\.box\[3\]: '1' is no float"),
        (put({"age": 61}, "attributes"), "attributes.age: 61 is no str"),
        (put([[0]], "look_alikes"), r"look_alikes\[0\]: \[0\] is no list of 2"),
        (put([], "regions", 0), r"regions\[0\]: \[\] is no object with keys"),
    ],
)
def test_metadata_that_breaks_the_contract_is_an_error_with_file_and_key(
    change: Callable[[Any], None], message: str
) -> None:
    values = json.loads(to_json(META))
    change(values)
    with pytest.raises(ShardError, match=rf"^a\.tar: {message}: run `dvc repro`$"):
        from_json(ImageMeta, json.dumps(values), "a.tar")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_metadata_that_is_not_json_is_an_error_with_the_file(data: bytes) -> None:
    with pytest.raises(ShardError, match=r"^a\.tar is not JSON: run `dvc repro`$"):
        from_json(ImageMeta, data, "a.tar")


def test_whole_numbers_are_read_as_floats_where_floats_stand() -> None:
    values = json.loads(to_json(META))
    values["regions"][0]["box"] = [0, 0, 1, 1]
    box = from_json(ImageMeta, json.dumps(values), "x").regions[0].box
    assert box == (0.0, 0.0, 1.0, 1.0)
    assert all(type(edge) is float for edge in box)


def test_packed_parts_come_back() -> None:
    packed, spans = pack([b"abc", b"", b"de"])
    assert (packed, spans) == (b"abcde", [(0, 3), (3, 0), (3, 2)])
    assert [unpack(packed, span) for span in spans] == [b"abc", b"", b"de"]
    assert pack([]) == (b"", [])
    with pytest.raises(ShardError, match="a packed member of 4 bytes has no bytes 3 to 5"):
        unpack(packed[:4], spans[2])


def test_the_key_digest_is_that_of_one_key_a_line() -> None:
    assert keys_sha256(["a", "b"]) == hashlib.sha256(b"a\nb\n").hexdigest()
    assert keys_sha256([]) == hashlib.sha256(b"").hexdigest()


def write(folder: Path, counts: dict[str, int]) -> Manifest:
    """The family `captions` with three samples a tar."""
    samples = (
        UnwrittenSample(
            split=split,
            file=f"{split}/{number // 3:06d}.tar",
            key=f"{split}{number}",
            members={"captions.json.txt": f"text {number}".encode()},
            regions=number,
        )
        for split, count in counts.items()
        for number in range(count)
    )
    splits = write_samples(folder, "captions", samples, ["train", "validation", "test"])
    manifest = Manifest(family="captions", samples_per_shard=3, splits=splits, image_size=None)
    write_manifest(folder, manifest)
    return manifest


def test_tars_hold_the_samples_in_order_and_the_manifest_says_so(tmp_path: Path) -> None:
    manifest = write(tmp_path, {"train": 5, "test": 1})
    assert read_manifest(tmp_path) == manifest
    assert list(manifest.splits) == ["train", "validation", "test"]
    assert (manifest.samples, manifest.regions) == (6, 0 + 1 + 2 + 3 + 4)
    train = manifest.splits["train"]
    assert train.keys_sha256 == keys_sha256(f"train{number}" for number in range(5))
    assert [(shard.file, shard.samples) for shard in train.shards] == [("train/000000.tar", 3), ("train/000001.tar", 2)]
    assert manifest.splits["validation"].shards == []
    index = open_shard(tmp_path, "captions", train.shards[1])
    assert index.keys == ["train3", "train4"]
    assert index.read(1) == {"captions.json.txt": b"text 4"}
    with tarfile.open(tmp_path / "train/000001.tar") as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}
    assert "image_size" not in json.loads((tmp_path / "manifest.json").read_text())


def test_a_sample_with_other_members_than_its_family_is_a_defect(tmp_path: Path) -> None:
    sample = UnwrittenSample(split="test", file="test/0.tar", key="a", members={"image.jpg": b""}, regions=0)
    with pytest.raises(AssertionError, match=r"sample a of captions has the members \['image\.jpg'\]"):
        write_samples(tmp_path, "captions", [sample], ["test"])


def test_samples_of_a_split_that_do_not_stand_together_are_a_defect(tmp_path: Path) -> None:
    samples = [
        UnwrittenSample(split=split, file=f"{split}/0.tar", key="a", members={"captions.json.txt": b""}, regions=0)
        for split in ("train", "test", "train")
    ]
    with pytest.raises(AssertionError, match="the samples of the split train do not stand together"):
        write_samples(tmp_path, "captions", samples, ["train", "test"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train0.captions.json.txt", "train1.meta.json.txt"], r"train1\.meta\.json\.txt where train1\.captions"),
        (["train0.captions.json.txt"], "holds 1 samples, its manifest says 2"),
    ],
)
def test_a_tar_with_other_members_than_its_family_is_an_error(tmp_path: Path, names: list[str], message: str) -> None:
    (shard,) = write(tmp_path, {"train": 2}).splits["train"].shards
    with tarfile.open(tmp_path / shard.file, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(ShardError, match=message):
        open_shard(tmp_path, "captions", dataclasses.replace(shard, bytes=(tmp_path / shard.file).stat().st_size))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("splits", "train", "keys_sha256"), r"splits\.train\.keys_sha256: missing key"),
        (put(1, "splits", "train", "shards", 0, "size"), r"splits\.train\.shards\[0\]\.size: unknown key"),
        (put("2", "samples_per_shard"), "samples_per_shard: '2' is no int"),
        (put("texts", "family"), "family 'texts' is none of images, captions"),
    ],
)
def test_a_manifest_that_breaks_the_contract_is_an_error_with_file_and_key(
    tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    write(tmp_path, {"train": 2})
    path = tmp_path / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    seal(tmp_path)
    with pytest.raises(ShardError, match=rf"manifest\.json: {message}"):
        read_manifest(tmp_path)
