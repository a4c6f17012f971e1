"""Which images of a source are read, and in which order."""

import numpy as np
from numpy.typing import NDArray

from pipelines.ingest.listed_rows import ListedRows
from pipelines.ingest.merged import PROTECTION

Images = NDArray[np.intp]  # numbers of images, as `ListedRows` counts them


def select(rows: ListedRows, limit: int | dict[str, int] | None) -> Images:
    """The images that `limit` leaves, in the order of the listing: those with the smallest hashes of their names."""
    by_hash = np.argsort(rows.names, kind="stable")
    if not isinstance(limit, dict):
        return np.sort(by_hash[:limit])
    splits = rows.splits[by_hash]
    chosen = [by_hash[splits == place][: limit.get(split or "")] for place, split in enumerate(PROTECTION)]
    return np.sort(np.concatenate(chosen))


def file_by_file(rows: ListedRows, images: Images) -> Images:
    """The images of one file together, so that it is opened once; files in the order of the listing."""
    _, first, file = np.unique(rows.files[images], return_index=True, return_inverse=True)
    return images[np.argsort(first[file], kind="stable")]


def by_split(rows: ListedRows, images: Images) -> dict[str, int]:
    """How many images the source has in each split; those in none under `none`."""
    counts = np.bincount(rows.splits[images], minlength=len(PROTECTION)).tolist()
    return dict(sorted((split or "none", count) for split, count in zip(PROTECTION, counts, strict=True) if count))
