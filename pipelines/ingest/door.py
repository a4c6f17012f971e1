"""The door: texts and numbers that no table can hold are refused here, before a row is used for anything.

Texts are Unicode without half surrogate pairs and without NUL; whole numbers fit in 64 bits.

Reason codes of `Rejected`: bad_text, bad_value.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import replace

from pipelines.errors import Rejected, printable, text_fault
from pipelines.ingest.details import without_values
from pipelines.ingest.record import SourceRecord, UnusableRow

_LARGEST = 2**63 - 1
# Adapters call their columns by their own names; what reaches the door is told in words that any source has.
_WORDS = {"name": "file name", "patient": "patient id", "report": "text"}


def checked(record: SourceRecord) -> SourceRecord | UnusableRow:
    """The record itself, or the rejected row that it becomes."""
    try:
        for field in dataclasses.fields(record):
            _check(getattr(record, field.name), _WORDS.get(field.name, field.name))
    except Rejected as error:
        return writable(UnusableRow(row=record.row, path=record.name, reason=error.reason, detail=error.detail))
    return record


def writable(row: UnusableRow) -> UnusableRow:
    """A rejected row in texts that a table can hold: `\\udc80` stands for what cannot be written."""
    path = None if row.path is None else printable(row.path)
    return replace(row, row=printable(row.row), path=path, detail=printable(row.detail))


def as_rejected(row: UnusableRow) -> UnusableRow:
    """A rejected row as the table and pages have it: in texts that they hold, and in words that may be passed on."""
    row = writable(row)
    return replace(row, detail=without_values(row.detail, row.path))


def _check(value: object, column: str) -> None:
    if isinstance(value, str):
        if fault := text_fault(value):
            raise Rejected("bad_text", f"{column}: {fault}")
    elif isinstance(value, int):
        if abs(value) > _LARGEST:
            raise Rejected("bad_value", f"{column}: a whole number of more than 64 bits")
    elif isinstance(value, tuple):
        for one in value:
            _check(one, column)
    elif isinstance(value, Mapping):
        _check(tuple(value.items()), column)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _check(getattr(value, field.name), f"{column}.{field.name}")
