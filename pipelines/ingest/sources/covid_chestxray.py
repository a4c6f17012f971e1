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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.archives import list_files, locate, read_bytes
from pipelines.config import parse
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.ingest.details import without_values
from pipelines.ingest.record import NoOptions, Region, SourceRecord, UnusableRow, view_of
from pipelines.ingest.tables import read_rows
from pipelines.records import NO_FINDING

METADATA = "metadata.csv"
MASKS = "annotations/lungVAE-masks"
BOXES = "annotations/imageannotation_ai_lung_bounding_boxes.json"

_COLUMNS = {"patientid", "finding", "view", "modality", "folder", "filename", "clinical_notes"}
_MODALITIES = {"X-ray": "radiograph", "CT": "ct"}
_UNKNOWN = {"todo", "unknown", ""}


class CovidChestXray:
    """One record a row of metadata.csv; rows that share a file are merged by the stage."""

    def __init__(self, root: Path, options: dict[str, Any]) -> None:
        parse(NoOptions, options, "options")
        self._root = root

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        boxes, rejected = self._boxes()
        yield from rejected
        masks = {posixpath.basename(name).removesuffix("_mask.png"): name for name in list_files(self._root, MASKS)}
        annotated = {*boxes, *masks}
        for item in read_rows(self._root, METADATA):
            if isinstance(item, UnusableRow):
                yield item
                continue
            place, row = item
            if missing := sorted(_COLUMNS - row.keys()):
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
        try:
            data = read_bytes(self._root, *locate(self._root, BOXES))
        except Rejected as error:
            if error.reason == "missing_file":
                return {}, []
            raise UserError(f"{self._root}: {BOXES} cannot be read ({error})") from None
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
    if row["modality"] not in _MODALITIES:
        raise Rejected("unknown_modality", f"modality is none of {', '.join(_MODALITIES)}")
    modality = _MODALITIES[row["modality"]]
    return SourceRecord(
        row=place,
        name=name,
        patient=row["patientid"],
        modality=modality,
        view=view_of(row["view"]) if modality == "radiograph" and row["view"] != "?" else None,
        report=row["clinical_notes"],
        labels=_labels(row["finding"] or ""),
        regions=regions,
    )


def _labels(finding: str) -> tuple[str, ...] | None:
    if finding.strip().lower() in _UNKNOWN:
        return None
    if finding.strip() == NO_FINDING:
        return ()
    return tuple(dict.fromkeys(part.split("/")[-1].strip() for part in finding.split(",") if part.strip()))
