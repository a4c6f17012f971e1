"""A table of reports beside DICOM files: which of its columns says of which files a row speaks.

A row speaks of all pictures that have its key: of a study's where the key is that of a study. Reason codes of
`Rejected`: missing_key, ambiguous_file_name.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

from pipelines.archives import list_files
from pipelines.errors import Rejected, UserError
from pipelines.formats.dicom_header import DicomHeader
from pipelines.ingest import cells
from pipelines.ingest.tables import SUFFIXES
from pipelines.storage import Root

Join = Literal["AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "SOPInstanceUID", "file_name"]
# Names of columns, in small letters without what stands between words.
_COLUMNS: dict[str, Join] = {
    **dict.fromkeys(("accessionnumber", "accession", "accessionno", "accessionid"), "AccessionNumber"),
    **dict.fromkeys(("studyinstanceuid", "studyuid"), "StudyInstanceUID"),
    **dict.fromkeys(("seriesinstanceuid", "seriesuid"), "SeriesInstanceUID"),
    **dict.fromkeys(("patientid",), "PatientID"),
    **dict.fromkeys(("sopinstanceuid", "sopuid", "instanceuid", "imageinstanceuid"), "SOPInstanceUID"),
    **dict.fromkeys(("filename", "file", "filepath", "path", "imagepath", "dicompath"), "file_name"),
}
_OF_HEADER: dict[str, Callable[[DicomHeader], str | None]] = {
    "AccessionNumber": lambda header: header.accession,
    "StudyInstanceUID": lambda header: header.study,
    "SeriesInstanceUID": lambda header: header.series,
    "PatientID": lambda header: header.patient,
    "SOPInstanceUID": lambda header: header.sop_instance,
}
# Of a file whose name is a UID, what follows the last full stop is no suffix.
_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
NAMES_ONE_FILE = ("SOPInstanceUID", "file_name")


def only_table(root: Root) -> str | None:
    """The only table directly in a root; None where there is none.

    Raises:
        UserError: There are several.
    """
    found = [name for name in list_files(root) if name.lower().endswith(SUFFIXES)]
    if len(found) > 1:
        raise UserError(
            f"{root} holds {len(found)} tables ({', '.join(found)}): name that of the reports in options.table"
        )
    return found[0] if found else None


def key_column(place: str, columns: Iterable[str], join: Join | None, named: str | None) -> tuple[str, Join]:
    """The column of the key, and what it holds.

    Args:
        place: The table, for messages.
        columns: Its columns.
        join: What the options say that the key is.
        named: The column that the options name.

    Raises:
        UserError: The options do not say it and the names of the columns do not either; the message lists what may be.
    """
    columns = list(columns)
    known = {column: _COLUMNS[_plain(column)] for column in columns if may_be_key(column)}
    if named is not None:
        if named not in columns:
            raise UserError(f"{place} has no column {named}: correct options.columns.key")
        if join is None and named not in known:
            raise UserError(f"{place}: say in options.join what {named} holds: {', '.join(get_args(Join))}")
        return named, join or known[named]
    fitting = {column: kind for column, kind in known.items() if join in (None, kind)}
    if len(fitting) == 1:
        return next(iter(fitting.items()))
    if join is not None:
        raise UserError(
            f"{place} has {len(fitting)} columns that may hold {join}: name the right one in options.columns.key"
        )
    if fitting:
        raise UserError(
            f"{place} has several columns that may join its rows with files: choose one with options.join "
            f"({', '.join(dict.fromkeys(fitting.values()))})"
        )
    raise UserError(
        f"{place} has no column that joins its rows with files: name one in options.columns.key, and what it holds in "
        f"options.join ({', '.join(get_args(Join))})"
    )


def may_be_key(column: str) -> bool:
    """Whether a column has a name of those that join rows with files."""
    return _plain(column) in _COLUMNS


def key_of_cell(join: Join, value: Any, column: str) -> str:
    """The key that a row has.

    Raises:
        Rejected: It has none, or one that cannot be read.
    """
    key = _key(join, value, column)
    if key is None:
        raise Rejected("missing_key", f"{column} is missing")
    return key


class FilesByKey:
    """The pictures that a key stands for.

    Args:
        pictures: Name of a file -> its header.
        join: What the keys are.
        folder: Of the table; names of files are relative to it, or to the root, or without folders.

    Attributes:
        with_key: How many pictures have a key.
    """

    def __init__(self, pictures: Mapping[str, DicomHeader], join: Join, folder: str) -> None:
        self._pictures, self._join, self._folder = pictures, join, folder
        self._files: dict[str, list[str]] = {}
        self.with_key = 0
        for name, header in pictures.items():
            keys = _short_names(name) if join == "file_name" else _of_header(join, header)
            self.with_key += bool(keys)
            for key in keys:
                self._files.setdefault(key, []).append(name)

    def find(self, key: str, column: str) -> list[str]:
        """The names of the pictures.

        Raises:
            Rejected: ambiguous_file_name, where files in several folders have the name.
        """
        if self._join != "file_name":
            return self._files.get(key, [])
        name = posixpath.normpath(key.replace("\\", "/"))
        for full in (posixpath.normpath(posixpath.join(self._folder, name)), name):
            if full in self._pictures:
                return [full]
        found = self._files.get(name, [])
        if len(found) > 1:
            raise Rejected("ambiguous_file_name", f"{column}: {len(found)} files in several folders have the name")
        return found


def _plain(column: str) -> str:
    return re.sub(r"[\W_]+", "", column.casefold())


def _key(join: Join, value: Any, column: str) -> str | None:
    # Of numbers kept as fractions (777.0) those of people and orders alone are meant without them.
    read = cells.identity if join in ("AccessionNumber", "PatientID") else cells.text
    word = read(value, column)
    return None if word is None else word.strip() or None


def _of_header(join: Join, header: DicomHeader) -> list[str]:
    try:
        key = _key(join, _OF_HEADER[join](header), join)
    except Rejected:
        return []
    return [] if key is None else [key]


def _short_names(name: str) -> list[str]:
    base = posixpath.basename(name)
    stem, suffix = posixpath.splitext(base)
    return [base, stem] if suffix.lower() in _SUFFIXES else [base]
