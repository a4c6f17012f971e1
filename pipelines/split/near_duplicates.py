"""Finds pairs of images that show the same image: near in perceptual hash, confirmed by their thumbnails.

Every hash is compared with every other one, in blocks, so that memory stays flat; 20,000 images take seconds. What it
finds is an image resized, recompressed, squashed to another aspect ratio, slightly cropped or changed in contrast.
Mirrored, rotated and strongly cropped copies are not found.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.records import NEAR_DUPLICATES
from pipelines.split.config import NearDuplicates
from pipelines.stage import progress

ROWS, COLUMNS = 128, 4096  # hashes a block: 4 MiB of differing words
CANDIDATES = 4096  # pairs whose thumbnails are compared at once: 64 MiB


def find(images: pd.DataFrame, config: NearDuplicates) -> pd.DataFrame:
    """All near-duplicate pairs among the images.

    Args:
        images: Rows of the table `images`, one per `image_id`.
        config: Thresholds.

    Returns:
        Columns of the table `near duplicates`, with image_id < other_id, sorted by both.
    """
    if images.empty:
        return NEAR_DUPLICATES.frame(())
    images = images.sort_values("image_id", ignore_index=True)
    words = hash_words(images["perceptual_hash"].tolist())
    thumbnails = np.frombuffer(b"".join(images["thumbnail"]), dtype=np.uint8).reshape(len(images), -1)
    found: list[tuple[NDArray, NDArray, NDArray, NDArray]] = []
    for left, right, distance in close_pairs(words, config.max_distance):
        for start in range(0, len(left), CANDIDATES):
            part = slice(start, start + CANDIDATES)
            correlation = pearson(thumbnails[left[part]], thumbnails[right[part]])
            same = correlation >= config.min_correlation
            found.append((left[part][same], right[part][same], distance[part][same], correlation[same]))
    if not found:
        return NEAR_DUPLICATES.frame(())
    left, right, distance, correlation = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    ids, sources = images["image_id"], images["source"]
    return pd.DataFrame(
        {
            "image_id": ids.take(left).array,
            "other_id": ids.take(right).array,
            "source": sources.take(left).array,
            "other_source": sources.take(right).array,
            "distance": pd.Series(distance[order]).astype("int64[pyarrow]"),
            "correlation": pd.Series(correlation[order]).astype("double[pyarrow]"),
        }
    )


def hash_words(hashes: list[str]) -> NDArray[np.uint64]:
    """256-bit hashes, each 64 hex digits, as n x 4 words."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(-1, 4)


def close_pairs(words: NDArray[np.uint64], max_distance: int) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Pairs of hashes that differ in at most `max_distance` bits.

    Args:
        words: n x 4 words of 64 bits.
        max_distance: 0 to 256.

    Yields:
        Rows i, rows j (i < j) and Hamming distances, a block at a time.
    """
    count = len(words)
    blocks = [(row, column) for row in range(0, count, ROWS) for column in range(row, count, COLUMNS)]
    by_word = np.ascontiguousarray(words.T)
    for row, column in progress(blocks, "split: comparing hashes (blocks)"):
        # uint16, for the distance of two opposite hashes, 256, would wrap round to 0 in the counts' own uint8.
        distance = np.zeros((min(ROWS, count - row), min(COLUMNS, count - column)), dtype=np.uint16)
        for word in by_word:
            distance += np.bitwise_count(word[row : row + ROWS, None] ^ word[None, column : column + COLUMNS])
        i, j = np.nonzero(distance <= max_distance)
        above = i + row < j + column
        i, j = i[above], j[above]
        if len(i):
            yield i + row, j + column, distance[i, j].astype(np.int64)


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
