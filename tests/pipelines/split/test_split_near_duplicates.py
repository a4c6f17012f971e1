import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from split_workspace import image_row, jpeg, picture, png

from pipelines.records import IMAGES
from pipelines.split.config import NearDuplicates
from pipelines.split.near_duplicates import close_pairs, find, hash_words, pearson

CONFIG = NearDuplicates(max_distance=48, min_correlation=0.93)


def found(words: np.ndarray, max_distance: int) -> dict[tuple[int, int], int]:
    return {
        (int(i), int(j)): int(d)
        for left, right, distance in close_pairs(words, max_distance)
        for i, j, d in zip(left, right, distance, strict=True)
    }


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
    names = {row["image_id"]: row["path"] for row in rows}
    pairs = find(IMAGES.frame(IMAGES.row(**row) for row in rows), CONFIG)
    ends = [{names[a], names[b]} for a, b in zip(pairs["image_id"], pairs["other_id"], strict=True)]
    assert len(ends) == len(copies) * (len(copies) - 1) // 2
    assert set.union(*ends) == set(copies)
    assert (pairs["image_id"] < pairs["other_id"]).all()
    assert pairs.equals(pairs.sort_values(["image_id", "other_id"], ignore_index=True))


def test_both_thresholds_hold() -> None:
    rows = [image_row("one", png(picture(1))), image_row("one", jpeg(picture(1), quality=20))]
    frame = IMAGES.frame(IMAGES.row(**row) for row in rows)
    (pair,) = find(frame, CONFIG).itertuples()
    assert pair.distance > 0
    assert pair.correlation < 1
    at = NearDuplicates(max_distance=pair.distance, min_correlation=pair.correlation)
    assert len(find(frame, at)) == 1
    assert find(frame, NearDuplicates(max_distance=pair.distance - 1, min_correlation=pair.correlation)).empty
    above = np.nextafter(pair.correlation, 2)
    assert find(frame, NearDuplicates(max_distance=pair.distance, min_correlation=above)).empty
