from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from split_workspace import image_row, jpeg, picture, png

from pipelines.split.close_hashes import EXHAUSTIVE, SearchPlan, close_pairs, tables_needed
from pipelines.split.config import NearDuplicates
from pipelines.split.near_duplicates import find, hash_words, pearson
from pipelines.split.pairs import FoundPairs

BLOCKS = SearchPlan(bits=0, tables=1)
CONFIG = NearDuplicates(max_distance=48, min_correlation=0.93)


def found(words: np.ndarray, max_distance: int, plan: SearchPlan = BLOCKS) -> dict[tuple[int, int], int]:
    return {
        (int(i), int(j)): int(d)
        for left, right, distance in close_pairs(words, max_distance, plan, FoundPairs(len(words)))
        for i, j, d in zip(left, right, distance, strict=True)
    }


def searched(rows: list[dict[str, Any]], config: NearDuplicates = CONFIG) -> pd.DataFrame:
    """The pairs among rows of the table of images, whose places are those by image_id."""
    rows = sorted(rows, key=lambda row: row["image_id"])
    thumbnails = np.stack([np.frombuffer(row["thumbnail"], dtype=np.uint8) for row in rows])
    return find(hash_words([row["perceptual_hash"] for row in rows]), thumbnails.__getitem__, config)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 2**12 - 1), min_size=1, max_size=40),
    st.integers(0, 14),
    st.integers(0, 243),
)
def test_distances_equal_those_of_whole_numbers(values: list[int], max_distance: int, shift: int) -> None:
    numbers = [value << shift for value in values]
    expected = {
        (i, j): (numbers[i] ^ numbers[j]).bit_count()
        for i in range(len(numbers))
        for j in range(i + 1, len(numbers))
        if (numbers[i] ^ numbers[j]).bit_count() <= max_distance
    }
    assert found(hash_words([f"{number:064x}" for number in numbers]), max_distance) == expected


def test_pairs_on_both_sides_of_block_borders_are_found() -> None:
    words = np.random.default_rng(0).integers(0, 2**64, size=(4300, 4), dtype=np.uint64)
    planted = {(0, 4299): 1, (127, 128): 2, (4095, 4096): 3, (130, 4223): 4, (100, 4101): 5, (4224, 4298): 0}
    for (i, j), distance in planted.items():
        words[j] = words[i] ^ np.array([0, 0, 0, (1 << distance) - 1], dtype=np.uint64)
    assert found(words, 48) == planted


def test_opposite_hashes_are_256_bits_apart() -> None:
    words = np.array([[0] * 4, [2**64 - 1] * 4], dtype=np.uint64)
    assert found(words, 255) == {}
    assert found(words, 256) == {(0, 1): 256}


def test_correlation_equals_numpy() -> None:
    left, right = np.random.default_rng(1).integers(0, 256, size=(2, 6, 1024), dtype=np.uint8)
    right[0], right[1] = left[0], 255 - left[1]
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(left, right, strict=True)]
    np.testing.assert_allclose(pearson(left, right), expected, atol=1e-12)
    assert expected[0] == pytest.approx(1)
    assert expected[1] == pytest.approx(-1)


def test_correlation_of_flat_pictures() -> None:
    flat = np.full((3, 1024), 7, dtype=np.uint8)
    other = np.stack([flat[0], flat[1] + 1, np.arange(1024).astype(np.uint8)])
    assert pearson(flat, other).tolist() == [1, 0, 0]


