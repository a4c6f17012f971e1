"""RSNA's Pneumonia Detection Challenge (Shih et al., Radiology: AI 1, e180041, 2019) as Kaggle ships it.

    stage_2_train_labels.csv            a row a box: patientId, x, y, width, height, Target; no box where Target is 0
    stage_2_detailed_class_info.csv     patientId, class
    stage_2_train_images/<patientId>.dcm
    stage_2_test_images/<patientId>.dcm     of which nothing is said

Choices:
- `Normal` says that there is no finding. `No Lung Opacity / Not Normal` says that there are others than opacities,
  which nobody named: labels are null. Where the class is missing, Target 0 says as little.
- Images may be PNG or JPEG copies of the same stems, of any size: boxes are in pixels of the published 1024 x 1024.
- An image with a box that cannot be used is rejected as a whole.
- All images are frontal. A patientId has one image. The set publishes no split: its test images have no labels, and
  all images are dealt out by `pipelines.split`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from pipelines.config import parse
from pipelines.errors import Rejected
from pipelines.ingest import cells
from pipelines.ingest.images_by_stem import images_by_stem, listed_images, unlisted_images
from pipelines.ingest.record import Region, SourceRecord, UnusableRow
from pipelines.ingest.row_groups import group_rows, read_rows
from pipelines.ingest.tables import Listings, Row
from pipelines.storage import Root

LABELS = "stage_2_train_labels.csv"
CLASSES = "stage_2_detailed_class_info.csv"

_SIZE = (1024, 1024)
_BOX = ("x", "y", "width", "height")
_OPACITY, _NORMAL, _OTHER = "Lung Opacity", "Normal", "No Lung Opacity / Not Normal"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter.

    Attributes:
        images: Folder or archive of the images that LABELS names.
        test_images: Folder or archive of the others, which may be missing.
        label: What the boxes mark.
    """

    images: str = "stage_2_train_images"
    test_images: str = "stage_2_test_images"
    label: str = _OPACITY


def _patient(cell: Any) -> str:
    patient = cells.identity(cell, "patientId")
    if patient is None:
        raise Rejected("missing_file_name", "patientId is missing")
    return patient


def _patient_of(row: dict[str, Any]) -> str:
    return _patient(row["patientId"])


def _target(cell: Any) -> bool:
    target = cells.whole(cell, "Target")
    if target not in (0, 1):
        raise Rejected("bad_value", "Target is neither 0 nor 1")
    return target == 1


def _class(cell: Any) -> str:
    word = cells.text(cell, "class")
    if word not in (_OPACITY, _NORMAL, _OTHER):
        raise Rejected("bad_labels", f"class is none of {_OPACITY}, {_NORMAL}, {_OTHER}")
    return word


def _edge(cell: Any, column: str) -> float | None:
    word = cells.text(cell, column)
    try:
        return None if word is None else float(word)
    except ValueError:
        raise Rejected("bad_box", f"{column} is no number") from None


_READERS: dict[str, Callable[[Any], Any]] = {
    "patientId": _patient,
    **{column: partial(_edge, column=column) for column in _BOX},
    "Target": _target,
}


class RsnaPneumonia:
    """One record an image.

    Attributes:
        listings: Labels and classes, and what was read of them.
        readers: Column -> what its cells mean.
    """

    readers: ClassVar[dict[str, Callable[[Any], Any]]] = {**_READERS, "class": _class}

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")
        self.listings = Listings(root)
        self._images = listed_images(root, self._options.images)

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        labels = group_rows(self.listings.rows(LABELS, needed=list(_READERS)), _patient_of)
        classes = group_rows(self.listings.rows(CLASSES, needed=["patientId", "class"]), _patient_of)
        yield from labels.unusable
        yield from classes.unusable
        unlisted = dict(self._images)
        for patient, rows in labels.rows.items():
            yield self._record(patient, unlisted.pop(patient, None), rows, classes.rows.pop(patient, []))
        for rows in classes.rows.values():
            yield UnusableRow(row=rows[0][0], reason="annotation_without_row", detail=f"{LABELS} has no such patientId")
        yield from unlisted_images(unlisted, LABELS)
        for patient, name in images_by_stem(self._root, self._options.test_images).items():
            yield SourceRecord(row=name, name=name, patient=patient, modality="radiograph", view="frontal")

    def _record(
        self, patient: str, name: str | None, rows: list[Row], classes: list[Row]
    ) -> SourceRecord | UnusableRow:
        place = rows[0][0]
        if name is None:
            detail = f"no image of this patientId in {self._options.images}"
            return UnusableRow(row=place, reason="missing_file", detail=detail)
        words = read_rows(classes, lambda row: _class(row["class"]), name)
        if isinstance(words, UnusableRow):
            return words
        boxes = read_rows(rows, self._regions, name)
        if isinstance(boxes, UnusableRow):
            return boxes
        regions = tuple(region for boxes_of_row in boxes for region in boxes_of_row)
        if len(set(words)) > 1 or (words and bool(regions) != (words[0] == _OPACITY)):
            detail = f"{CLASSES} contradicts itself, or {LABELS}"
            return UnusableRow(row=place, path=name, reason="bad_labels", detail=detail)
        return SourceRecord(
            row=place,
            name=name,
            patient=patient,
            modality="radiograph",
            view="frontal",
            labels=(self._options.label,) if regions else () if _NORMAL in words else None,
            regions=regions,
        )

    def _regions(self, row: dict[str, Any]) -> list[Region]:
        """The box of a row; none where it says that there is no opacity."""
        x, y, width, height = (_READERS[column](row[column]) for column in _BOX)
        if not _target(row["Target"]):
            if (x, y, width, height) != (None,) * 4:
                raise Rejected("bad_box", "a box although Target is 0")
            return []
        if None in (x, y, width, height):
            raise Rejected("null_box", "no box although Target is 1")
        return [Region(label=self._options.label, box=(x, y, x + width, y + height), box_size=_SIZE)]
