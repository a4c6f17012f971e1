"""MS-CXR (Boecking et al., arXiv:2204.09817): sentences about findings and their boxes in images of MIMIC-CXR.

    MS_CXR_Local_Alignment_v1.1.0.csv       a row a box: dicom_id, category_name, label_text, path, x, y, w, h,
                                            image_width, image_height, split (from 1.1.0 on)
    MS_CXR_Local_Alignment_v1.1.0.json      the same in COCO's form: images, annotations, categories
    files/pNN/pSUBJECT/sSTUDY/DICOM.jpg     images of MIMIC-CXR-JPG

Choices:
- An image is one record with all of its boxes; a sentence with several boxes is the phrase of several regions. Its
  different sentences are its report, and the findings that they are about its labels; what else is there, nobody said.
- An image with a box that cannot be used is rejected as a whole, for the place of a sentence would be wrong without it.
- Boxes are (x, y, width, height) in pixels of the image as published; resized images will do.
- Its split is not MIMIC-CXR's: some images that it trains with are in the test split there. A study with both sources
  sets options.published_split to false, so that an image goes where MIMIC-CXR-JPG puts it, or lets this source leak, so
  that what either puts into test is tested.
"""

import json
import math
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from pipelines.archives import list_files
from pipelines.config import parse
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.ingest import cells
from pipelines.ingest.details import without_values
from pipelines.ingest.present import PresentImages
from pipelines.ingest.record import Region, SourceRecord, UnusableRow, split_of
from pipelines.ingest.row_groups import group_rows, read_rows
from pipelines.ingest.tables import Listings, Row
from pipelines.records import Sides
from pipelines.storage import Root

