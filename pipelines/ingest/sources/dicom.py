"""DICOM files in folders or archives, with a table of reports where there is one.

    **/*                    DICOM files of any name, told by their content; also inside .zip and .tar files
    <table>                 CSV, TSV, JSON Lines or Parquet: a column that joins its rows with files, and any of `text`,
                            `labels`, `split`, `patient_id`

Choices:
- A row speaks of every picture that has its key: a study's report is the report of each of its images.
- Several rows of one key are several rows of its pictures: all texts are kept, as of any image with several rows.
- Patient and study are the header's (the stage hashes them), unless the table has a patient. Kind of image and view are
  the header's too. Into the attributes go words of the standard alone: body part, laterality, view position. UIDs,
  dates, names and free texts of a header go nowhere; the frame of reference is a UID.
- Of a stack of slices the middle one is taken, or those that the table names (`series`); of a file of several frames
  the middle one (`frames`).
- With `axis` a stack, of files or of the frames of one, is a volume, which is cut along that axis: the row of any of
  its slices speaks of all its cuts, and of a time series its first volume is cut, or all of them (`series: all`). A cut
  is named by the first file of its stack. Frames that do not say where they lie stay frames.

Reason codes: not_dicom, not_a_picture, no_pixel_data, report_without_image, missing_key, ambiguous_file_name, and those
of the headers' and the table's readers.
"""

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from models.verified import SUMS
from pipelines.archives import is_archive, list_all_files, list_members, locate, open_stream
from pipelines.config import parse
from pipelines.cuts import Axis, Cut
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.formats.dicom_header import BEGINNING, DicomHeader, is_dicom, read_header
from pipelines.formats.dicom_series import Pictures, stacks, without_neighbours
from pipelines.ingest import cells, dicom_words, report_table, warning_texts
from pipelines.ingest.dicom_cuts import cuts_of, stacks_to_cut
from pipelines.ingest.record import SourceRecord, UnusableRow, split_of
from pipelines.ingest.report_table import FilesByKey, Join
from pipelines.ingest.row_reader import CellReader, RowReader, check_options
from pipelines.ingest.tables import Listings
from pipelines.records import MODALITIES
from pipelines.storage import Root

