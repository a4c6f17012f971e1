"""Any CSV, TSV, JSON Lines or Parquet file with a column of images: Hugging Face ImageFolder's metadata convention.

A row may have (only `file_name` is needed; names of files are relative to the folder of the metadata file):

    file_name    the image, in the root or in an archive under it (`batch1.zip/a.png`)
    text         report or caption
    labels       findings: a list in any usual spelling, or text with | or ; between them; `[]`, `No Finding`, `Normal`
                 and the like: the source says that there is none
    split        train, validation (or val, valid, dev) or test
    patient_id   kept as a hash
    modality, view    words of `pipelines.records`; PA and AP are frontal
    frame        slice, page or frame from 0
    axis         of a volume: axial, coronal or sagittal, along which its slices are counted
    volume       of a file with several volumes, such as a time series: which, from 0
    mask         mask of everything that is marked, or a label map whose values `mask_classes` names
    objects      {bbox: [...], label (or categories): [...], adjective: [...], phrase: [...], mask: [...],
                 mask_value: [...], look_alike: [...]} with lists of one length, or a list of such objects; a box is
                 (x, y, width, height) in pixels, a phrase a sentence about the object; where look_alike is true, it
                 is no finding that the source names, and no annotation
    attributes   {name: value}: what is known of the whole image beside its findings
    questions    [{question_id, question, answer, answer_type (closed or open)}, ...]

In CSV and TSV files `objects`, `attributes` and `questions` hold JSON. A cell that says nothing
(`pipelines.ingest.cells`) is null. Findings may stand in columns of their own instead, with 1, 0, -1 or nothing
(`label_columns`).
"""

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pipelines.archives import list_files, locate
from pipelines.config import parse
from pipelines.cuts import AXES, Axis
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.formats.dicom_header import is_dicom
from pipelines.images import frames
from pipelines.ingest import cells, nested
from pipelines.ingest.details import kind_of
from pipelines.ingest.record import Region, SourceRecord, UnusableRow, modality_of, split_of, view_of
from pipelines.ingest.row_reader import RowReader, check_options
from pipelines.ingest.tables import SUFFIXES, Listings
from pipelines.opened import open_file
from pipelines.records import MODALITIES
from pipelines.storage import Root

