"""CheXpert (Irvin et al., arXiv:1901.07031), as published and as the small copy.

    {train,valid,test}.csv                          a row an image: Path, Sex, Age, Frontal/Lateral, AP/PA, 14 labels
    train/patient00001/study1/view1_frontal.jpg     images

The root is the folder that holds the listings, or the one above it; at least one listing is there. `Path` begins with
the name of the published folder (`CheXpert-v1.0-small/train/...`), whatever the folder is called here.

Choices:
- `No Finding` is no finding; where it is not 1 and no label is either, nobody said.
- Sex, where it is known, age and projection (AP or PA) are attributes. There are no reports.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipelines.archives import list_files
from pipelines.config import parse
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.ingest import cells, chexpert_labels
from pipelines.ingest.present import PresentImages
from pipelines.ingest.record import SourceRecord, UnusableRow, view_of
from pipelines.ingest.tables import Listings
from pipelines.storage import Root

LISTINGS = {"train.csv": "train", "valid.csv": "validation", "test.csv": "test"}
FOLDERS = ("CheXpert-v1.0", "CheXpert-v1.0-small")

_PATH = re.compile(r"(?:CheXpert-v1\.0[^/]*/)?((?:train|valid|test)/(patient[0-9]+)/study[0-9]+/[^/]+)")
_ATTRIBUTES = {"Sex": "sex", "Age": "age", "AP/PA": "projection"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter.

    Attributes:
        uncertain: What -1 is.
        only_present: Leave out, and count, rows whose image is not there, instead of rejecting them.
    """

    uncertain: chexpert_labels.Uncertain = "missing"
    only_present: bool = False


def _path(cell: Any) -> tuple[str, str]:
    """The file, in the folder of the listings, and the patient."""
    found = _PATH.fullmatch(cells.text(cell, "Path") or "")
    if found is None:
        raise Rejected("missing_file_name", "Path is not as train/patient00001/study1/view1_frontal.jpg")
    return found.group(1), found.group(2)


def _attribute(cell: Any, column: str) -> str | None:
    word = cells.text(cell, column)
    return None if word is None or word.strip().casefold() == "unknown" else word.strip()


_READERS: dict[str, Callable[[Any], Any]] = {
    "Path": lambda cell: _path(cell)[0],
    "Frontal/Lateral": lambda cell: view_of(cells.text(cell, "Frontal/Lateral"), "Frontal/Lateral"),
    **{column: partial(_attribute, column=column) for column in _ATTRIBUTES},
}


class Chexpert:
    """One record a row of the listings.

    Attributes:
        listings: The listings, and what was read of them.
        warnings: How many rows of missing images were left out.
        readers: Column -> what its cells mean.
    """

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")
        self._folder, self._names = _find_listings(root)
        self.listings = Listings(root)
        self.warnings: list[str] = []
        self.readers = _READERS | chexpert_labels.readers(self._options.uncertain)

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        present = PresentImages(self._root, self._options.only_present)
        for listing in self._names:
            name = posixpath.join(self._folder, listing)
            for item in self.listings.rows(name, needed=[*_READERS, *chexpert_labels.LABELS]):
                if isinstance(item, UnusableRow):
                    yield item
                    continue
                place, row = item
                image = None
                try:
                    with item_boundary("bad_row"):
                        file, patient = _path(row["Path"])
                        image = posixpath.join(self._folder, file)
                        if present.takes(image):
                            yield self._record(place, image, LISTINGS[listing], patient, row)
                except Rejected as error:
                    yield UnusableRow(row=place, path=image, reason=error.reason, detail=error.detail)
        self.warnings = present.warnings()

    def _record(self, place: str, image: str, split: str, patient: str, row: dict[str, Any]) -> SourceRecord:
        attributes = {name: _READERS[column](row[column]) for column, name in _ATTRIBUTES.items()}
        return SourceRecord(
            row=place,
            name=image,
            split=split,
            patient=patient,
            modality="radiograph",
            view=_READERS["Frontal/Lateral"](row["Frontal/Lateral"]),
            labels=chexpert_labels.labels_of(row, self._options.uncertain),
            attributes={name: value for name, value in attributes.items() if value is not None},
        )


def _find_listings(root: Root) -> tuple[str, list[str]]:
    """The folder that holds the listings, and which of them it holds."""
    found = {}
    for folder in ("", *FOLDERS):
        here = {posixpath.basename(name) for name in list_files(root, folder)}
        if names := [name for name in LISTINGS if name in here]:
            found[folder] = names
    if not found:
        raise UserError(f"{root} has no {', '.join(LISTINGS)}, and no folder {' or '.join(FOLDERS)} with one of them")
    if len(found) > 1:
        raise UserError(f"{root} holds {' and '.join(name or 'listings itself' for name in found)}: name one as root")
    return next(iter(found.items()))
