"""The audit sheet as CSV: what the page downloads, and what people fill in with a spreadsheet.

Spreadsheets save what they read in their own way: commas, semicolons or tabs between the columns, UTF-8 with a mark or
Windows' Western encoding, numbers rounded, dates rewritten, and cells that begin like a formula computed. Nothing that
is read back looks like a number or a formula, and all of those files are read.
"""

import csv
import datetime
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.audit.answers import REASONS, Answer
from pipelines.audit.sample import Item
from pipelines.errors import UserError
from pipelines.files import atomic_path

COLUMNS = ("item", "shown", "answer", "reason", "reviewer", "date")
_SHOWN = "sha256:"  # in front of a digest, of which a spreadsheet may else make a number
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # OWASP, CSV injection
_MAX_BYTES = 2**24


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What a filled-in sheet holds.

    Attributes:
        answers: The answers.
        rows: Their rows in the file, counted as a spreadsheet does.
        unanswered: Rows without an answer.
    """

    answers: list[Answer]
    rows: list[int]
    unanswered: int


def write(path: Path, items: Sequence[Item], questions: Sequence[str]) -> None:
    """Write an empty sheet: numbers as on the page, questions, texts, and columns to fill in."""
    header = ("number", *COLUMNS[:2], "question", "text", "answer (yes, no, unsure)", *COLUMNS[3:])
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        for number, (item, question) in enumerate(zip(items, questions, strict=True), start=1):
            writer.writerow([number, item.name, _SHOWN + item.shown, question, cell(item.text or ""), "", "", "", ""])


def cell(text: str) -> str:
    """A text on one line, in a form that no spreadsheet computes."""
    line = " ".join(text.split())
    return f"'{line}" if line.startswith(_FORMULA) else line


def read(path: Path, today: datetime.date) -> Sheet:
    """The answers of a sheet.

    Args:
        path: The file.
        today: The day that answers without a date were given.

    Raises:
        UserError: It is no sheet, or a value is wrong; the message names row and column.
    """
    rows = _rows(path)
    header = [name.partition(" (")[0].strip().lower() for name in rows[0]] if rows else []
    if missing := [name for name in COLUMNS if header.count(name) != 1]:
        raise UserError(f"{path} is no audit sheet: column {missing[0]} is not there once; save the sheet as CSV")
    answers: list[Answer] = []
    numbers: list[int] = []
    unanswered = 0
    first: dict[tuple[str, str], int] = {}
    for number, cells in enumerate(rows[1:], start=2):
        values = dict(zip(header, (value.strip() for value in cells), strict=False))
        given = {name: values.get(name, "") for name in COLUMNS}
        if not any(given.values()):
            continue
        if not given["answer"] and not given["reason"]:
            unanswered += 1
            continue
        answer = _answer(given, today, f"{path}: row {number}")
        if answer.date > today.isoformat():
            raise UserError(f"{path}: row {number}, column date: {answer.date} is still to come")
        key = answer.item, answer.reviewer
        if key in first:
            raise UserError(f"{path}: row {number}, column item: {answer.item} stands in row {first[key]} already")
        first[key] = number
        answers.append(answer)
        numbers.append(number)
    return Sheet(answers=answers, rows=numbers, unanswered=unanswered)


def _answer(given: dict[str, str], today: datetime.date, place: str) -> Answer:
    values = {
        "item": given["item"],
        "shown": given["shown"].removeprefix(_SHOWN),
        "answer": given["answer"].lower(),
        "reason": given["reason"].lower() or None,
        "reviewer": given["reviewer"].upper(),
        "date": given["date"] or today.isoformat(),
    }
    try:
        return Answer(**values)  # type: ignore[arg-type]
    except ValueError as error:
        column, _, fault = str(error).partition(": ")
        raise UserError(f"{place}, column {column}: {fault}") from None


def _rows(path: Path) -> list[list[str]]:
    """The cells of a file, whatever a spreadsheet puts between them."""
    if not path.is_file():
        raise UserError(f"{path} is no file: give the sheet that the page downloaded, or that was filled in")
    if path.stat().st_size > _MAX_BYTES:
        raise UserError(f"{path} is larger than {_MAX_BYTES} bytes: it is no audit sheet")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    if "\0" in text:
        raise UserError(f"{path} is no audit sheet: save it as CSV in UTF-8")
    lines = text.splitlines()
    # Excel's own hint of what stands between the cells.
    if lines and lines[0].lower().startswith("sep="):
        text = text.partition("\n")[2]
        lines = lines[1:]
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from None


def reasons(items: Iterable[Item]) -> dict[str, dict[str, str]]:
    """The reason codes, with their words, of the kinds of items that there are."""
    return {what: REASONS[what] for what in dict.fromkeys(item.what for item in items)}