_READS: dict[str, CellReader] = {
    "text": cells.text,
    "labels": cells.words,
    "split": lambda value, column: split_of(cells.text(value, column), column),
    "patient_id": cells.identity,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter.

    Attributes:
        table: The table of reports; by default the only table directly in the root, if there is one.
        delimiter: Between the values of a CSV or TSV file; null: found from its first lines.
        join: What joins a row with files; by default what the name of a column says, where one alone does.
        columns: key, text, labels, split, patient_id -> the table's column, where it has another name.
        values: Column -> the table's words -> ours, or null where a word says nothing.
        label_columns: Columns that each say of one finding whether it is there: 1, 0, -1 (uncertain) or nothing.
        uncertain: What -1 means there.
        modalities: Modality of a header -> kind of image, where it is another one than usual.
        series: Which slices to take of a stack: the middle one, unless the table names some, or all.
        frames: Which frames to take of a file that has several.
        axis: Along which stacks are cut as volumes; null: slices are taken as they are.
    """

    table: str | None = None
    delimiter: str | None = None
    join: Join | None = None
    columns: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str | int, str | int | None]] = field(default_factory=dict)
    label_columns: list[str] = field(default_factory=list)
    uncertain: Literal["missing", "positive", "negative"] = "missing"
    modalities: dict[str, str] = field(default_factory=dict)
    series: Literal["middle", "all"] = "middle"
    frames: Literal["middle", "all"] = "middle"
    axis: Axis | None = None

    def __post_init__(self) -> None:
        known = ("key", *_READS)
        check_options(known, ("key",), self.columns, self.values, self.label_columns, self.delimiter)
        if wrong := sorted(set(self.modalities.values()) - set(MODALITIES)):
            raise ValueError(f"modalities: {', '.join(wrong)} is none of {', '.join(MODALITIES)}")


@dataclass(frozen=True, kw_only=True)
class _ReportRow:
    """A row of the table: where it stands, and what it says of its pictures."""

    place: str
    text: str | None
    labels: tuple[str, ...] | None
    split: str | None
    patient_id: str | None


_Reports = dict[str, list[_ReportRow]]  # name of a file -> the rows that speak of it


class DicomFiles:
    """One record for each picture that is taken and each row of the table that speaks of it.

    Attributes:
        listings: The table, and what was read of it.
        warnings: What is lost or unknown, in numbers.
        readers: Column of the table -> what its cells mean.
        counts: What the files are, for `pipelines.ingest.inspect`: title -> value -> files.
    """

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")
        self._table = self._options.table or report_table.only_table(root)
        if self._table is None and (self._options.join or self._options.columns):
            raise UserError(f"{root} has no table for options.join and options.columns: name it in options.table")
        self._join = self._options.join
        self._modalities = dicom_words.MODALITY_WORDS | self._options.modalities
        self.listings = Listings(root)
        self.warnings: list[str] = []
        self.readers: dict[str, Callable[[Any], Any]] = {}
        self.counts: dict[str, dict[str, int]] = {}

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        pictures: Pictures = {}
        yield from self._read_headers(pictures)
        reports: _Reports = {}
        if self._table is not None:
            yield from self._read_table(self._table, pictures, reports)
        taken, heads = pictures, set[str]()
        if self._options.axis is not None:
            # The first file of a stack stands for all of it.
            found = stacks_to_cut(pictures)
            heads = {stack[0] for stack in found}
            behind = {name for stack in found for name in stack[1:]}
            taken = {name: header for name, header in pictures.items() if name not in behind}
            for stack in found:
                _share_reports(stack, reports)
        elif self._options.series == "middle":
            named = reports if self._join in report_table.NAMES_ONE_FILE else ()
            taken = without_neighbours(pictures, named)
        self._tell(pictures, taken, reports)
        uncut = 0
        for name, header in taken.items():
            cuts = self._cuts(name, header) if name in heads or header.frames > 1 else None
            uncut += cuts is None
            yield from self._records_of(name, header, cuts or self._frames(header), reports.get(name, []))
        if uncut and self._options.axis is not None:
            self.warnings.append(f"{warning_texts.NOT_CUT}{uncut}")

    def _read_headers(self, pictures: Pictures) -> Iterator[UnusableRow]:
        """Fill in the pictures; yield the files that are none."""
        sop_classes: Counter[str] = Counter()
        for name in list_all_files(self._root):
            if name in (self._table, SUMS):
                continue
            try:
                header = self._header(name)
                sop_classes[dicom_words.sop_class_name(header.sop_class)] += 1
                self.listings.files.add(name)
                if header.sop_class != dicom_words.DIRECTORY:
                    _check_picture(header)
                    pictures[name] = header
            except Rejected as error:
                yield UnusableRow(row=name, path=name, reason=error.reason, detail=error.detail)
        self.counts["SOP classes"] = _by_count(sop_classes)

    def _header(self, name: str) -> DicomHeader:
        path, member = locate(self._root, name)
        with item_boundary():
            if is_archive(name) and member is None:
                list_members(self._root, path)  # says why it could not be opened
            with open_stream(self._root, path, member) as stream:
                beginning = stream.read(BEGINNING)
                if not is_dicom(beginning):
                    raise Rejected("not_dicom", "no DICOM file, nor the table of reports")
                return read_header(stream)

    def _read_table(self, table: str, pictures: Pictures, reports: _Reports) -> Iterator[UnusableRow]:
        """Fill in the rows of each picture; yield the rows that cannot be read or speak of none."""
        place = f"{self._root}: {table}"
        rows = list(self.listings.rows(table, self._options.delimiter))
        seen = list(self.listings.columns[table])
        column, join = report_table.key_column(place, seen, self._options.join, self._options.columns.get("key"))
        self._join = join
        reader = self._row_reader(column, join)
        files = FilesByKey(pictures, join, posixpath.dirname(table))
        matched = 0
        for item in rows:
            if isinstance(item, UnusableRow):
                yield item
                continue
            row_place, row = item
            try:
                with item_boundary("bad_row"):
                    values = reader.read(row)
                    found = files.find(values.pop("key"), column)
                    if not found:
                        raise Rejected("report_without_image", f"{column}: no picture has this {join}")
            except Rejected as error:
                yield UnusableRow(row=row_place, reason=error.reason, detail=error.detail)
                continue
            matched += 1
            report = _ReportRow(place=row_place, **values)
            for name in found:
                reports.setdefault(name, []).append(report)
        if rows and pictures and not matched:
            raise UserError(
                f"{place}: none of its {len(rows)} rows matches one of {len(pictures)} pictures by {join} "
                f"({files.with_key} have one): choose another with options.join"
            )
        # Other keys that a table has beside the one in use say no more than the headers.
        told = [name for name in seen if name in reader.readers or not report_table.may_be_key(name)]
        self.warnings.extend(reader.compare(place, told))
        self.counts["reports"] = {"rows that speak of pictures": matched, "rows that do not": len(rows) - matched}

    def _row_reader(self, column: str, join: Join) -> RowReader:
        options = self._options
        reads = {"key": lambda value, name: report_table.key_of_cell(join, value, name), **_READS}
        reader = RowReader(
            reads, {**options.columns, "key": column}, options.values, options.label_columns, options.uncertain
        )
        self.readers = reader.readers
        return reader

    def _records_of(
        self, name: str, header: DicomHeader, cuts: list[Cut], rows: list[_ReportRow]
    ) -> Iterator[SourceRecord]:
        modality = self._modality(header)
        for row in rows or [_ReportRow(place=name, text=None, labels=None, split=None, patient_id=None)]:
            for cut in cuts:
                yield SourceRecord(
                    row=row.place,
                    name=name,
                    frame=cut.frame,
                    axis=cut.axis,
                    volume=cut.volume,
                    split=row.split,
                    patient=row.patient_id,
                    modality=modality,
                    view=dicom_words.view_word(header) if modality == "radiograph" else None,
                    report=row.text,
                    labels=row.labels,
                    attributes=dicom_words.attributes(header),
                )

    def _frames(self, header: DicomHeader) -> list[Cut]:
        if header.frames == 1:
            return [Cut()]
        chosen = [header.frames // 2] if self._options.frames == "middle" else range(header.frames)
        return [Cut(frame=frame) for frame in chosen]

    def _cuts(self, name: str, header: DicomHeader) -> list[Cut] | None:
        """The cuts of a stack, or None where there is none or it is not to be cut."""
        if self._options.axis is None:
            return None
        of_frames = header.frames > 1
        which = self._options.frames if of_frames else self._options.series
        return cuts_of(self._root, name, self._options.axis, of_frames=of_frames, everywhere=which == "all")

    def _modality(self, header: DicomHeader) -> str:
        return self._modalities.get((header.modality or "").upper(), "other")

    def _tell(self, pictures: Pictures, taken: Pictures, reports: _Reports) -> None:
        """Count what the files are, and warn of what is lost or unknown; of a stack that is cut, one file is taken."""
        left_out = 0 if self._options.axis is not None else len(pictures) - len(taken)
        headers = pictures.values()
        radiographs = [header for header in headers if self._modality(header) == "radiograph"]
        views = Counter(dicom_words.view_position(header) or "none" for header in radiographs)
        self.counts |= {
            "DICOM modalities": _by_count(Counter(header.modality or "none" for header in headers)),
            "view positions of radiographs": _by_count(views),
            "series": {
                "series": len({header.series for header in headers}),
                "stacks of slices": sum(len(stack) > 1 for stack in stacks(pictures)),
                "pictures": len(pictures),
                "slices not taken": left_out,
            },
        }
        if self._table is not None:
            with_report = len(taken.keys() & reports.keys())
            self.counts["reports"] |= {"pictures with a row": with_report, "without": len(taken) - with_report}
        numbers = {
            warning_texts.FILES_WITHOUT_REPORT: len(taken.keys() - reports.keys()) if self._table else 0,
            warning_texts.SLICES_NOT_TAKEN: left_out,
            warning_texts.UNKNOWN_MODALITIES: sum(
                (header.modality or "").upper() not in self._modalities for header in headers
            ),
            warning_texts.OTHER_VIEWS: sum(
                dicom_words.view_word(header) is None and bool(header.view_position or header.view_code)
                for header in radiographs
            ),
        }
        self.warnings.extend(f"{sentence}{number}" for sentence, number in numbers.items() if number)


def _share_reports(stack: list[str], reports: _Reports) -> None:
    """What is said of any slice of a stack is said of its volume."""
    rows = list({id(row): row for name in stack for row in reports.get(name, [])}.values())
    if rows:
        reports.update(dict.fromkeys(stack, rows))


def _check_picture(header: DicomHeader) -> None:
    if not dicom_words.is_picture(header.sop_class):
        raise Rejected("not_a_picture", f"DICOM object: {dicom_words.sop_class_name(header.sop_class)}")
    if not header.has_pixels:
        raise Rejected("no_pixel_data", "a DICOM header without pixel data")


def _by_count(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
