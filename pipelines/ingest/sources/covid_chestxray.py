"""The COVID-19 image data collection of Cohen et al. (arXiv:2003.11597), as its repository ships it.

    metadata.csv                                                       a row an image: finding, view, notes, ...
    <folder>/<filename>                                                images (`folder` is a column, mostly images)
    annotations/lungVAE-masks/<stem>_mask.png                          masks of both lungs
    annotations/imageannotation_ai_lung_bounding_boxes.json            COCO boxes of the left and the right lung

Choices:
- `finding` is a path from general to special (`Pneumonia/Viral/COVID-19`); its last part is the label, a comma parts
  several. `No Finding` is an empty list, `todo`, `Unknown` and nothing are null.
- Boxes and lung masks show anatomy, not disease. They become regions named `left lung`, `right lung` and `lungs`, and
  never a mask of the whole image's findings.
- X-ray is a radiograph; `?` as a view is null. Only X-rays have a view.
"""

import json
import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

from pipelines.archives import list_files
from pipelines.config import parse
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.ingest import cells
from pipelines.ingest.details import without_values
from pipelines.ingest.record import NoOptions, Region, SourceRecord, UnusableRow, view_of
from pipelines.ingest.tables import Listings
from pipelines.storage import Root

METADATA = "metadata.csv"
MASKS = "annotations/lungVAE-masks"
BOXES = "annotations/imageannotation_ai_lung_bounding_boxes.json"

_PLANES = ("Axial", "Coronal", "Sagittal")  # in the column `view`, of slices
_MODALITIES = {"X-ray": "radiograph", "CT": "ct"}


def _modality(cell: Any) -> str:
    if cell not in _MODALITIES:
        raise Rejected("unknown_modality", f"modality is none of {', '.join(_MODALITIES)}")
    return _MODALITIES[cell]


def _labels(cell: Any) -> tuple[str, ...] | None:
    finding = cells.text(cell, "finding")
    if finding is None:
        return None
    return cells.words([part.split("/")[-1].strip() for part in finding.split(",")], "finding")


_READERS: dict[str, Callable[[Any], Any]] = {
    "patientid": partial(cells.identity, column="patientid"),
    "finding": _labels,
    "view": lambda cell: view_of(cells.text(cell, "view")),
    "modality": _modality,
    "folder": partial(cells.text, column="folder"),
    "filename": partial(cells.text, column="filename"),
    "clinical_notes": partial(cells.text, column="clinical_notes"),
}


class CovidChestXray:
    """One record a row of metadata.csv; rows that share a file are merged by the stage."""

    readers: ClassVar[dict[str, Callable[[Any], Any]]] = {
        **_READERS,
        "view": lambda cell: None if cell in _PLANES else _READERS["view"](cell),
    }

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        parse(NoOptions, options, "options")
        self._root = root
        self.listings = Listings(root)

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        boxes, rejected = self._boxes()
        yield from rejected
        masks = {posixpath.basename(name).removesuffix("_mask.png"): name for name in list_files(self._root, MASKS)}
        annotated = {*boxes, *masks}
        for item in self.listings.rows(METADATA):
            if isinstance(item, UnusableRow):
                yield item
                continue
            place, row = item
            if missing := sorted(_READERS.keys() - row.keys()):
                raise UserError(f"{self._root}: {METADATA} has no column {', '.join(missing)}")
            name = f"{row['folder']}/{row['filename']}"
            stem = posixpath.splitext(str(row["filename"]))[0]
            annotated -= {str(row["filename"]), stem}
            regions = list(boxes.get(str(row["filename"]), []))
            if stem in masks:
                regions.append(Region(label="lungs", mask=masks[stem]))
            try:
                with item_boundary("bad_row"):
                    yield _record(place, name, row, tuple(regions))
            except Rejected as error:
                yield UnusableRow(row=place, path=name, reason=error.reason, detail=error.detail)
        for name in sorted(annotated):
            detail = f"{METADATA} does not list its image"
            yield UnusableRow(row=name, path=name, reason="annotation_without_row", detail=detail)

    def _boxes(self) -> tuple[dict[str, list[Region]], list[UnusableRow]]:
        """The lung boxes by the image's file name, and those that are null."""
        if BOXES not in list_files(self._root, posixpath.dirname(BOXES)):
            return {}, []
        data = self.listings.read(BOXES)
        try:
            with item_boundary():
                return _boxes(json.loads(data))
        except Rejected as error:
            raise UserError(f"{self._root}: {BOXES} is not COCO's JSON ({without_values(error.detail)})") from None


def _boxes(coco: Any) -> tuple[dict[str, list[Region]], list[UnusableRow]]:
    images = {image["id"]: image for image in coco["images"]}
    labels = {category["id"]: category["name"].lower() for category in coco["categories"]}
    found: dict[str, list[Region]] = defaultdict(list)
    rejected = []
    for annotation in coco["annotations"]:
        image, box = images[annotation["image_id"]], annotation["bbox"]
        if box is None or None in box:
            row = f"{posixpath.basename(BOXES)}:{annotation['id']}"
            detail = f"{labels[annotation['category_id']]} has no box"
            rejected.append(UnusableRow(row=row, path=image["file_name"], reason="null_box", detail=detail))
            continue
        x, y, width, height = map(float, box)
        region = Region(
            label=labels[annotation["category_id"]],
            box=(x, y, x + width, y + height),
            box_size=(image["width"], image["height"]),
        )
        found[image["file_name"]].append(region)
    return found, rejected


def _record(place: str, name: str, row: dict[str, Any], regions: tuple[Region, ...]) -> SourceRecord:
    modality = _modality(row["modality"])
    return SourceRecord(
        row=place,
        name=name,
        patient=_READERS["patientid"](row["patientid"]),
        modality=modality,
        view=_READERS["view"](row["view"]) if modality == "radiograph" else None,
        report=_READERS["clinical_notes"](row["clinical_notes"]),
        labels=_labels(row["finding"]),
        regions=regions,
    )
