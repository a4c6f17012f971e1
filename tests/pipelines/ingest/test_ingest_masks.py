"""The rule that decodes masks and label maps: which pixels are the region, and when the file does not say."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines.errors import Rejected
from pipelines.images import StoredMask, decode_mask
from pipelines.ingest.annotations import read_annotations
from pipelines.ingest.masks import region_mask
from pipelines.ingest.record import Region, SourceRecord
from pipelines.masks import decode, encode
from pipelines.opened import opened

SIDE = 64
DISC = np.add.outer(np.arange(-31.5, 32) ** 2, np.arange(-31.5, 32) ** 2) < 400


def stored(values: np.ndarray) -> StoredMask:
    return StoredMask(values, lossy=False)


def encoded(values: np.ndarray, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind, **options)
    return stream.getvalue()


PICTURE = opened(encoded(DISC, "PNG"))  # of no place


@pytest.mark.parametrize("value", [1, 7, 119, 255])
def test_two_values_of_which_one_is_0_show_one_region(value: int) -> None:
    assert np.array_equal(region_mask(stored(DISC.astype(np.uint8) * np.uint8(value)), None), DISC)


def test_a_file_of_zeros_shows_nothing_and_one_of_another_value_everything() -> None:
    assert not region_mask(stored(np.zeros((4, 5), np.uint8)), None).any()
    assert region_mask(stored(np.full((4, 5), 3, np.uint8)), None).all()


def test_grey_values_from_1_to_119_are_ambiguous() -> None:
    values = np.random.default_rng(0).integers(1, 120, (SIDE, SIDE), dtype=np.uint8)
    with pytest.raises(Rejected, match="ambiguous_mask: 119 grey values from 1 to 119"):
        region_mask(stored(values), None)


def test_a_label_map_of_104_organs_needs_the_value_of_the_region() -> None:
    values = np.repeat(np.repeat(np.arange(105, dtype=np.uint8).reshape(15, 7), 4, axis=0), 9, axis=1)
    with pytest.raises(Rejected, match="ambiguous_mask"):
        region_mask(stored(values), None)
    for organ in (1, 50, 104):
        assert np.count_nonzero(region_mask(stored(values), organ)) == 36


@pytest.mark.parametrize(
    "values", [[0, 1, 2], [1, 2], [0, 100, 200], [-1, 0, 1], [0, 3, 104], [0, 1, 255], [0, 250, 255], [0, 5, 40]]
)
def test_a_few_classes_without_a_list_are_ambiguous(values: list[int]) -> None:
    label_map = np.zeros((SIDE, SIDE), np.int32)
    for row, value in enumerate(values):
        label_map[row * 20 : (row + 1) * 20] = value
    with pytest.raises(Rejected, match="ambiguous_mask"):
        region_mask(stored(label_map), None)


def test_a_small_third_class_is_not_thresholded_away() -> None:
    label_map = DISC.astype(np.uint8) * np.uint8(200)
    label_map[2:5, 2:5] = 100  # 9 of 4,096 pixels, far from the disc
    with pytest.raises(Rejected, match="ambiguous_mask"):
        region_mask(stored(label_map), None)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_a_jpeg_of_an_anti_aliased_disc_is_cut_at_half_the_maximum(quality: int) -> None:
    large = np.kron(DISC, np.ones((4, 4))).astype(np.uint8) * np.uint8(255)
    soft = np.asarray(Image.fromarray(large).resize((SIDE * 2, SIDE * 2), Image.Resampling.BICUBIC))
    mask = decode_mask(encoded(soft, "JPEG", quality=quality))
    assert len(np.unique(mask.values)) > 10
    predicted, expected = region_mask(mask, None), soft > 127
    assert np.count_nonzero(predicted != expected) <= 0.01 * np.count_nonzero(expected)


def test_an_anti_aliased_png_is_cut_at_half_the_maximum() -> None:
    large = np.kron(DISC, np.ones((4, 4))).astype(np.uint8) * np.uint8(255)
    soft = np.asarray(Image.fromarray(large).resize((SIDE * 2, SIDE * 2), Image.Resampling.BICUBIC))
    mask = decode_mask(encoded(soft, "PNG"))
    assert len(np.unique(mask.values)) > 10
    assert np.array_equal(region_mask(mask, None), soft > 127)


def test_a_jpeg_does_not_answer_for_one_value() -> None:
    mask = decode_mask(encoded(DISC.astype(np.uint8) * np.uint8(2), "JPEG"))
    with pytest.raises(Rejected, match=r"ambiguous_mask: a JPEG \(or lossy WebP\) does not keep the value 2 apart"):
        region_mask(mask, 2)


@given(st.integers(min_value=33, max_value=255), st.integers(min_value=0, max_value=16))
def test_noise_of_a_jpeg_within_the_tolerance_changes_no_pixel(highest: int, noise: int) -> None:
    # Black up to 16 and white from the maximum less 16 overlap below 33.
    values = np.where(DISC, highest, 0).astype(np.uint8)
    values[::7, ::5] = np.where(DISC, highest - noise, noise)[::7, ::5]
    if noise * 2 < highest and highest - noise > highest / 2:
        assert np.array_equal(region_mask(StoredMask(values, lossy=True), None), DISC)


def test_the_classes_of_a_label_map_become_regions_with_their_masks(tmp_path: Path) -> None:
    label_map = np.zeros((30, 40), np.uint8)
    label_map[2:10, 3:9], label_map[20:25, 30:40] = 3, 104
    (tmp_path / "organs.png").write_bytes(encoded(label_map, "PNG"))
    classes = ((3, "kidney"), (50, "spleen"), (104, "rib"))
    record = SourceRecord(row="1", name="a.png", modality="ct", mask="organs.png", mask_classes=classes)
    annotations = read_annotations(tmp_path, record, PICTURE, 40, 30, 10_000)
    assert [region.label for region in annotations.regions] == ["kidney", "rib"]
    for region, value in zip(annotations.regions, (3, 104), strict=True):
        assert region.mask is not None
        assert np.array_equal(decode(region.mask.rle, 30, 40), label_map == value)
    unlisted = SourceRecord(row="1", name="a.png", modality="ct", mask="organs.png", mask_classes=classes[:1])
    with pytest.raises(Rejected, match=r"unlisted_mask_value: mask: \[104\]"):
        read_annotations(tmp_path, unlisted, PICTURE, 40, 30, 10_000)


def test_two_regions_of_one_file_are_told_by_their_values(tmp_path: Path) -> None:
    values = np.zeros((20, 20), np.uint8)
    values[:5, :5], values[10:15, 10:15] = 1, 2
    (tmp_path / "m.png").write_bytes(encoded(values, "PNG"))
    regions = tuple(Region(label=f"r{value}", mask="m.png", mask_value=value) for value in (1, 2))
    annotations = read_annotations(
        tmp_path, SourceRecord(row="1", name="a.png", modality="ct", regions=regions), PICTURE, 20, 20, 10_000
    )
    first, second = (decode(region.mask.rle, 20, 20) for region in annotations.regions if region.mask)
    assert np.array_equal(first, values == 1)
    assert np.array_equal(second, values == 2)


def of_regions(*regions: Region) -> SourceRecord:
    return SourceRecord(row="1", name="a.png", modality="ct", regions=regions)


def test_a_region_may_bring_its_mask_as_a_code(tmp_path: Path) -> None:
    region = Region(label="nodule", rle=encode(DISC[:40]), rle_size=(SIDE, 40), box=(10, 5, 70, 30))
    annotations = read_annotations(tmp_path, of_regions(region), PICTURE, SIDE, 40, 10_000)
    (read,) = annotations.regions
    assert read.mask is not None
    assert (read.mask.path, read.mask.value, read.mask.sha256, read.mask.is_empty) == (None, None, None, False)
    assert np.array_equal(decode(read.mask.rle, 40, SIDE), DISC[:40])
    assert (read.label, read.box, annotations.clipped_boxes) == ("nodule", (10, 5, 64, 30), 1)


def test_a_look_alike_may_bring_its_mask_as_a_code(tmp_path: Path) -> None:
    region = Region(rle=encode(DISC), rle_size=(SIDE, SIDE), box=(0, 0, SIDE, 32), look_alike=True)
    annotations = read_annotations(tmp_path, of_regions(region), PICTURE, SIDE, SIDE, 10_000)
    (code,) = annotations.look_alikes
    assert np.array_equal(decode(code, SIDE, SIDE), DISC & (np.arange(SIDE) < 32)[:, None])


@pytest.mark.parametrize(
    ("rle", "size", "message"),
    [
        ("525", (3, 4), "mask_size_differs: mask of 3 x 4, image of 4 x 3 pixels"),
        ("525", (0, 0), "mask_size_differs"),
        ("526", (4, 3), "bad_rle: not the run-length code of a mask of 3 x 4 pixels"),
        ("h\0zzzzzz`", (4, 3), "bad_rle"),
        ("<", (4, 3), "empty_region_mask"),
    ],
)
def test_a_code_that_does_not_fit_its_image_rejects_the_row(
    tmp_path: Path, rle: str, size: tuple[int, int], message: str
) -> None:
    for look_alike in (False, True):
        record = of_regions(Region(label="x", rle=rle, rle_size=size, look_alike=look_alike))
        with pytest.raises(Rejected, match=message):
            read_annotations(tmp_path, record, PICTURE, 4, 3, 10_000)


def test_a_region_has_one_mask_and_a_code_has_its_size() -> None:
    for region in ({"mask": "m.png", "rle": "525", "rle_size": (4, 3)}, {"rle": "525"}):
        with pytest.raises(ValueError, match="a mask's file, or a code with its size"):
            Region(**region)