COLUMNS = (
    "file_name",
    "text",
    "labels",
    "split",
    "patient_id",
    "modality",
    "view",
    "frame",
    "axis",
    "volume",
    "mask",
    "objects",
    "attributes",
    "questions",
)
_NESTED = {"objects", "attributes", "questions"}
_SINGLE_FRAME = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter.

    Attributes:
        metadata: The table's file; by default the only `metadata.*` in the root.
        delimiter: Between the values of a CSV or TSV file; null: found from its first lines.
        columns: Our name of a column -> the file's, where they differ.
        values: Column -> the file's words -> ours, or null where a word says nothing; applied before a cell is read, in
            `labels` to the cell and to each of its words.
        label_columns: Columns that each say of one finding whether it is there: 1, 0, -1 (uncertain) or nothing.
        uncertain: What -1 means there.
        modality: Of rows that name none.
        box_format: xywh is (x, y, width, height), xyxy is (x0, y0, x1, y1).
        frames: Which slices to take of a volume where the row names none.
        axis: Along which they are counted, where the row does not say so.
        volume: Which volume to take of a file with several, where the row names none.
        pages_are_frames: Whether `frames` holds for pages of a TIFF and frames of a GIF or WebP too; else the first is
            the picture, where the row names none.
        mask_classes: Grey value -> label, where `mask` is a label map: each class that a map has becomes a region.
    """

    metadata: str | None = None
    delimiter: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str | int, str | int | None]] = field(default_factory=dict)
    label_columns: list[str] = field(default_factory=list)
    uncertain: Literal["missing", "positive", "negative"] = "missing"
    modality: str = "other"
    box_format: Literal["xywh", "xyxy"] = "xywh"
    frames: Literal["middle", "all"] = "middle"
    axis: Axis = "axial"
    volume: int | None = None
    pages_are_frames: bool = False
    mask_classes: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_options(COLUMNS, _NESTED, self.columns, self.values, self.label_columns, self.delimiter)
        if self.modality not in MODALITIES:
            raise ValueError(f"modality {self.modality!r}: choose from {', '.join(MODALITIES)}")
        if self.volume is not None and self.volume < 0:
            raise ValueError("volume: counted from 0")


class TableSource:
    """One record a row, or one a slice where a row names a volume and `frames` is `all`.

    Attributes:
        listings: The table, and what was read of it.
        warnings: Columns, and words of options.values, that are not used.
        readers: Column of the file -> what its cells mean.
    """

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")
        self._metadata = self._options.metadata or _only_metadata(root)
        self._folder = posixpath.dirname(self._metadata)
        self._reader = RowReader(
            {
                "file_name": _file_name,
                "text": cells.text,
                "labels": cells.words,
                "split": lambda value, column: split_of(cells.text(value, column), column),
                "patient_id": cells.identity,
                "modality": self._modality,
                "view": lambda value, column: view_of(cells.text(value, column), column),
                "frame": cells.whole,
                "axis": _axis,
                "volume": cells.whole,
                "mask": self._mask,
                "objects": nested.objects,
                "attributes": nested.attributes,
                "questions": nested.questions,
            },
            self._options.columns,
            self._options.values,
            self._options.label_columns,
            self._options.uncertain,
        )
        self._theirs = self._reader.theirs
        self.listings = Listings(root)
        self.warnings: list[str] = []
        self.readers = self._reader.readers

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        for item in self.listings.rows(self._metadata, self._options.delimiter):
            if isinstance(item, UnusableRow):
                yield item
                continue
            place, row = item
            try:
                with item_boundary("bad_row"):
                    yield from self._row(place, row)
            except Rejected as error:
                name = row.get(self._theirs["file_name"])
                path = name if isinstance(name, str) else None
                yield UnusableRow(row=place, reason=error.reason, detail=error.detail, path=path)
        seen = list(self.listings.columns[self._metadata])
        self.warnings.extend(self._reader.compare(f"{self._root}: {self._metadata}", seen, needed=("file_name",)))

    def _row(self, place: str, row: dict[str, Any]) -> Iterator[SourceRecord]:
        values = self._reader.read(row)
        name = self._under_folder(values["file_name"])
        questions, left_out = values["questions"]
        record = SourceRecord(
            row=place,
            name=name,
            split=values["split"],
            patient=values["patient_id"],
            modality=values["modality"],
            view=values["view"],
            report=values["text"],
            labels=values["labels"],
            mask=values["mask"],
            mask_classes=tuple(self._options.mask_classes.items()),
            regions=tuple(self._region(item) for item in values["objects"]),
            attributes=values["attributes"],
            questions=questions,
            left_out=left_out,
        )
        yield from self._slices(replace(record, frame=values["frame"], axis=values["axis"], volume=values["volume"]))

    def _slices(self, record: SourceRecord) -> Iterator[SourceRecord]:
        """The slice that a row names; where it names none, those that the options ask for."""
        named = None if record.axis == "axial" else record.axis
        if record.name.lower().endswith(_SINGLE_FRAME):
            yield replace(record, axis=named)
            return
        axis = named if record.axis or self._options.axis == "axial" else self._options.axis
        volume = self._options.volume if record.volume is None else record.volume
        if record.frame is not None and axis is None:
            yield replace(record, axis=None, volume=volume)
            return
        file = open_file(self._root, *locate(self._root, record.name))
        if file.volume is None:
            if named is not None:
                # Of a DICOM slice the word may tell how it was taken, so it does not mean the series.
                hint = ": the adapter `dicom` cuts a series" if is_dicom(file.data) else ""
                raise Rejected("missing_frame", f"{named} slices of a file that is no volume{hint}")
            # The options mean volumes, whatever other files the source has.
            axis, volume = None, record.volume
        record = replace(record, axis=axis, volume=volume)
        if record.frame is not None:
            yield record
            return
        count = frames(file, axis, pages=self._options.pages_are_frames)
        chosen: Iterable[int | None] = range(count)
        if count == 1:
            chosen = [None]
        elif self._options.frames == "middle":
            chosen = [count // 2]
        yield from (replace(record, frame=frame) for frame in chosen)

    def _region(self, item: dict[str, Any]) -> Region:
        column = self._theirs["objects"]
        box = item.get("bbox")
        if box is not None:
            if not isinstance(box, list) or len(box) != 4 or not all(isinstance(edge, int | float) for edge in box):
                raise Rejected("bad_box", f"{column}: bbox is {kind_of(box)}, not a list of four numbers")
            x, y, third, fourth = map(float, box)
            box = (x, y, x + third, y + fourth) if self._options.box_format == "xywh" else (x, y, third, fourth)
        mask = self._mask(item.get("mask"), f"{column}: mask")
        if box is None and mask is None:
            raise Rejected("bad_objects", f"{column}: one without bbox and mask")
        look_alike = item.get("look_alike")
        if not isinstance(look_alike, bool | None):
            raise Rejected("bad_objects", f"{column}: look_alike is {kind_of(look_alike)}, not true or false")
        return Region(
            label=cells.text(item.get("label"), f"{column}: label"),
            adjective=cells.text(item.get("adjective"), f"{column}: adjective"),
            box=box,
            mask=mask,
            mask_value=cells.whole(item.get("mask_value"), f"{column}: mask_value"),
            phrase=cells.text(item.get("phrase"), f"{column}: phrase"),
            look_alike=bool(look_alike),
        )

    def _modality(self, value: Any, column: str) -> str:
        word = cells.text(value, column)
        return self._options.modality if word is None else modality_of(word, column)

    def _mask(self, value: Any, column: str) -> str | None:
        name = cells.text(value, column)
        return None if name is None else self._under_folder(name)

    def _under_folder(self, name: str) -> str:
        """The name relative to the root; an absolute one stays as it is and is refused when it is opened."""
        return posixpath.join(self._folder, name)


def _axis(value: Any, column: str) -> Axis | None:
    word = cells.text(value, column)
    if word is None:
        return None
    found = next((axis for axis in AXES if axis == word.strip().lower()), None)
    if found is None:
        raise Rejected("unknown_axis", f"{column} is none of {', '.join(AXES)}")
    return found


def _file_name(value: Any, column: str) -> str:
    name = cells.text(value, column) if isinstance(value, str) else None
    if name is None:
        raise Rejected("missing_file_name", f"{column} is {'missing' if cells.is_null(value) else kind_of(value)}")
    return name


def _only_metadata(root: Root) -> str:
    found = [name for name in list_files(root) if name in {f"metadata{suffix}" for suffix in SUFFIXES}]
    if len(found) != 1:
        have = f"{len(found)} of them ({', '.join(found)})" if found else "none"
        raise UserError(
            f"{root} should hold one metadata file (metadata{', metadata'.join(SUFFIXES)}) and has {have}: "
            "name the file in options.metadata"
        )
    return found[0]
