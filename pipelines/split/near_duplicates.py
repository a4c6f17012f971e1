"""Finds pairs of images that show the same image: near in perceptual hash, confirmed by their thumbnails.

Up to 20,000 images every hash is compared with every other one; beyond, a pair at the largest distance is missed with
a probability of a millionth, and nearer ones far more rarely (`pipelines.split.close_hashes`). Memory grows with the
images, not with the pairs: of an image with more than 32 near-duplicates some pairs may be left out, but none without
which its group would fall apart (`pipelines.split.pairs`).

What it finds is an image resized, recompressed, squashed to another aspect ratio, slightly cropped or changed in
contrast. Mirrored, rotated and strongly cropped copies are not found.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.records import NEAR_DUPLICATES
from pipelines.split.close_hashes import choose_plan, close_pairs
from pipelines.split.config import NearDuplicates
from pipelines.split.pairs import FoundPairs

AT_ONCE = 4096  # thumbnails that are copied at once


def find(images: pd.DataFrame, config: NearDuplicates) -> pd.DataFrame:
    """All near-duplicate pairs among the images; of those with more than `pipelines.split.pairs.LISTED`, enough.

    Args:
        images: Rows of the table `images`, one per `image_id`.
        config: Thresholds.

    Returns:
        Columns of the table `near duplicates`, with image_id < other_id, sorted by both.
    """
    if images.empty:
        return NEAR_DUPLICATES.frame(())
    order = images["image_id"].argsort().to_numpy()
    thumbnails = _stacked(images["thumbnail"], order)
    words = hash_words(images["perceptual_hash"].take(order).tolist())
    plan = choose_plan(words, config.max_distance)
    pairs = FoundPairs(len(images))
    for left, right, distance in close_pairs(words, config.max_distance, plan, pairs):
        correlation = pearson(thumbnails[left], thumbnails[right])
        same = correlation >= config.min_correlation
        pairs.add(left[same], right[same], distance[same], correlation[same])
    left, right, distance, correlation = pairs.columns()
    if not len(left):
        return NEAR_DUPLICATES.frame(())
    ids, sources = images["image_id"].take(order), images["source"].take(order)
    return pd.DataFrame(
        {
            "image_id": ids.take(left).array,
            "other_id": ids.take(right).array,
            "source": sources.take(left).array,
            "other_source": sources.take(right).array,
            "distance": pd.Series(distance).astype("int64[pyarrow]"),
            "correlation": pd.Series(correlation).astype("double[pyarrow]"),
        }
    )


def hash_words(hashes: list[str]) -> NDArray[np.uint64]:
    """256-bit hashes, each 64 hex digits, as n x 4 words."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(-1, 4)


def _stacked(thumbnails: pd.Series, order: NDArray) -> NDArray[np.uint8]:
    """Thumbnails as n x pixels, in another order; the column's bytes are copied a block at a time."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    stacked = np.empty((len(order), len(thumbnails.iloc[0])), dtype=np.uint8)
    for start in range(0, len(order), AT_ONCE):
        block = thumbnails.iloc[start : start + AT_ONCE]
        pixels = np.frombuffer(b"".join(block), dtype=np.uint8)
        stacked[places[start : start + AT_ONCE]] = pixels.reshape(len(block), -1)
    return stacked


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
