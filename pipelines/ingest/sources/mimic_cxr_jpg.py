"""MIMIC-CXR-JPG (Johnson et al., arXiv:1901.07042) as PhysioNet publishes it, with the reports of MIMIC-CXR.

    mimic-cxr-2.0.0-metadata.csv.gz                 a row an image: dicom_id, subject_id, study_id, ViewPosition, ...
    mimic-cxr-2.0.0-split.csv.gz                    dicom_id -> train, validate, test
    mimic-cxr-2.0.0-{chexpert,negbio}.csv.gz        study_id -> 14 labels: 1, 0, -1 (uncertain) or nothing
    files/pNN/pSUBJECT/sSTUDY/DICOM.jpg             images; NN: the first two digits of SUBJECT
    mimic-cxr-reports.zip: files/pNN/pSUBJECT/sSTUDY.txt    of the other release, MIMIC-CXR

The listings may be unpacked (`.csv`).

Choices:
- Report and labels are of a study, and stand with each of its images. The report is its findings and impression
  (`pipelines.ingest.report_sections`), with its marks of de-identification.
- A study without a report, or whose report cannot be read or says nothing of the image, stays, without text: counted
  under `left_out` with the code of its file and `report_` before it, or as empty_report.
- AP and PA, also lying, are frontal; oblique and swimmer's views have no view.
- The patient is subject_id. A study is one patient's, so that it needs no group of its own.
- `No Finding` is no finding; where it is not 1 and no label is either, nobody said.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from pipelines.archives import list_files, locate, read_bytes
from pipelines.config import parse
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.ingest import cells, chexpert_labels
from pipelines.ingest.present import PresentImages
from pipelines.ingest.record import SourceRecord, UnusableRow, split_of
from pipelines.ingest.report_sections import findings_and_impression
from pipelines.ingest.tables import Listings
from pipelines.records import Sides
from pipelines.storage import Root

_IDENTIFIERS = {"dicom_id": r"[0-9a-fA-F-]+", "subject_id": "[0-9]{8}", "study_id": "[0-9]{8}"}
_VIEWS = {
    **dict.fromkeys(("AP", "PA", "AP AXIAL", "PA AXIAL", "AP LLD", "AP RLD", "PA LLD", "PA RLD"), "frontal"),
    **dict.fromkeys(("LATERAL", "LL", "RL", "XTABLE LATERAL"), "lateral"),
    **dict.fromkeys(("LAO", "RAO", "LPO", "RPO", "SWIMMERS"), None),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter.

    Attributes:
        folder: Folder of MIMIC-CXR-JPG under the root.
        reports: Folder or archive under the root that holds MIMIC-CXR's `files/`; null: no reports.
        labels: Which labeller's; null: none.
        uncertain: What its -1 is.
        only_present: Leave out, and count, rows whose image is not there, instead of rejecting them.
    """

    folder: str = "."
    reports: str | None = "mimic-cxr-reports.zip"
    labels: Literal["chexpert", "negbio"] | None = "chexpert"
    uncertain: chexpert_labels.Uncertain = "missing"
    only_present: bool = False


def _identifier(column: str, cell: Any) -> str:
    word = cells.identity(cell, column)
    if word is None or not re.fullmatch(_IDENTIFIERS[column], word):
        raise Rejected("bad_value", f"{column} is not what MIMIC-CXR writes ({_IDENTIFIERS[column]})")
    return word


def _view(cell: Any) -> str | None:
    word = cells.text(cell, "ViewPosition")
    if word is None:
        return None
    if word.strip() not in _VIEWS:
        raise Rejected("unknown_view", f"ViewPosition is none of {', '.join(_VIEWS)}")
    return _VIEWS[word.strip()]


_READERS: dict[str, Callable[[Any], Any]] = {
    **{column: partial(_identifier, column) for column in _IDENTIFIERS},
    "ViewPosition": _view,
    "split": lambda cell: split_of(cells.text(cell, "split")),
}


