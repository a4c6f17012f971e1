"""Masks as text: COCO's compressed run-length codes (RLE), and how much regions with such masks overlap.

A code does not hold the mask's size: `decode` needs the height and width of the image that the mask belongs to.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from models.geometry import Box, Mask, box_ious

_LONGEST_OUTLINE = 10**7  # pixels of one polygon; pycocotools takes about 40 bytes for each
_MAX_CHARACTERS = 7  # of one number: 35 bits, more than any image has pixels
_ZERO = ord("0")


class BoxAndMask(Protocol):
    """Anything with a box and, perhaps, a mask, such as a row of `PROPOSALS`."""

    @property
    def box(self) -> Box: ...

    @property
    def mask(self) -> str | None: ...


def encode(mask: Mask) -> str:
    """A mask as a COCO compressed run-length code (ASCII)."""
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode("ascii")


def decode(rle: str, height: int, width: int) -> Mask:
    """The mask, height x width, of a code that `encode` made.

    Raises:
        ValueError: The code is of a mask of another size, or is no code.
    """
    mask = coco.decode(_checked(rle, height, width)).astype(bool)
    if encode(mask) != rle:
        raise ValueError(f"not the run-length code of a mask of {height} x {width} pixels")
    return mask


def column_runs(rle: str, height: int, width: int) -> list[tuple[int, int, int]]:
    """A mask as the runs of pixels down its columns; nothing is decoded.

    Returns:
        Column, first row and the row after the last of each run; from left to right, and from top to bottom.

    Raises:
        ValueError: The code is of a mask of another size, or is no code.
    """
    found = []
    start = 0
    for number, run in enumerate(_run_list(rle, height, width)):
        if number % 2:
            column, first = divmod(start, height)
            # Pixels are counted down the columns: a run may go on at the top of the next one.
            while (end := start + run - column * height) > height:
                found.append((column, first, height))
                column, first = column + 1, 0
            if end > first:
                found.append((column, first, end))
        start += run
    return found


def encode_runs(runs: Sequence[int], height: int, width: int) -> str:
    """The code of a mask that is given by the lengths of its runs, COCO's uncompressed code.

    Args:
        runs: Pixels outside, inside, outside, ... of the mask, down the columns from the upper left; any may be 0.
        height: Of the mask.
        width: Of the mask.

    Returns:
        The code that `encode` would make of the same mask. Nothing is decoded.

    Raises:
        ValueError: The runs are no whole numbers from 0 on, or are not height x width in all.
    """
    whole = all(isinstance(run, int) and not isinstance(run, bool) for run in runs)
    if not whole or min(runs, default=-1) < 0 or sum(runs) != height * width:
        raise ValueError(f"not the runs of a mask of {height} x {width} pixels")
    return _encode_runs(np.array(runs, dtype=np.int64), height, width)


def encode_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> str:
    """The code of the pixels that some polygons hold together, drawn as pycocotools draws them.

    Args:
        polygons: Each x0, y0, x1, y1, ... in pixels, of three points or more; they may reach over the mask's edge, by
            its width or height at most.
        height: Of the mask.
        width: Of the mask.

    Returns:
        The code; of a polygon without area that of no pixel.

    Raises:
        ValueError: There is no polygon, or one has fewer points, half a point, or points or an outline far outside.
    """
    drawn = []
    for polygon in polygons:
        points = np.array(polygon, dtype=np.float64)
        if points.ndim != 1 or points.size < 6 or points.size % 2:
            raise ValueError("a polygon is a list x0, y0, x1, y1, ... of three points or more")
        points = points.reshape(-1, 2)
        size = np.array([width, height])
        steps = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1)
        # Not finite is neither; pycocotools' C code counts in 32 bits and trusts what it is given.
        if not ((points >= -size) & (points <= 2 * size)).all() or not steps.sum() <= _LONGEST_OUTLINE:
            raise ValueError(f"a polygon reaches far out of a mask of {height} x {width} pixels")
        drawn += coco.frPyObjects([points.ravel().tolist()], height, width)
    if not drawn:
        raise ValueError("no polygon")
    return normal_code(coco.merge(drawn)["counts"].decode("ascii"), height, width)


def normal_code(rle: str, height: int, width: int) -> str:
    """The code that `encode` makes of the mask of another writer's code, which may hold runs of no pixel.

    Raises:
        ValueError: As in `decode`.
    """
    return _encode_runs(_runs(rle, height, width), height, width)


def bounding_box(rle: str, height: int, width: int) -> Box:
    """The smallest box around the mask of a code; all 0 where the mask is empty. Nothing is decoded.

    Raises:
        ValueError: As in `decode`.
    """
    x, y, box_width, box_height = coco.toBbox(_checked(rle, height, width)).tolist()
    return x, y, x + box_width, y + box_height


def largest_ious(
    regions: Sequence[BoxAndMask], others: Sequence[BoxAndMask], height: int, width: int
) -> NDArray[np.float64]:
    """The largest IoU of each region with one of the others: of the masks where both have one, else of the boxes.

    Args:
        regions: Regions of one image.
        others: Regions of the same image, such as the annotated ones.
        height: Of the image.
        width: Of the image.

    Returns:
        Shape (regions,); 0 where there are no others.
    """
    ious = box_ious([region.box for region in regions], [other.box for other in others])
    rows, masks = _codes(regions, height, width)
    columns, other_masks = _codes(others, height, width)
    if rows and columns:
        ious[np.ix_(rows, columns)] = np.nan_to_num(coco.iou(masks, other_masks, [0] * len(other_masks)))
    return ious.max(axis=1, initial=0.0)


def _codes(regions: Sequence[BoxAndMask], height: int, width: int) -> tuple[list[int], list[dict[str, object]]]:
    """Indices of the regions that have a mask, and their masks in pycocotools' form."""
    masked = [(index, region.mask) for index, region in enumerate(regions) if region.mask is not None]
    return [index for index, _ in masked], [_checked(mask, height, width) for _, mask in masked]


