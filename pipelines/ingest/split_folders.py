"""The folders of a data set that are called by a word for a split, such as `train` and `Validation`."""

from collections.abc import Iterable, Mapping

from pipelines.errors import Rejected, UserError
from pipelines.ingest.record import split_of
from pipelines.records import SPLITS


def split_folders(folders: Iterable[str]) -> dict[str, str]:
    """Folder -> split of those that `pipelines.ingest.record.split_of` knows, in order of their names.

    Raises:
        UserError: Two of them are called by words for one split.
    """
    found: dict[str, str] = {}
    for folder in sorted(set(folders)):
        try:
            split = split_of(folder)
        except Rejected:
            continue
        if split is None:
            continue
        if other := [name for name, known in found.items() if known == split]:
            raise UserError(
                f"the folders {other[0]} and {folder} both mean {split}: say in options.splits which is used"
            )
        found[folder] = split
    return found


def check_splits(splits: Mapping[str, str | None]) -> None:
    """Check an adapter's `options.splits`, folder -> split or null; `ValueError` that lists the right words."""
    if wrong := sorted({str(split) for split in splits.values()} - {*SPLITS, "None"}):
        raise ValueError(f"splits: {', '.join(wrong)} is no split: choose from {', '.join(SPLITS)} or null")
