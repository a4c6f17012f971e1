"""The two shard families, read back with plain tarfile and with webdataset."""

import dataclasses
import io
import json
import subprocess
import sys
import tarfile
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from models.data.format import CAPTIONS as CAPTIONS_MEMBER
from models.data.format import (
    CROPS,
    MASKS,
    META,
    ImageCaptions,
    ImageMeta,
    from_json,
    keys_sha256,
    read_manifest,
    unpack,
    write_manifest,
)
from models.data.shards import ShardSet
from models.geometry import fit_mask
from models.verified import DamagedError, record, sha256_file
from pipelines import tables
from pipelines.errors import UserError
from pipelines.files import read_json, read_summary
from pipelines.masks import decode, encode
from pipelines.records import CAPTIONS, REGIONS, SPLIT_IMAGES, SPLIT_QUESTIONS
from pipelines.shards.checks import check_family, check_pair
from pipelines.shards.stage import main
from tests.fingerprints import write_fingerprint
from tests.rows import by_image


def bytes_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def members(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                found[member.name] = tar.extractfile(member).read()
    return found


def test_every_image_and_accepted_region_is_stored_once(workspace):
    summary = workspace.run_images()
    found = members(workspace.image_shards)
    table = SPLIT_IMAGES.read(workspace.images)
    accepted = [region for region in REGIONS.read(workspace.regions) if region.status == "accepted"]
    metas = [from_json(ImageMeta, data, name) for name, data in found.items() if name.endswith(META)]
    assert sorted(meta.image_id for meta in metas) == sorted(row.image_id for row in table)
    stored = [region for meta in metas for region in meta.regions]
    assert sorted(region.region_id for region in stored) == sorted(region.region_id for region in accepted)
    masked = {region.region_id for region in stored if region.mask is not None}
    assert masked == {region.region_id for region in accepted if region.mask is not None}
    assert len(masked) < len(accepted)
    for meta in metas:
        crops = found[f"{meta.image_id}.{CROPS}"]
        assert sum(region.crop[1] for region in meta.regions) == len(crops)
        masks = found[f"{meta.image_id}.{MASKS}"]
        assert sum(region.mask[1] for region in meta.regions if region.mask is not None) == len(masks)
    assert (summary["inputs"], summary["ok"], summary["failed"]) == (22, 22, 0)
    assert read_summary(workspace.root / "summaries" / "image_shards.json") == summary


def test_shards_are_split_and_filled_as_the_manifest_says(workspace):
    workspace.run_images()
    written = read_json(workspace.image_shards / "manifest.json")
    assert {name: split["samples"] for name, split in written["splits"].items()} == {
        "train": 12,
        "validation": 4,
        "test": 6,
    }
    # Of halves, quarters, ... of the first hexadecimal digit the first that have four images at most.
    for split in ("train", "validation", "test"):
        digits = [int(row.image_id[0], 16) for row in SPLIT_IMAGES.read(workspace.images) if row.split == split]
        widths = [width for width in (16, 8, 4, 2, 1) if max(Counter(d // width for d in digits).values()) <= 4]
        expected = Counter(digit // widths[0] for digit in digits)
        found = {shard["file"]: shard["samples"] for shard in written["splits"][split]["shards"]}
        assert found == {f"{split}/{number:06d}.tar": expected[number] for number in sorted(expected)}
    assert (written["image_size"], written["crop_size"], written["samples_per_shard"]) == (32, 16, 4)
    assert written["tables"]["regions"]["sha256"] == sha256_file(workspace.regions)
    assert written["tables"]["images"]["rows"] == 22


def test_the_manifest_depends_on_every_column_but_the_hashes_of_patient_and_study(workspace):
    workspace.run_images()
    first = bytes_of(workspace.image_shards)
    rows = SPLIT_IMAGES.read(workspace.images)
    SPLIT_IMAGES.write(workspace.images, [dataclasses.replace(row, patient="0" * 16, study="1" * 16) for row in rows])
    workspace.run_images()
    assert bytes_of(workspace.image_shards) == first
    SPLIT_IMAGES.write(workspace.images, [dataclasses.replace(rows[0], rows=rows[0].rows + 1), *rows[1:]])
    workspace.run_images()
    changed = {name for name, data in bytes_of(workspace.image_shards).items() if first[name] != data}
    assert changed == {"manifest.json", "SHA256SUMS"}


def test_sample_shows_the_image_its_crops_and_its_masks(workspace):
    workspace.run_images()
    found = members(workspace.image_shards)
    rows = {row.image_id: row for row in SPLIT_IMAGES.read(workspace.images)}
    regions = {region.region_id: region for region in REGIONS.read(workspace.regions)}
    metas = (from_json(ImageMeta, data, name) for name, data in found.items() if name.endswith(META))
    meta = next(meta for meta in metas if meta.regions)
    key, stored = meta.image_id, meta.regions[0]
    row, region = rows[key], regions[f"{key}-0"]
    mask = Image.open(io.BytesIO(unpack(found[f"{key}.{MASKS}"], stored.mask)))
    assert mask.mode == "L"
    assert set(np.unique(mask)) == {0, 255}
    picture = Image.open(io.BytesIO(found[f"{key}.image.jpg"]))
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (32, 32))
    crop = Image.open(io.BytesIO(unpack(found[f"{key}.{CROPS}"], stored.crop)))
    assert (crop.format, crop.size) == ("JPEG", (16, 16))
    assert (meta.source, meta.split, meta.group) == (row.source, row.split, row.group)
    assert (meta.modality, meta.view, meta.labels) == ("other", None, ("nodule",))
    assert (meta.width, meta.height) == (row.width, row.height)
    assert (stored.region_id, stored.role, stored.label, stored.score) == (f"{key}-0", "input", "nodule", 1.0)
    # The mask is a filled box: in the square it must cover the box of the region to within one pixel.
    ys, xs = np.nonzero(np.asarray(mask))
    box = np.array(stored.box) * 32
    assert np.abs(box - [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).max() <= 1
    assert decode(region.mask, row.height, row.width).sum() == region.area


def test_attributes_and_look_alikes_go_past_regions_targets_and_captions(workspace):
    workspace.run_images()
    workspace.run_captions()
    before = members(workspace.image_shards)
    texts = bytes_of(workspace.caption_shards)
    rows = SPLIT_IMAGES.read(workspace.images)
    outlines = {}
    for number, row in enumerate(rows[::2]):
        mask = np.zeros((row.height, row.width), dtype=bool)
        mask[20:30, 4 : 8 + number] = True
        outlines[row.image_id] = [mask, ~mask][: 1 + number % 2]
    known = {"heart": "slim", "age": "61"}
    changed = [
        dataclasses.replace(row, attributes=known, look_alikes=tuple(map(encode, outlines[row.image_id])))
        if row.image_id in outlines
        else row
        for row in rows
    ]
    SPLIT_IMAGES.write(workspace.images, changed)
    workspace.run_images()
    workspace.run_captions()
    after = members(workspace.image_shards)
    other = {name for name, data in after.items() if data != before[name]}
    assert other == {f"{key}.{extension}" for key in outlines for extension in (META, MASKS)}
    changed_texts = {name for name, digest in bytes_of(workspace.caption_shards).items() if texts[name] != digest}
    assert changed_texts == {"manifest.json", "SHA256SUMS"}
    for split in ("train", "validation", "test"):
        for sample in ShardSet(workspace.image_shards, workspace.caption_shards, split).samples():
            wanted = outlines.get(sample.key, [])
            assert sample.meta.attributes == (known if wanted else {})
            # In the geometry of the other masks.
            squares = [np.asarray(fit_mask(mask, 32)) > 0 for mask in wanted]
            assert [mask.tolist() for mask in sample.look_alikes()] == [square.tolist() for square in squares]
            for number, region in enumerate(sample.meta.regions):
                assert (sample.mask(number) is None) == (region.mask is None)


def test_the_sources_own_sentence_of_a_region_is_in_its_sample(workspace):
    workspace.run_images()
    rows = CAPTIONS.read(workspace.captions)
    said = next(row.item_id for row in rows if row.kind == "region")
    CAPTIONS.write(
        workspace.captions, [dataclasses.replace(row, phrase="Ö" if row.item_id == said else None) for row in rows]
    )
    workspace.run_captions()
    found = [from_json(ImageCaptions, data, "x") for data in members(workspace.caption_shards).values()]
    phrases = {region.region_id: region.phrase for captions in found for region in captions.regions}
    assert phrases == {row.item_id: "Ö" if row.item_id == said else None for row in rows if row.kind == "region"}


def test_webdataset_reads_both_families_alike(workspace, monkeypatch):
    monkeypatch.setenv("WDS_SECURE", "1")
    workspace.run_images()
    workspace.run_captions()
    for split, count in (("train", 12), ("validation", 4), ("test", 6)):
        keys = []
        for folder in (workspace.image_shards, workspace.caption_shards):
            files = [str(path) for path in sorted((folder / split).glob("*.tar"))]
            samples = list(webdataset.WebDataset(files, shardshuffle=False, empty_check=False))
            keys.append([sample["__key__"] for sample in samples])
        assert keys[0] == keys[1]
        assert len(keys[0]) == count


def test_captions_follow_the_regions_of_the_meta(workspace):
    workspace.run_images()
    summary = workspace.run_captions()
    images, texts = members(workspace.image_shards), members(workspace.caption_shards)
    for name, data in texts.items():
        captions = from_json(ImageCaptions, data, name)
        meta = from_json(ImageMeta, images[f"{captions.image_id}.{META}"], name)
        assert name == f"{captions.image_id}.{CAPTIONS_MEMBER}"
        assert [region.region_id for region in captions.regions] == [region.region_id for region in meta.regions]
        assert captions == ImageCaptions(
            image_id=meta.image_id,
            status="ok",
            basis="report",
            oracle=False,
            summary="round summary",
            report="round <b>report</b>",
            regions=captions.regions,
        )
        for region in captions.regions:
            assert (region.status, region.basis, region.oracle) == ("ok", "annotation", True)
            assert (region.caption, region.triple) == ("round | nodule | left upper", ("round", "nodule", "left upper"))
            assert region.negatives == ("no0", "no1", "no2", "no3", "no4")
    assert summary["inputs"] == summary["ok"] == len(CAPTIONS.read(workspace.captions))


def test_all_reports_of_an_image_are_in_its_sample(workspace):
    workspace.run_images()
    rows = CAPTIONS.read(workspace.captions)
    several = next(row.image_id for row in rows if row.kind == "image")
    CAPTIONS.write(
        workspace.captions,
        [dataclasses.replace(row, other_reports=("Two.", "Three.")) if row.item_id == several else row for row in rows],
    )
    workspace.run_captions()
    texts = {name.partition(".")[0]: data for name, data in members(workspace.caption_shards).items()}
    assert from_json(ImageCaptions, texts[several], "x").other_reports == ("Two.", "Three.")
    assert [key for key, data in texts.items() if b"other_reports" in data] == [several]


def test_two_runs_give_the_same_bytes(workspace):
    for run, first in (
        (workspace.run_images, workspace.image_shards),
        (workspace.run_captions, workspace.caption_shards),
    ):
        run()
        again = workspace.root / "again" / first.name
        run(again)
        assert bytes_of(first) == bytes_of(again)


def test_the_order_of_an_images_regions_in_the_table_does_not_matter(workspace):
    workspace.run_images()
    before = {name: digest for name, digest in bytes_of(workspace.image_shards).items() if name.endswith(".tar")}
    REGIONS.write(workspace.regions, by_image(reversed(REGIONS.read(workspace.regions))))
    workspace.run_images()
    assert before == {
        name: digest for name, digest in bytes_of(workspace.image_shards).items() if name.endswith(".tar")
    }


def test_changed_captions_leave_the_pixels_alone(workspace):
    workspace.run_images()
    workspace.run_captions()
    pixels, texts = bytes_of(workspace.image_shards), bytes_of(workspace.caption_shards)
    workspace.write_captions("oval")
    workspace.run_captions()
    assert bytes_of(workspace.image_shards) == pixels
    assert all(digest != texts[name] for name, digest in bytes_of(workspace.caption_shards).items())
    check_pair(workspace.image_shards, workspace.caption_shards)


def test_image_that_no_longer_opens_is_counted_and_its_texts_follow(workspace):
    image_ids = {row.path: row.image_id for row in SPLIT_IMAGES.read(workspace.images)}
    (workspace.roots["colour"] / "02.png").write_bytes(b"")
    Image.new("L", (7, 7)).save(workspace.roots["grey"] / "05.png")
    summary = workspace.run_images()
    assert summary["failed"] == 2
    assert summary["reasons"]["failed"]["changed_since_ingest"] == 1
    told = workspace.run_captions()
    # Image 2 has two accepted regions (2 % 3), image 5 too: three rows each.
    assert told["reasons"]["failed"] == {"image_not_in_shards": 6}
    keys = {name.partition(".")[0] for name in members(workspace.caption_shards)}
    assert keys == set(image_ids.values()) - {image_ids["02.png"], image_ids["05.png"]}
    assert check_family(workspace.image_shards).left_out == 2


def test_too_many_failures_stop_the_stage_and_keep_the_old_shards(workspace):
    workspace.run_images()
    before = bytes_of(workspace.image_shards)
    for path in list(workspace.roots["grey"].iterdir())[:6]:
        path.unlink()
    with pytest.raises(UserError, match="6 of 22 items failed"):
        workspace.run_images()
    assert bytes_of(workspace.image_shards) == before


def test_captions_wait_on_the_disk(workspace, monkeypatch):
    """22 images with a report of a megabyte each: a few of them are in memory at a time."""
    monkeypatch.setattr(tables, "BATCH_ROWS", 2)
    monkeypatch.setattr(tables, "GROUP_ROWS", 4)
    workspace.run_images()
    rows = (
        dataclasses.replace(row, report=f"{row.image_id} " * 60_000) if row.kind == "image" else row
        for row in CAPTIONS.read(workspace.captions)
    )
    CAPTIONS.write(workspace.captions, rows)
    tracemalloc.start()
    try:
        assert workspace.run_captions()["failed"] == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000
    assert list(workspace.caption_shards.parent.rglob("tmp*")) == []


def test_image_without_caption_is_a_defect(workspace):
    workspace.run_images()
    rows = CAPTIONS.read(workspace.captions)
    for missing in (rows[0].image_id, rows[-1].image_id):
        CAPTIONS.write(workspace.captions, [row for row in rows if row.image_id != missing])
        with pytest.raises(AssertionError, match="no caption row"):
            workspace.run_captions()


def test_region_without_caption_is_a_defect(workspace):
    workspace.run_images()
    rows = [row for row in CAPTIONS.read(workspace.captions) if row.kind == "image"]
    CAPTIONS.write(workspace.captions, rows)
    with pytest.raises(AssertionError, match="no caption row"):
        workspace.run_captions()


def test_source_that_params_does_not_name(workspace):
    workspace.roots.pop("grey")
    with pytest.raises(UserError, match="'grey'"):
        workspace.run_images()


def test_no_image_left(workspace):
    SPLIT_IMAGES.write(workspace.images, [])
    REGIONS.write(workspace.regions, [])
    with pytest.raises(UserError, match="has no image"):
        workspace.run_images()


class TestManifest:
    def test_truncated_tar(self, workspace):
        workspace.run_images()
        path = workspace.image_shards / "train" / "000001.tar"
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(UserError, match=r"train/000001\.tar has 5000 bytes.*run `dvc repro`"):
            check_family(workspace.image_shards)

    def test_tar_of_the_right_size_that_ends_early(self, workspace):
        workspace.run_images()
        path = workspace.image_shards / "train" / "000000.tar"
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2 // 512 * 512].ljust(len(data), b"\0"))
        with pytest.raises(UserError, match=r"train/000000\.tar (holds|is damaged).*run `dvc repro`"):
            check_family(workspace.image_shards)

    def test_missing_tar(self, workspace):
        workspace.run_images()
        (workspace.image_shards / "test" / "000000.tar").unlink()
        with pytest.raises(UserError, match=r"test/000000\.tar is missing"):
            check_family(workspace.image_shards)

    def test_one_changed_pixel_is_seen(self, workspace):
        workspace.run_images()
        path = workspace.image_shards / "test" / "000000.tar"
        with tarfile.open(path) as tar:
            pixels = next(member for member in tar if member.name.endswith("image.jpg")).offset_data
        data = bytearray(path.read_bytes())
        data[pixels + 300] ^= 1
        path.write_bytes(data)
        with pytest.raises(DamagedError, match="has other bytes"):
            check_family(workspace.image_shards)

    def test_wrong_count(self, workspace):
        workspace.run_images()
        written = read_manifest(workspace.image_shards)
        write_manifest(workspace.image_shards, dataclasses.replace(written, left_out=1))
        with pytest.raises(UserError, match="do not make the 22 rows"):
            check_family(workspace.image_shards)

    def test_tables_of_another_run(self, workspace):
        workspace.run_images()
        tables = {"images": workspace.images, "regions": workspace.regions}
        check_family(workspace.image_shards, tables)
        SPLIT_IMAGES.write(workspace.images, SPLIT_IMAGES.read(workspace.images)[1:])
        with pytest.raises(UserError, match=r"images\.parquet"):
            check_family(workspace.image_shards, tables)

    def test_captions_of_other_images(self, workspace):
        workspace.run_images()
        workspace.run_captions()
        first, *others = SPLIT_IMAGES.read(workspace.images)
        SPLIT_IMAGES.write(workspace.images, others)
        with pytest.raises(UserError, match=r"has regions of images that .* lacks: run `dvc repro regions`"):
            workspace.run_images()
        left = [row for row in REGIONS.read(workspace.regions) if row.image_id != first.image_id]
        REGIONS.write(workspace.regions, left)
        workspace.run_images()
        with pytest.raises(UserError, match="does not belong"):
            check_pair(workspace.image_shards, workspace.caption_shards)

    def test_no_manifest(self, tmp_path):
        with pytest.raises(UserError, match="not found"):
            check_family(tmp_path)


def test_command_line(workspace):
    """Both families by `python -m`, from a folder with a params.yaml of its own; mistakes are one line."""
    (workspace.root / "params.yaml").write_text(
        f"""
        workers: {{processes: all}}
        shards: {json.dumps(dataclasses.asdict(workspace.config))}
        ingest:
          max_pixels: 10000
          max_failed_fraction: 0
          sources: {{grey: {{adapter: table, root: raw/grey}}, colour: {{adapter: table, root: raw/colour}}}}
        """
    )
    for table, folder in (
        (workspace.images, "split"),
        (workspace.regions, "regions"),
        (workspace.captions, "captions"),
    ):
        (workspace.root / "data" / folder).mkdir(parents=True)
        table.rename(workspace.root / "data" / folder / table.name)
        record(workspace.root / "data" / folder / table.name)
    SPLIT_QUESTIONS.write(workspace.root / "data/split/questions.parquet", [])

    def run(family: str) -> subprocess.CompletedProcess:
        write_fingerprint(workspace.root, f"{family.removesuffix('s')}_shards", "pipelines.shards")
        words = [sys.executable, "-m", "pipelines.shards", family]
        repository = str(Path(__file__).parents[3])
        environment = {"PYTHONPATH": repository, "PATH": "/usr/bin:/bin"}
        return subprocess.run(words, cwd=workspace.root, env=environment, capture_output=True, text=True, check=False)

    assert run("images").returncode == 0
    assert run("captions").returncode == 0
    data = workspace.root / "data"
    check_pair(data / "shards" / "images", data / "shards" / "captions")


def test_family_that_does_not_exist():
    with pytest.raises(UserError, match="'texts' is no family of shards: choose images or captions"):
        main("texts")


def test_models_reads_what_this_stage_writes(workspace):
    workspace.run_images()
    workspace.run_captions()
    shards = ShardSet(workspace.image_shards, workspace.caption_shards, "train")
    samples = list(shards.samples())
    assert len(samples) == len(shards) == 12
    expected = read_manifest(workspace.image_shards).splits["train"].keys_sha256
    assert keys_sha256(sample.key for sample in samples) == expected
    for sample in samples:
        assert sample.image.shape == (32, 32, 3)
        assert sample.meta.image_id == sample.captions.image_id == sample.key
        for k in range(len(sample.meta.regions)):
            assert sample.crop(k).shape == (16, 16, 3)
            assert (sample.mask(k) is None) == (k == 1)


@pytest.mark.parametrize(
    ("view", "sides", "stored"),
    [
        (None, "patient", "patient"),
        ("frontal", "image", "image"),
        # As radiology has it: the shards stay as they were.
        (None, "image", None),
        ("frontal", "patient", None),
        ("frontal", None, None),
    ],
)
def test_sides_are_stored_where_they_are_not_radiologys(workspace, view, sides, stored):
    rows = SPLIT_IMAGES.read(workspace.images)
    SPLIT_IMAGES.write(workspace.images, [dataclasses.replace(row, view=view, sides=sides) for row in rows])
    workspace.run_images()
    found = members(workspace.image_shards)
    metas = [json.loads(data) for name, data in found.items() if name.endswith(META)]
    assert len(metas) == len(rows)
    assert {meta.get("sides") for meta in metas} == {stored}
    assert all("sides" not in meta for meta in metas) == (stored is None)
