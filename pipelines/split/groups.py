"""Joins images into groups that must not be torn apart: one patient, or one image.

What joins is what somebody wrote down (patient, study, the file that slices come from) and pixels that carry
information. Those of a near-uniform image join nothing: an empty slice looks the same in every patient.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.split.pairs import joined


def group_names(rows: pd.DataFrame, pairs: pd.DataFrame) -> NDArray[np.uint64]:
    """The group of every row.

    Rows are in one group when a chain of these joins them: same image, same patient or file of the same source, same
    study, same bytes or pixels (unless near-uniform), near-duplicates.

    Args:
        rows: As `pipelines.split.rows.ReadRows.rows`; an image may occur once a source.
        pairs: Near-duplicates: columns image and other.

    Returns:
        The numbers of the images after which groups are called. It is the smallest image_id of the group's first
        source, so that a source listed later renames no group of an earlier one unless it joins two of them.
    """
    images, image = np.unique(rows["image"].to_numpy(), return_inverse=True)
    groups = np.arange(len(images))
    for left, right in _links(rows, image):
        groups = joined(groups, left, right)
    groups = joined(groups, np.searchsorted(images, pairs["image"]), np.searchsorted(images, pairs["other"]))
    of_row = groups[image]
    order = np.lexsort((rows["image"], rows["source"]))
    found, first = np.unique(of_row[order], return_index=True)
    return rows["image"].to_numpy()[order[first]][np.searchsorted(found, of_row)]


def _links(rows: pd.DataFrame, image: NDArray[np.int64]) -> Iterator[tuple[NDArray, NDArray]]:
    """Images that share something, of each kind: every image with the next one that has the same."""
    informative = ~rows["near_uniform"].to_numpy()
    for kind in ("pixels", "bytes", "file", "patient", "study"):
        names = rows[kind].to_numpy()
        of_kind = np.flatnonzero((names != 0) & (informative | (kind not in ("pixels", "bytes"))))
        of_kind = of_kind[np.argsort(names[of_kind], kind="stable")]
        same = names[of_kind[1:]] == names[of_kind[:-1]]
        yield image[of_kind[:-1][same]], image[of_kind[1:][same]]
