"""SIIM-ACR's Pneumothorax Segmentation (Kaggle, 2019): chest radiographs with run-length masks of pneumothoraces.

    train-rle.csv                                       a row a mask: ImageId, EncodedPixels; -1 where there is none
    dicom-images-train/<study>/<series>/<ImageId>.dcm   or flat: dicom-images-train/<ImageId>.dcm
    dicom-images-test/...                               of which nothing is said

Choices:
- Several rows of an image are one mask, the union of theirs (`pipelines.ingest.run_lengths`). An image with a row that
  cannot be used is rejected as a whole.
- -1 says that there is no pneumothorax, and nothing of other findings: labels are null, unless options.negative says
  otherwise.
- Images may be PNG or JPEG copies of the same stems, of 1024 x 1024 pixels as published, for masks are given in these.
- All images are frontal. The patient is the PatientID of the DICOM header. The set publishes no split: its test images
  have no masks, and all images are dealt out by `pipelines.split`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from models.geometry import Mask
from pipelines.config import parse
from pipelines.errors import Rejected
from pipelines.ingest import cells
from pipelines.ingest.images_by_stem import images_by_stem, listed_images, unlisted_images
from pipelines.ingest.record import Region, SourceRecord, UnusableRow
from pipelines.ingest.row_groups import group_rows, read_rows
from pipelines.ingest.run_lengths import decode_relative
from pipelines.ingest.tables import Listings, Row
from pipelines.masks import encode
from pipelines.storage import Root

_WIDTH, _HEIGHT = 1024, 1024
_NONE = "-1"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter.

    Attributes:
        listing: The table of masks.
        images: Folder or archive of the images that it names.
        test_images: Folder or archive of the others, which may be missing.
        label: What the masks mark.
        negative: What -1 says of the image's findings: unknown, or no_finding, where the only question asked of the
            data is whether there is a pneumothorax.
    """

    listing: str = "train-rle.csv"
    images: str = "dicom-images-train"
    test_images: str = "dicom-images-test"
    label: str = "pneumothorax"
    negative: Literal["unknown", "no_finding"] = "unknown"


def _identifier(cell: Any) -> str:
    identifier = cells.identity(cell, "ImageId")
    if identifier is None:
        raise Rejected("missing_file_name", "ImageId is missing")
    return identifier


def _mask(cell: Any) -> Mask | None:
    """The mask of a cell; None where it says that there is none."""
    code = cells.text(cell, "EncodedPixels")
    if code is None:
        raise Rejected("bad_rle", "EncodedPixels is missing: -1 says that there is no mask")
    return None if code.strip() == _NONE else decode_relative(code, _WIDTH, _HEIGHT)


def _in_words(cell: Any) -> str:
    mask = _mask(cell)
    return "no mask" if mask is None else f"{np.count_nonzero(mask)} pixels"


class SiimPneumothorax:
    """One record an image.

    Attributes:
        listings: The table of masks, and what was read of it.
        readers: Column -> what its cells mean.
    """

    readers: ClassVar[dict[str, Callable[[Any], Any]]] = {"ImageId": _identifier, "EncodedPixels": _in_words}

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")
        self.listings = Listings(root)
        self._images = listed_images(root, self._options.images)

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        listed = group_rows(
            self.listings.rows(self._options.listing, needed=list(self.readers)),
            lambda row: _identifier(row["ImageId"]),
        )
        yield from listed.unusable
        unlisted = dict(self._images)
        for identifier, rows in listed.rows.items():
            yield self._record(unlisted.pop(identifier, None), rows)
        yield from unlisted_images(unlisted, self._options.listing)
        for name in images_by_stem(self._root, self._options.test_images).values():
            yield SourceRecord(row=name, name=name, modality="radiograph", view="frontal")

    def _record(self, name: str | None, rows: list[Row]) -> SourceRecord | UnusableRow:
        place = rows[0][0]
        if name is None:
            detail = f"no image of this ImageId in {self._options.images}"
            return UnusableRow(row=place, reason="missing_file", detail=detail)
        masks = read_rows(rows, lambda row: _mask(row["EncodedPixels"]), name)
        if isinstance(masks, UnusableRow):
            return masks
        drawn = [mask for mask in masks if mask is not None]
        if drawn and len(drawn) < len(masks):
            detail = f"EncodedPixels is {_NONE} in one row of the image, and a mask in another"
            return UnusableRow(row=place, path=name, reason="bad_labels", detail=detail)
        return SourceRecord(row=place, name=name, modality="radiograph", view="frontal", **self._marked(drawn))

    def _marked(self, masks: list[Mask]) -> dict[str, Any]:
        """Labels and regions of an image with these masks."""
        if not masks:
            return {"labels": () if self._options.negative == "no_finding" else None}
        code = encode(np.logical_or.reduce(masks))
        region = Region(label=self._options.label, rle=code, rle_size=(_WIDTH, _HEIGHT))
        return {"labels": (self._options.label,), "regions": (region,)}