def _encode_runs(runs: NDArray[np.int64], height: int, width: int) -> str:
    inside = np.arange(runs.size) % 2 == 1
    runs, inside = runs[runs > 0], inside[runs > 0]
    starts = np.flatnonzero(np.concatenate([[True], inside[1:] != inside[:-1]]))
    lengths = [0] * bool(inside[0]) + np.add.reduceat(runs, starts).tolist()
    counts = coco.frPyObjects({"size": [height, width], "counts": lengths}, height, width)["counts"]
    return counts.decode("ascii")


def _checked(rle: str, height: int, width: int) -> dict[str, object]:
    """A code in pycocotools' form; its C code trusts what it is given and reads and writes beyond a malformed one."""
    _runs(rle, height, width)
    return {"size": [height, width], "counts": rle.encode("ascii")}


def _runs(rle: str, height: int, width: int) -> NDArray[np.int64]:
    """The lengths of a code's runs, some of which may be 0; a text that is no code of so many pixels is an error.

    A character holds 6 bits above '0': five of a number, the lowest first, and one that says that more follow; the
    highest bit of the last five is the sign. From the fourth on, a number is the difference of a run to the one two
    before it.
    """
    pixels = height * width
    refused = f"not the run-length code of a mask of {height} x {width} pixels: "
    if not rle.isascii() or len(rle) > _MAX_CHARACTERS * (pixels + 1):
        raise ValueError(f"{refused}not ASCII, or longer than any")
    characters = np.frombuffer(rle.encode("ascii"), np.uint8).astype(np.int64) - ord("0")
    is_last = characters & 32 == 0
    if not is_last.size or not is_last[-1] or characters.min() < 0 or characters.max() > 63:
        raise ValueError(f"{refused}a character that is none of a code, or its end is missing")
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MAX_CHARACTERS:
        raise ValueError(f"{refused}a number is too long")
    shifts = 5 * (np.arange(characters.size) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((characters & 31) << shifts, starts)
    numbers -= (characters[ends] & 16 != 0) * (1 << 5 * lengths)
    runs = numbers.copy()
    runs[1::2] = np.cumsum(numbers[1::2])
    runs[2::2] = np.cumsum(numbers[2::2])
    if runs.min() < 0 or runs.max() > pixels or runs.sum() != pixels:
        raise ValueError(f"{refused}its runs are not of {pixels} pixels in all")
    return runs


def _run_list(rle: str, height: int, width: int) -> list[int]:
    """What `_runs` gives, character by character: of a short code in a quarter of the time."""
    refused = f"not the run-length code of a mask of {height} x {width} pixels"
    if not rle or min(rle) < "0" or max(rle) > "o":
        raise ValueError(refused)
    runs: list[int] = []
    number = shift = 0
    for character in rle.encode("ascii"):
        bits = character - _ZERO
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            if shift == 5 * _MAX_CHARACTERS:
                raise ValueError(refused)
            continue
        if bits & 16:
            number -= 1 << shift
        if len(runs) > 2:
            number += runs[-2]
        runs.append(number)
        number = shift = 0
    if shift or min(runs) < 0 or sum(runs) != height * width:
        raise ValueError(refused)
    return runs
