"""Any CSV, TSV, JSON Lines or Parquet file with a column of images: Hugging Face ImageFolder's metadata convention.

A row may have (only `file_name` is needed; names of files are relative to the folder of the metadata file):

    file_name    the image, in the root or in an archive under it (`batch1.zip/a.png`)
    text         report or caption
    labels       findings: a list, or text with | or ; between them; [] or `No Finding`: the source says there is none
    split        train, validation (or val, valid, dev) or test
    patient_id   kept as a hash
    modality, view    words of `pipelines.records`; PA and AP are frontal
    frame        slice or frame from 0
    mask         mask of everything that is marked, or a label map whose values `mask_classes` names
    objects      {bbox: [...], label (or categories): [...], adjective: [...], mask: [...], mask_value: [...]} with
                 lists of one length, or a list of such objects; a box is (x, y, width, height) in pixels
    questions    [{question_id, question, answer, answer_type (closed or open)}, ...]

In CSV and TSV files `objects` and `questions` hold JSON.
"""

import json
import logging
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pipelines.archives import list_files, locate
from pipelines.config import parse
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.images import frame_count
from pipelines.ingest.details import kind_of
from pipelines.ingest.record import Question, Region, SourceRecord, UnusableRow, modality_of, split_of, view_of
from pipelines.ingest.tables import SUFFIXES, read_rows
from pipelines.records import MODALITIES, NO_FINDING

logger = logging.getLogger(__name__)

COLUMNS = (
    "file_name",
    "text",
    "labels",
    "split",
    "patient_id",
    "modality",
    "view",
    "frame",
    "mask",
    "objects",
    "questions",
)
_OBJECT_KEYS = {"bbox", "label", "adjective", "mask", "mask_value"}
_OBJECT_KEYS_WITHOUT_MEANING = {"id", "area", "iscrowd"}  # COCO's, common in Hugging Face data sets
_SINGLE_FRAME = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter.

    Attributes:
        metadata: The table's file; by default the only `metadata.*` in the root.
        columns: Our name of a column -> the file's, where they differ.
        modality: Of rows that name none.
        box_format: xywh is (x, y, width, height), xyxy is (x0, y0, x1, y1).
        frames: Which slices to take of a volume where the row names none.
        mask_classes: Grey value -> label, where `mask` is a label map: each class that a map has becomes a region.
    """

    metadata: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    modality: str = "other"
    box_format: Literal["xywh", "xyxy"] = "xywh"
    frames: Literal["middle", "all"] = "middle"
    mask_classes: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if wrong := sorted(self.columns.keys() - set(COLUMNS)):
            raise ValueError(f"columns: {', '.join(wrong)} is none of {', '.join(COLUMNS)}")
        if self.modality not in MODALITIES:
            raise ValueError(f"modality {self.modality!r}: choose from {', '.join(MODALITIES)}")


class TableSource:
    """One record a row, or one a slice where a row names a volume and `frames` is `all`."""

    def __init__(self, root: Path, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")
        self._metadata = self._options.metadata or _only_metadata(root)
        self._folder = posixpath.dirname(self._metadata)
        self._theirs = {name: self._options.columns.get(name, name) for name in COLUMNS}

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        seen: set[str] = set()
        for item in read_rows(self._root, self._metadata):
            if isinstance(item, UnusableRow):
                yield item
                continue
            place, row = item
            seen |= row.keys()
            name = row.get(self._theirs["file_name"])
            try:
                with item_boundary("bad_row"):
                    yield from self._row(place, row)
            except Rejected as error:
                path = name if isinstance(name, str) else None
                yield UnusableRow(row=place, reason=error.reason, detail=error.detail, path=path)
        self._compare_columns(seen)

    def _compare_columns(self, seen: set[str]) -> None:
        needed = {"file_name", *self._options.columns}
        if missing := sorted(self._theirs[name] for name in needed if self._theirs[name] not in seen):
            raise UserError(
                f"{self._root}: {self._metadata} has no column {', '.join(missing)}, only "
                f"{', '.join(sorted(seen)) or 'none'}: name the right one in options.columns"
            )
        if unused := sorted(seen - set(self._theirs.values())):
            logger.warning("%s: columns not used: %s", self._metadata, ", ".join(unused))

    def _row(self, place: str, row: dict[str, Any]) -> Iterator[SourceRecord]:
        values = {name: row.get(theirs) for name, theirs in self._theirs.items()}
        if not isinstance(values["file_name"], str):
            raise Rejected("missing_file_name", f"{self._theirs['file_name']} is {kind_of(values['file_name'])}")
        name = self._under_folder(values["file_name"])
        modality = _text(values["modality"], "modality")
        record = SourceRecord(
            row=place,
            name=name,
            split=split_of(_text(values["split"], "split")),
            patient=_text(values["patient_id"], "patient_id"),
            modality=modality_of(modality) if modality else self._options.modality,
            view=view_of(_text(values["view"], "view")),
            report=_text(values["text"], "text"),
            labels=_labels(values["labels"]),
            mask=self._mask(values["mask"]),
            mask_classes=tuple(self._options.mask_classes.items()),
            regions=tuple(self._region(item) for item in _objects(values["objects"])),
            questions=tuple(_question(item) for item in _list(_decoded(values["questions"], "questions"), "questions")),
        )
        for frame in self._frames(name, _whole(values["frame"], "frame")):
            yield replace(record, frame=frame)

    def _frames(self, name: str, frame: int | None) -> list[int | None]:
        if frame is not None or name.lower().endswith(_SINGLE_FRAME):
            return [frame]
        count = frame_count(self._root, *locate(self._root, name))
        if count == 1:
            return [None]
        return [count // 2] if self._options.frames == "middle" else list(range(count))

    def _region(self, item: dict[str, Any]) -> Region:
        box = item.get("bbox")
        if box is not None:
            if not isinstance(box, list) or len(box) != 4 or not all(isinstance(edge, int | float) for edge in box):
                raise Rejected("bad_box", f"objects: bbox is {kind_of(box)}, not a list of four numbers")
            x, y, third, fourth = map(float, box)
            box = (x, y, x + third, y + fourth) if self._options.box_format == "xywh" else (x, y, third, fourth)
        mask = self._mask(item.get("mask"))
        if box is None and mask is None:
            raise Rejected("bad_objects", "objects: one without bbox and mask")
        return Region(
            label=_text(item.get("label"), "objects: label"),
            adjective=_text(item.get("adjective"), "objects: adjective"),
            box=box,
            mask=mask,
            mask_value=_whole(item.get("mask_value"), "objects: mask_value"),
        )

    def _mask(self, value: Any) -> str | None:
        name = _text(value, "mask")
        return None if name is None else self._under_folder(name)

    def _under_folder(self, name: str) -> str:
        """The name relative to the root; an absolute one stays as it is and is refused when it is opened."""
        return posixpath.join(self._folder, name)


def _only_metadata(root: Path) -> str:
    found = [name for name in list_files(root) if name in {f"metadata{suffix}" for suffix in SUFFIXES}]
    if len(found) != 1:
        have = f"{len(found)} of them ({', '.join(found)})" if found else "none"
        raise UserError(
            f"{root} should hold one metadata file (metadata{', metadata'.join(SUFFIXES)}) and has {have}: "
            "name the file in options.metadata"
        )
    return found[0]


def _text(value: Any, name: str) -> str | None:
    """A text or number as text; None where it is missing or blank."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Rejected("bad_value", f"{name} is {kind_of(value)}, not a text or a number")
    return str(value)