def test_finds_resized_squashed_recompressed_and_brightened_copies_only() -> None:
    original = picture(1)
    copies = {
        "original": png(original),
        "small": png(original.resize((60, 60), Image.Resampling.LANCZOS)),
        "squashed": png(original.resize((96, 70), Image.Resampling.LANCZOS)),
        "recompressed": jpeg(original, quality=40),
        "brighter": png(original.point(lambda grey: grey // 2 + 100)),
    }
    others = {
        "another": png(picture(2)),
        "mirrored": png(ImageOps.mirror(original)),
        "negative": png(ImageOps.invert(original)),
    }
    rows = [image_row("one", data, name) for name, data in {**copies, **others}.items()]
    names = [row["path"] for row in sorted(rows, key=lambda row: row["image_id"])]
    pairs = searched(rows)
    ends = [{names[a], names[b]} for a, b in zip(pairs["left"], pairs["right"], strict=True)]
    assert len(ends) == len(copies) * (len(copies) - 1) // 2
    assert set.union(*ends) == set(copies)
    assert (pairs["left"] < pairs["right"]).all()
    assert pairs.equals(pairs.sort_values(["left", "right"], ignore_index=True))


def test_both_thresholds_hold() -> None:
    rows = [image_row("one", png(picture(1))), image_row("one", jpeg(picture(1), quality=20))]
    (pair,) = searched(rows).itertuples()
    assert pair.distance > 0
    assert pair.correlation < 1
    at = NearDuplicates(max_distance=pair.distance, min_correlation=pair.correlation)
    assert len(searched(rows, at)) == 1
    assert searched(rows, NearDuplicates(max_distance=pair.distance - 1, min_correlation=pair.correlation)).empty
    above = np.nextafter(pair.correlation, 2)
    assert searched(rows, NearDuplicates(max_distance=pair.distance, min_correlation=above)).empty


def variants(seed: int) -> list[bytes]:
    """A picture, and three files that show it."""
    original = picture(seed)
    small = original.resize((40 + seed % 30, 60), Image.Resampling.LANCZOS)
    dark = original.point(lambda grey: grey // 3)
    return [png(original), jpeg(original, quality=20 + seed % 60), png(small), png(dark)]


def test_real_thumbnails_give_the_pairs_of_a_search_over_all() -> None:
    rows = [image_row("one", data) for seed in range(60) for data in variants(seed)]
    rows.sort(key=lambda row: row["image_id"])
    hashes = [int(row["perceptual_hash"], 16) for row in rows]
    correlation = np.corrcoef([np.frombuffer(row["thumbnail"], dtype=np.uint8) for row in rows])
    close = {
        (i, j): (hashes[i] ^ hashes[j]).bit_count()
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
        if (hashes[i] ^ hashes[j]).bit_count() <= CONFIG.max_distance
    }
    expected = [
        (i, j, distance, pytest.approx(correlation[i, j], abs=1e-9))
        for (i, j), distance in close.items()
        if correlation[i, j] >= CONFIG.min_correlation
    ]
    assert 300 < len(expected) <= 60 * 6
    pairs = searched(rows)
    columns = (pairs[name] for name in ("left", "right", "distance", "correlation"))
    assert list(zip(*columns, strict=True)) == expected
    plan = SearchPlan(bits=8, tables=tables_needed(8, CONFIG.max_distance))
    assert found(hash_words([row["perceptual_hash"] for row in rows]), CONFIG.max_distance, plan) == close


def test_more_images_than_are_compared_one_by_one() -> None:
    """Near hashes with and without like thumbnails, among random ones, and a crowd of copies."""
    rng = np.random.default_rng(7)
    count = EXHAUSTIVE + 200
    words = rng.integers(0, 2**64, size=(count, 4), dtype=np.uint64)
    thumbnails = rng.integers(0, 256, size=(count, 1024), dtype=np.uint8)
    crowd = np.arange(count - 150, count)
    words[crowd], thumbnails[crowd] = words[crowd[0]], thumbnails[crowd[0]]
    expected = []
    for number in range(98):
        # Pairs at 0 to 48 bits; the thumbnails of every other one have nothing to do with each other.
        image, copy = 2 * number, 2 * number + 1
        flips = np.zeros(256, dtype=np.uint8)
        flips[rng.choice(256, number // 2, replace=False)] = 1
        words[copy] = words[image] ^ np.packbits(flips).view(np.uint64)
        if number % 2:
            thumbnails[copy] = thumbnails[image] // 2
            expected.append((image, copy, number // 2))
    pairs = find(words, thumbnails.__getitem__, CONFIG)
    in_crowd = pairs["left"] >= crowd[0]
    others = pairs[~in_crowd]
    assert list(zip(others["left"], others["right"], others["distance"], strict=True)) == expected
    assert set(pairs.loc[in_crowd, "left"]) | set(pairs.loc[in_crowd, "right"]) == set(crowd)


def test_without_images_there_are_no_pairs() -> None:
    empty = np.empty((0, 1024), dtype=np.uint8)
    assert find(np.empty((0, 4), dtype=np.uint64), empty.__getitem__, CONFIG).empty