class MimicCxrJpg:
    """One record a row of the metadata.

    Attributes:
        listings: Metadata, splits, labels and reports, and what was read of them.
        warnings: How many rows of missing images were left out.
        readers: Column -> what its cells mean.
    """

    sides: ClassVar[Sides] = "patient"

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")
        self.listings = Listings(root)
        self.warnings: list[str] = []
        self.readers = _READERS | chexpert_labels.readers(self._options.uncertain)
        self._reports: dict[str, tuple[str | None, tuple[str, ...]]] = {}
        self._reports_found = 0

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        splits: dict[str, str | None] = {}
        yield from self._read_into(splits, "split", "dicom_id", ["split"], lambda row: _READERS["split"](row["split"]))
        labels: dict[str, tuple[str, ...] | None] = {}
        if self._options.labels is not None:
            read = partial(chexpert_labels.labels_of, uncertain=self._options.uncertain)
            yield from self._read_into(labels, self._options.labels, "study_id", chexpert_labels.LABELS, read)
        present = PresentImages(self._root, self._options.only_present)
        for item in self.listings.rows(self._listing("metadata"), needed=[*_IDENTIFIERS, "ViewPosition"]):
            if isinstance(item, UnusableRow):
                yield item
                continue
            place, row = item
            name = None
            try:
                with item_boundary("bad_row"):
                    dicom, subject, study = (_READERS[column](row[column]) for column in _IDENTIFIERS)
                    name = self._under_folder(f"{_study(subject, study)}/{dicom}.jpg")
                    if not present.takes(name):
                        continue
                    view = _view(row["ViewPosition"])
                    report, left_out = self._report(subject, study)
                    yield SourceRecord(
                        row=place,
                        name=name,
                        split=splits.get(dicom),
                        patient=subject,
                        modality="radiograph",
                        view=view,
                        report=report,
                        labels=labels.get(study),
                        left_out=left_out,
                    )
            except Rejected as error:
                yield UnusableRow(row=place, path=name, reason=error.reason, detail=error.detail)
        self.warnings = present.warnings()
        if self._reports and not self._reports_found:
            raise UserError(
                f"{self._root} has no report {self._options.reports}/files/pNN/pSUBJECT/sSTUDY.txt of its images: "
                "name the folder or archive in options.reports, or null for none"
            )

    def _read_into(
        self,
        found: dict[str, Any],
        kind: str,
        key: str,
        columns: list[str] | tuple[str, ...],
        read: Callable[[dict[str, Any]], Any],
    ) -> Iterator[UnusableRow]:
        """Fill `found` with what a listing says of each image or study; yield its rows that cannot be used."""
        for item in self.listings.rows(self._listing(kind), needed=[key, *columns]):
            if isinstance(item, UnusableRow):
                yield item
                continue
            place, row = item
            try:
                with item_boundary("bad_row"):
                    identifier, value = _READERS[key](row[key]), read(row)
                    if identifier in found:
                        raise Rejected("repeated_entry", f"{key} stands in an earlier row too")
                    found[identifier] = value
            except Rejected as error:
                yield UnusableRow(row=place, reason=error.reason, detail=error.detail)

    def _listing(self, kind: str) -> str:
        """The file of a listing, whatever its version; packed or not."""
        names = list_files(self._root, "" if self._options.folder == "." else posixpath.normpath(self._options.folder))
        pattern = re.compile(rf"mimic-cxr-[0-9.]+-{kind}\.csv(\.gz)?")
        found = [name for name in names if pattern.fullmatch(posixpath.basename(name))]
        if len(found) != 1:
            have = f"{len(found)} files" if found else "no file"
            raise UserError(
                f"{self._root} has {have} mimic-cxr-2.0.0-{kind}.csv.gz (or .csv) in options.folder "
                f"({self._options.folder}): one is needed"
            )
        return found[0]

    def _report(self, subject: str, study: str) -> tuple[str | None, tuple[str, ...]]:
        """What a study's report says of its images, and the reason code where that is nothing."""
        if self._options.reports is None:
            return None, ()
        if study not in self._reports:
            self._reports[study] = self._read_report(
                posixpath.join(self._options.reports, f"{_study(subject, study)}.txt")
            )
        return self._reports[study]

    def _read_report(self, name: str) -> tuple[str | None, tuple[str, ...]]:
        name = posixpath.normpath(name)
        try:
            with item_boundary():
                data = read_bytes(self._root, *locate(self._root, name))
            with item_boundary("bad_text"):
                report = data.decode("utf-8")
        except Rejected as error:
            if error.reason in ("missing_file", "missing_member"):
                return None, ("report_missing_file",)
            self._reports_found += 1
            return None, (f"report_{error.reason}",)
        self._reports_found += 1
        self.listings.files.add(name)
        said = findings_and_impression(report)
        return said, () if said else ("empty_report",)

    def _under_folder(self, name: str) -> str:
        return posixpath.normpath(posixpath.join(self._options.folder, name))


def _study(subject: str, study: str) -> str:
    return f"files/p{subject[:2]}/p{subject}/s{study}"