def _whole(value: Any, name: str) -> int | None:
    text = _text(value, name)
    if text is None:
        return None
    if not text.isdecimal():
        raise Rejected("bad_value", f"{name} is not a whole number from 0")
    return int(text)


def _decoded(value: Any, name: str) -> Any:
    if not isinstance(value, str):
        return value
    with item_boundary(f"bad_{name}", f"{name} is not JSON"):
        return json.loads(value) if value.strip() else None


def _list(value: Any, name: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Rejected(f"bad_{name}", f"{name} is {kind_of(value)}, not a list of objects")
    if not all(isinstance(item, dict) for item in value):
        raise Rejected(f"bad_{name}", f"{name}: one in the list is no object")
    return value


def _labels(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = value.replace(";", "|").split("|")
        if value == [""]:
            return None
    if not isinstance(value, list):
        raise Rejected("bad_labels", f"labels is {kind_of(value)}, not a list of words")
    if not all(isinstance(label, str) and label.strip() for label in value):
        raise Rejected("bad_labels", "labels: one in the list is no word")
    labels = tuple(dict.fromkeys(label.strip() for label in value))
    if NO_FINDING in labels and len(labels) > 1:
        raise Rejected("bad_labels", f"labels: {NO_FINDING} beside {len(labels) - 1} others")
    return () if labels == (NO_FINDING,) else labels


def _objects(value: Any) -> list[dict[str, Any]]:
    """Objects as a list of dicts, whether they came as one or as a dict of lists."""
    value = _decoded(value, "objects")
    if isinstance(value, dict):
        columns = {key: column for key, column in value.items() if column is not None}
        if not all(isinstance(column, list) for column in columns.values()) or len(set(map(len, columns.values()))) > 1:
            raise Rejected("bad_objects", "objects: lists of different lengths")
        value = [dict(zip(columns, entries, strict=True)) for entries in zip(*columns.values(), strict=True)]
    return [_object(item) for item in _list(value, "objects")]


def _object(item: dict[str, Any]) -> dict[str, Any]:
    item = {("label" if key in ("categories", "category") else key): value for key, value in item.items()}
    if unknown := item.keys() - _OBJECT_KEYS - _OBJECT_KEYS_WITHOUT_MEANING:
        known = ", ".join(sorted(_OBJECT_KEYS))
        raise Rejected("bad_objects", f"objects: {len(unknown)} unknown keys: choose from {known}")
    if isinstance(item.get("label"), int):
        raise Rejected("unnamed_category", "objects: the category is a number: write its name instead")
    return item


def _question(item: dict[str, Any]) -> Question:
    values = {
        key: _text(item.get(key), f"questions: {key}") for key in ("question_id", "question", "answer", "answer_type")
    }
    if missing := sorted(key for key, value in values.items() if value is None):
        raise Rejected("bad_questions", f"questions: one is without {', '.join(missing)}")
    values["answer_type"] = str(values["answer_type"]).strip().lower()
    if values["answer_type"] not in ("closed", "open"):
        raise Rejected("bad_questions", "questions: answer_type is neither closed nor open")
    return Question(**values)  # type: ignore[arg-type]
