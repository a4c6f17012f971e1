"""Run-length codes against the published format and against themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from models.geometry import box_of_mask, mask_iou
from pipelines.masks import decode, encode

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


@pytest.mark.parametrize(
    ("code", "height", "width"), [("525", 4, 4), ("525", 3, 3), ("zzz", 4, 3), ("", 4, 3), ("é", 4, 3)]
)
def test_code_of_another_size_is_refused(code: str, height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"{height} x {width}"):
        decode(code, height, width)


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
