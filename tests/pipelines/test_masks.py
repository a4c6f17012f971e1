"""Run-length codes against the published format and against themselves."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as reference

from models.geometry import Box, box_of_mask, mask_iou
from pipelines.masks import bounding_box, column_runs, decode, encode, encode_runs, largest_ious, normal_code


class WithMask(NamedTuple):
    box: Box
    mask: str | None


masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20), elements=st.booleans())


def test_code_counts_runs_down_the_columns() -> None:
    mask = np.zeros((4, 3), dtype=bool)
    mask[1:3, 1] = True
    # Columns top to bottom: 5 off, 2 on, 5 off. COCO writes a count below 16 as chr(48 + count), from the third count
    # on as the difference to the count two before it: 5, 2, 5, the third kept as it is.
    assert encode(mask) == "525"


@given(masks)
def test_decode_undoes_encode(mask: np.ndarray) -> None:
    decoded = decode(encode(mask), *mask.shape)
    assert decoded.dtype == bool
    assert np.array_equal(decoded, mask)


@given(masks)
def test_the_box_of_a_code_is_that_of_its_mask(mask: np.ndarray) -> None:
    expected = box_of_mask(mask) if mask.any() else (0, 0, 0, 0)
    assert bounding_box(encode(mask), *mask.shape) == expected


@given(masks)
def test_runs_of_columns_are_the_pixels(mask: np.ndarray) -> None:
    again = np.zeros_like(mask)
    runs = column_runs(encode(mask), *mask.shape)
    for column, first, end in runs:
        assert not again[first:end, column].any()
        again[first:end, column] = True
    assert np.array_equal(again, mask)
    assert runs == sorted(runs)


def test_a_run_over_the_end_of_a_column_is_one_in_each() -> None:
    assert column_runs("525", 4, 3) == [(1, 1, 3)]
    # 4 x 3: all pixels but the first and the last.
    assert column_runs(encode_runs([1, 10, 1], 4, 3), 4, 3) == [(0, 1, 4), (1, 0, 4), (2, 0, 3)]


@pytest.mark.parametrize(
    ("code", "height", "width"), [("525", 4, 4), ("525", 3, 3), ("zzz", 4, 3), ("", 4, 3), ("é", 4, 3)]
)
def test_code_of_another_size_is_refused(code: str, height: int, width: int) -> None:
    for read in (decode, bounding_box, column_runs):
        with pytest.raises(ValueError, match=f"{height} x {width}"):
            read(code, height, width)


@pytest.mark.parametrize(
    "code",
    [
        "111111111Q",  # promises another character
        "h\0zzzzzz`" + "`" + "z" * 63,  # an endless number
        "oooooooo0",  # a number of 40 bits
        "\x7f",  # beyond the 64 characters
        "/",  # below them
        "5" * 1000,
        "<1J1",  # 12 pixels in all, with a run of -9
        "0Pn0",
        "é",
        "525\0",
    ],
)
def test_malformed_codes_never_reach_pycocotools(code: str) -> None:
    """Its C code reads, writes and loops beyond them."""
    with pytest.raises(ValueError, match="4 x 3"):
        decode(code, 4, 3)
    with pytest.raises(ValueError, match="4 x 3"):
        column_runs(code, 4, 3)
    region, other = WithMask((0, 0, 2, 2), code), WithMask((0, 0, 2, 2), "525")
    with pytest.raises(ValueError, match="4 x 3"):
        largest_ious([region], [other], 4, 3)


@given(st.one_of(st.text(alphabet=[chr(48 + one) for one in range(64)], max_size=12), st.text(max_size=12)))
def test_any_text_is_the_code_of_a_mask_or_refused(code: str) -> None:
    try:
        mask = decode(code, 4, 3)
    except ValueError:
        return
    assert encode(mask) == code


@given(masks, st.data())
def test_a_changed_code_is_that_of_another_mask_or_refused(mask: np.ndarray, data: st.DataObject) -> None:
    code = list(encode(mask))
    place = data.draw(st.integers(0, len(code) - 1))
    code[place] = data.draw(st.characters(min_codepoint=0, max_codepoint=127))
    try:
        other = decode("".join(code), *mask.shape)
    except ValueError:
        return
    assert encode(other) == "".join(code)


def test_a_code_of_long_runs_is_read() -> None:
    mask = np.zeros((3000, 2000), dtype=bool)
    mask[:, 1990:1995] = True
    assert encode(mask) == reference.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    assert np.array_equal(decode(encode(mask), 3000, 2000), mask)


@given(masks, st.lists(st.integers(0, 400), max_size=4))
def test_runs_give_the_code_that_pixels_give(mask: np.ndarray, splits: list[int]) -> None:
    pixels = mask.flatten(order="F")
    starts = np.flatnonzero(np.diff(pixels, prepend=False))
    runs = np.diff([0, *starts, pixels.size]).tolist()
    for place in splits:  # a run may come in parts, with runs of no pixel between them
        index = place % len(runs)
        first = min(place, runs[index])
        runs[index : index + 1] = [first, 0, runs[index] - first]
    assert encode_runs(runs, *mask.shape) == encode(mask)


@pytest.mark.parametrize(
    "runs", [[], [11], [13], [5, -1, 8], [5, 2.0, 5], [True, 11], [5, "2", 5], [2**70, 12 - 2**70]]
)
def test_runs_of_no_mask_are_refused(runs: list[int]) -> None:
    with pytest.raises(ValueError, match="4 x 3"):
        encode_runs(runs, 4, 3)


def test_a_code_with_runs_of_no_pixel_becomes_the_usual_one() -> None:
    # 5, 2, 0, 0, 5: the fourth and fifth number are 0 - 2 and 5 - 0, written as chr(48 + 32 - 2) and chr(48 + 5).
    unusual = "520N5"
    assert reference.decode({"size": [4, 3], "counts": unusual.encode()}).tolist() == decode("525", 4, 3).tolist()
    assert normal_code(unusual, 4, 3) == "525" == normal_code("525", 4, 3)
    with pytest.raises(ValueError, match="4 x 3"):
        normal_code("520N6", 4, 3)


def test_box_is_exclusive_at_its_far_edges() -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[2:5, 3] = mask[4, 3:8] = True
    assert box_of_mask(mask) == (3, 2, 8, 5)


def test_iou_by_hand() -> None:
    first, second = np.zeros((2, 2, 4), dtype=bool)
    first[0] = True
    second[:, :2] = True
    assert mask_iou(first, second) == pytest.approx(2 / 6)
    assert mask_iou(first & False, second & False) == 0
