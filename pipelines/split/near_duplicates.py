"""Finds pairs of images that show the same image: near in perceptual hash, confirmed by their thumbnails.

Up to 20,000 images every hash is compared with every other one; beyond, a pair at the largest distance is missed with
a probability of a millionth, and nearer ones far more rarely (`pipelines.split.close_hashes`). Memory grows with the
images, not with the pairs: of an image with more than 32 near-duplicates some pairs may be left out, but none without
which its group would fall apart (`pipelines.split.pairs`).

What it finds is an image resized, recompressed, squashed to another aspect ratio, slightly cropped or changed in
contrast. Mirrored, rotated and strongly cropped copies are not found.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.split.close_hashes import choose_plan, close_pairs
from pipelines.split.config import NearDuplicates
from pipelines.split.pairs import FoundPairs

AT_ONCE = 256  # pairs whose thumbnails are compared at once: caches hold them


def find(
    words: NDArray[np.uint64], thumbnails: Callable[[NDArray[np.int64]], NDArray[np.uint8]], config: NearDuplicates
) -> pd.DataFrame:
    """All near-duplicate pairs among some images; of those with more than `pipelines.split.pairs.LISTED`, enough.

    Args:
        words: Perceptual hashes of the images, by image_id, n x 4 words of 64 bits.
        thumbnails: Gives the thumbnails of some of these rows, rows x pixels.
        config: Thresholds.

    Returns:
        Columns left and right (rows of `words`, left < right), distance (bits) and correlation, sorted by left and
        right.
    """
    pairs = FoundPairs(len(words))
    plan = choose_plan(words, config.max_distance)
    for left, right, distance in close_pairs(words, config.max_distance, plan, pairs):
        starts = range(0, len(left), AT_ONCE)
        parts = [(left[start : start + AT_ONCE], right[start : start + AT_ONCE]) for start in starts]
        correlation = np.concatenate([pearson(thumbnails(some), thumbnails(others)) for some, others in parts])
        same = correlation >= config.min_correlation
        pairs.add(left[same], right[same], distance[same], correlation[same])
    return pd.DataFrame(dict(zip(("left", "right", "distance", "correlation"), pairs.columns(), strict=True)))


def hash_words(hashes: list[str]) -> NDArray[np.uint64]:
    """256-bit hashes, each 64 hex digits, as n x 4 words."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(-1, 4)


def pearson(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Correlation of each row of `left` with the same row of `right` (both n x pixels), -1 to 1.

    An image of one grey level has no correlation: such a pair gets 1 where both are equal, else 0.
    """
    a, b = left.astype(np.float64), right.astype(np.float64)
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    norm = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    flat = norm == 0
    correlation = (a * b).sum(axis=1) / np.where(flat, 1, norm)
    return np.where(flat, (left == right).all(axis=1), correlation.clip(-1, 1))
