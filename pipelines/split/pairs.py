"""The near-duplicates found so far: the pairs, how many each image has, and which images they join.

Of thousands of copies of one image every two are a pair, and all pairs together grow with the square of the copies. The
split needs no more than who belongs together. So a pair need not be listed where both of its images have `LISTED` pairs
and a chain of listed pairs joins them: it is settled.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

LISTED = 32


class FoundPairs:
    """Pairs of images, added a block at a time.

    Args:
        images: How many images there are; they are called by their row, from 0.
    """

    def __init__(self, images: int) -> None:
        self._listed = np.zeros(images, dtype=np.int64)
        self._group = np.arange(images)
        self._blocks: list[tuple[NDArray, NDArray, NDArray, NDArray]] = []
        self._joined = 0  # blocks that `_group` knows of: it is needed for images of many pairs alone

    def add(self, left: NDArray, right: NDArray, distance: NDArray, correlation: NDArray) -> None:
        """Add pairs that are not among those so far."""
        self._blocks.append((left, right, distance, correlation))
        np.add.at(self._listed, left, 1)
        np.add.at(self._listed, right, 1)

    def settled(self, left: NDArray, right: NDArray) -> NDArray[np.bool_]:
        """Which pairs of a row of `left` and the same of `right` need not be listed."""
        full = (self._listed[left] >= LISTED) & (self._listed[right] >= LISTED)
        if full.any():
            groups = self._groups()
            full &= groups[left] == groups[right]
        return full

    def unsettled(self, images: NDArray) -> NDArray[np.bool_]:
        """Which of some images must be compared with all of them, so that every two of the rest are settled."""
        full = self._listed[images] >= LISTED
        if full.any():
            groups = self._groups()[images]
            names, sizes = np.unique(groups[full], return_counts=True)
            full &= groups == names[sizes.argmax()]
        return ~full

    def columns(self) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Rows i, rows j, distances and correlations of all pairs, sorted by i and j."""
        columns = zip(*self._blocks, strict=True) if self._blocks else [[np.empty(0, dtype=np.int64)]] * 4
        left, right, distance, correlation = (np.concatenate(column) for column in columns)
        order = np.lexsort((right, left))
        return left[order], right[order], distance[order], correlation[order]

    def _groups(self) -> NDArray:
        """One number for each image, the same for those that a chain of pairs joins."""
        new = self._blocks[self._joined :]
        self._joined = len(self._blocks)
        if new:
            left, right = (np.concatenate([block[end] for block in new]) for end in (0, 1))
            self._group = joined(self._group, left, right)
        return self._group


def joined(groups: NDArray, left: NDArray, right: NDArray) -> NDArray:
    """The groups of some rows after those of each row of `left` and the same of `right` became one.

    Args:
        groups: A number for each row, from 0 to the number of rows - 1.
        left: Rows.
        right: As many rows.
    """
    one, other = groups[left], groups[right]
    apart = one != other
    if not apart.any():
        return groups
    ends = one[apart], other[apart]
    graph = coo_array((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(len(groups), len(groups)))
    return connected_components(graph, directed=False)[1][groups]
