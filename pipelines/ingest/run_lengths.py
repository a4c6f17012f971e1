"""Run-length codes of Kaggle's SIIM-ACR competition.

`offset length offset length ...`: an offset counts the pixels from the end of the run before it (of the first run, from
the image's first pixel), down the columns and from left to right.

Reason code of `Rejected`: bad_rle.
"""

import re

import numpy as np

from models.geometry import Mask
from pipelines.errors import Rejected

_CODE = re.compile(r"[0-9]{1,9}(?:\s+[0-9]{1,9})*")


def decode_relative(code: str, width: int, height: int) -> Mask:
    """The mask, height x width, of a code with relative offsets.

    Raises:
        Rejected: The code is none, a run is empty, or the runs lead beyond the image.
    """
    if not _CODE.fullmatch(code.strip()):
        raise Rejected("bad_rle", "the code is no list of whole numbers of at most 9 digits")
    runs = np.array(code.split(), dtype=np.int64)
    if runs.size % 2:
        raise Rejected("bad_rle", f"{runs.size} numbers, which are no pairs of offset and length")
    if not runs[1::2].all():
        raise Rejected("bad_rle", "a run of no pixels")
    pixels = width * height
    if runs.sum() > pixels:
        raise Rejected("bad_rle", f"runs up to pixel {runs.sum()} of an image of {width} x {height} pixels")
    values = np.repeat(np.arange(runs.size) % 2 == 1, runs)
    return np.pad(values, (0, pixels - values.size)).reshape(width, height).T