_LISTING = re.compile(r"MS_CXR_Local_Alignment_v[0-9.]+\.(csv|json)")
_PATH = re.compile(r"files/p[0-9]{2}/p[0-9]{8}/s[0-9]{8}/[0-9a-fA-F-]+\.\w+")
_BOX = ("x", "y", "w", "h")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter.

    Attributes:
        listing: The CSV or JSON file; null: the one in the root, the CSV file where both are there.
        images: Folder or archive under the root that holds MIMIC-CXR-JPG's `files/`.
        published_split: Whether the listing's split counts.
        only_present: Leave out, and count, images that are not there, instead of rejecting them.
    """

    listing: str | None = None
    images: str = "."
    published_split: bool = True
    only_present: bool = False


def _path(cell: Any) -> str:
    word = cells.text(cell, "path") or ""
    if not _PATH.fullmatch(word):
        raise Rejected("missing_file_name", "path is not as files/pNN/pSUBJECT/sSTUDY/DICOM.jpg")
    return word


def _number(cell: Any, column: str) -> float:
    try:
        number = float(cells.text(cell, column) or "nan")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise Rejected("bad_box", f"{column} is no number")
    return number


def _needed(cell: Any, column: str) -> str:
    word = cells.text(cell, column)
    if word is None:
        raise Rejected("bad_row", f"{column} is missing")
    return word.strip()


def _split(cell: Any) -> str | None:
    return split_of(cells.text(cell, "split"))


_READERS: dict[str, Callable[[Any], Any]] = {
    "path": _path,
    **{column: partial(_needed, column=column) for column in ("category_name", "label_text")},
    **{column: partial(_number, column=column) for column in _BOX},
    **{column: partial(cells.whole, column=column) for column in ("image_width", "image_height")},
}


class MsCxr:
    """One record an image.

    Attributes:
        listings: The listing, and what was read of it.
        warnings: How many images were left out, for they are missing.
        readers: Column -> what its cells mean.
    """

    sides: ClassVar[Sides] = "patient"
    readers: ClassVar[dict[str, Callable[[Any], Any]]] = {
        **_READERS,
        "split": _split,
    }

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")
        self._listing = self._options.listing or _find_listing(root)
        self.listings = Listings(root)
        self.warnings: list[str] = []

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        present = PresentImages(self._root, self._options.only_present)
        images = group_rows(self._rows(), lambda row: _path(row["path"]))
        yield from images.unusable
        for path, rows in images.rows.items():
            name = posixpath.normpath(posixpath.join(self._options.images, path))
            try:
                if present.takes(name):
                    yield self._record(name, path, rows)
            except Rejected as error:
                yield UnusableRow(row=rows[0][0], path=name, reason=error.reason, detail=error.detail)
        self.warnings = present.warnings()

    def _record(self, name: str, path: str, rows: list[Row]) -> SourceRecord | UnusableRow:
        regions = read_rows(rows, _region, name)
        if isinstance(regions, UnusableRow):
            return regions
        splits = read_rows(rows, lambda row: _split(row.get("split")), name)
        if isinstance(splits, UnusableRow):
            return splits
        if len(set(splits)) > 1:
            detail = "rows of one image name several splits"
            return UnusableRow(row=rows[0][0], path=name, reason="unknown_split", detail=detail)
        return SourceRecord(
            row=rows[0][0],
            name=name,
            split=splits[0] if self._options.published_split else None,
            patient=path.split("/")[2].removeprefix("p"),
            modality="radiograph",
            report=_joined(region.phrase for region in regions),
            labels=tuple(dict.fromkeys(region.label for region in regions if region.label)),
            regions=tuple(regions),
        )

    def _rows(self) -> Iterator[Row | UnusableRow]:
        if self._listing.endswith(".csv"):
            yield from self.listings.rows(self._listing, needed=list(_READERS))
            return
        data = self.listings.read(self._listing, ": see options.listing")
        try:
            with item_boundary():
                coco = json.loads(data)
                images = {image["id"]: image for image in coco["images"]}
                names = {category["id"]: category["name"] for category in coco["categories"]}
                annotations = list(coco["annotations"])
        except Rejected as error:
            raise UserError(
                f"{self._root}: {self._listing} is not COCO's JSON ({without_values(error.detail)})"
            ) from None
        self.listings.lines[self._listing] = {"rows": len(annotations)}
        for number, annotation in enumerate(annotations):
            place = f"{self._listing}:{number}"
            try:
                with item_boundary("bad_row", "not an annotation of COCO's"):
                    row = _coco_row(annotation, images[annotation["image_id"]], names)
            except Rejected as error:
                yield UnusableRow(row=place, reason=error.reason, detail=without_values(error.detail))
                continue
            self.listings.watch(self._listing, row)
            yield place, row


def _coco_row(annotation: dict[str, Any], image: dict[str, Any], names: dict[Any, str]) -> dict[str, Any]:
    """An annotation with the columns of the CSV file."""
    box = annotation["bbox"] if isinstance(annotation["bbox"], list) else []
    return {
        "path": image["path"],
        "category_name": names[annotation["category_id"]],
        "label_text": annotation["label_text"],
        **dict(zip(_BOX, box if len(box) == len(_BOX) else [None] * len(_BOX), strict=True)),
        "image_width": image["width"],
        "image_height": image["height"],
        "split": annotation.get("split"),
    }


def _region(row: dict[str, Any]) -> Region:
    values = {column: read(row[column]) for column, read in _READERS.items()}
    x, y, width, height = (values[edge] for edge in _BOX)
    if width <= 0 or height <= 0:
        raise Rejected("bad_box", "w and h are not above 0")
    if not values["image_width"] or not values["image_height"]:
        raise Rejected("bad_box", "image_width and image_height are not above 0")
    return Region(
        label=values["category_name"],
        phrase=values["label_text"],
        box=(x, y, x + width, y + height),
        box_size=(values["image_width"], values["image_height"]),
    )


def _joined(phrases: Iterable[str | None]) -> str:
    """The different sentences, each with a full stop."""
    return " ".join(f"{phrase.rstrip('.')}." for phrase in dict.fromkeys(phrases) if phrase)


def _find_listing(root: Root) -> str:
    found = [name for name in list_files(root) if _LISTING.fullmatch(name)]
    found = [name for name in found if name.endswith(".csv")] or found
    if len(found) != 1:
        have = f"{len(found)} of them ({', '.join(found)})" if found else "none"
        raise UserError(
            f"{root} should hold MS_CXR_Local_Alignment_v1.1.0.csv (or .json) and has {have}: name the file in "
            "options.listing"
        )
    return found[0]
