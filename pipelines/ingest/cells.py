"""Cells of a source's listing as the words that are meant: the one reader that every adapter uses.

A cell is a value of CSV, JSON or Parquet. What says nothing (missing, blank, NaN, `N/A`, `null`, `___` and the like) is
null everywhere. Reason codes of `Rejected`: bad_text, bad_value, bad_labels. Details name the column and no value.
"""

import ast
import json
import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from pipelines.errors import Rejected, text_fault
from pipelines.ingest.details import kind_of
from pipelines.records import NO_FINDING


class ValueMap:
    """A source's words, in any case, and ours for them; None: the word says nothing.

    Attributes:
        unused: Its words that no cell held so far.
    """

    def __init__(self, words: Mapping[str, str | None]) -> None:
        self._ours = {_plain(theirs): ours for theirs, ours in words.items()}
        self.unused = dict.fromkeys(self._ours)

    def get(self, word: str, default: Any) -> Any:
        key = _plain(word)
        self.unused.pop(key, None)
        return self._ours.get(key, default)


_NULL_WORDS = {"na", "n/a", "n.a", "#n/a", "<na>", "nan", "nat", "null", "none", "nil", "not available"}
_NOBODY = {
    *("unknown", "unknown patient", "not known", "unidentified", "anonymous", "anonymous patient", "anonym", "anon"),
    *("anonymized", "anonymised", "deidentified", "de identified", "removed", "redacted", "withheld", "masked"),
}
_NOBODY_SAID = {"unknown", "not known", "todo", "not reported"}
_NORMAL = {
    *("no finding", "no findings", "nofinding", "normal", "none", "healthy", "no abnormality", "no abnormalities"),
    *("no abnormal finding", "no abnormal findings", "no disease", "no pathology", "unremarkable", "without findings"),
}
_INVISIBLE = "\u200b\ufeff"  # zero-width space and byte order mark, which `str.strip` leaves
_TRUE, _FALSE = {"1", "true", "yes", "y"}, {"0", "false", "no", "n"}
_LARGEST_EXACT = 2**53  # from here on a float has lost digits of a whole number

_QUOTED_WORD = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_QUOTED_LIST = re.compile(rf"(?:{_QUOTED_WORD})(?:[\s,;]+(?:{_QUOTED_WORD}))*[\s,]*", re.DOTALL)
_BRACKETS = {"[": "]", "(": ")", "{": "}"}


def is_null(value: object) -> bool:
    """Whether a cell says nothing."""
    if isinstance(value, str):
        word = _plain(value)
        return word in _NULL_WORDS or not word.strip("-_\u2013\u2014.?* ")
    return _is_missing(value)


def is_normal(word: str | None) -> bool:
    """Whether a word says that there is no finding."""
    return word is not None and re.sub(r"[\s_-]+", " ", _plain(word)) in _NORMAL


def text(value: Any, column: str, *, null_words: bool = True) -> str | None:
    """A text as it stands, or a number as text (`3.0` is 3).

    Args:
        value: The cell.
        column: Its column, for the detail.
        null_words: Whether words such as `none` are null; False where they may be meant, as in an answer.

    Raises:
        Rejected: bad_value, or bad_text for text that no table can hold.
    """
    if is_null(value) if null_words else _is_missing(value):
        return None
    if isinstance(value, str):
        if fault := text_fault(value):
            raise Rejected("bad_text", f"{column}: {fault}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise Rejected("bad_value", f"{column} is {kind_of(value)}, not a text or a number")
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise Rejected("bad_value", f"{column} is infinite")
    return str(int(value)) if value == int(value) else str(value)


def identity(value: Any, column: str) -> str | None:
    """Who an image is of: as text without spaces around it; `777.0` is 777, leading zeros stay.

    Words such as `unknown` and `anonymous` name nobody.

    Raises:
        Rejected: As in `text`; bad_value too for a number that has lost digits, for it stands for several ids.
    """
    if isinstance(value, float) and math.isfinite(value) and abs(value) >= _LARGEST_EXACT:
        raise Rejected("bad_value", f"{column} is a number too long for a float, which has lost digits: store text")
    word = text(value, column)
    if word is None:
        return None
    word = word.strip().strip(_INVISIBLE).strip()
    if re.fullmatch(r"\d(?:[.,]\d+)?[eE]\+\d+", word):
        raise Rejected("bad_value", f"{column} is in scientific notation, which has lost digits: store it as text")
    nobody = re.sub(r"[\^_\s-]+", " ", _plain(word)).strip()
    if nobody in _NOBODY or re.fullmatch(r"x{2,}", nobody):
        return None
    return word.partition(".")[0] if re.fullmatch(r"[0-9]+\.0+", word) else word


def whole(value: Any, column: str) -> int | None:
    """A whole number from 0 that a table can hold, also as text (`2`, `2.0`).

    Raises:
        Rejected: bad_value.
    """
    word = text(value, column)
    if word is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}(?:\.0+)?", word.strip()):
        raise Rejected("bad_value", f"{column} is not a whole number from 0, of at most 18 digits")
    return int(word.strip().partition(".")[0])


def words(value: Any, column: str, values: ValueMap | None = None) -> tuple[str, ...] | None:
    """Labels of one cell.

    Args:
        value: A list; a list as JSON, Python or NumPy write it; or text with | or ; between words.
        column: Its column, for the detail.
        values: The source's words that mean something else; looked up for the whole cell first, then for each word.

    Returns:
        The words without repetition; () where the cell says that there is no finding (`No findings`, `Normal`, `none`,
        `[]`, ...); None where nobody said.

    Raises:
        Rejected: bad_labels.
    """
    if isinstance(value, str):
        value = mapped(value, values)
    if _is_missing(value) or (isinstance(value, str) and _says_nothing(value)):
        return None
    items = _items(value, column) if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise Rejected("bad_labels", f"{column} is {kind_of(value)}, not a word or a list of words: see options.values")
    named = [mapped(item, values) if isinstance(item, str) else item for item in items]
    named = [word for word in named if not (_is_missing(word) or (isinstance(word, str) and _says_nothing(word)))]
    if items and not named:
        return None
    return _labels(named, column)


def one_hot(cells: Mapping[str, Any], uncertain: str, values: Mapping[str, ValueMap]) -> tuple[str, ...] | None:
    """Labels of columns that hold 1, 0, -1 or nothing, as CheXpert's.

    Args:
        cells: Column -> cell.
        uncertain: What -1 is: missing, positive or negative.
        values: Column -> its words that mean something else; those of `labels` rename columns.

    Returns:
        The columns that say yes; () where a column called by a word for normal says yes and no other does, or where
        all say no; None where that is not known.

    Raises:
        Rejected: bad_labels.
    """
    answers: dict[str, bool | None] = {}
    for column, cell in cells.items():
        # Uncertain whether there is no finding: nobody said so.
        policy = "missing" if is_normal(column) else uncertain
        answer = yes_or_no(mapped(cell, values.get(column)), column, policy)
        name = mapped(column, values.get("labels"))
        if name is not None:
            answers[name] = answer or answers.get(name, answer)
    positive = [name for name, answer in answers.items() if answer]
    if positive:
        return tuple(name for name in positive if not is_normal(name))
    # Where the column for normal says no, there is a finding that no column names.
    all_no = all(answer is False for answer in answers.values()) and not any(map(is_normal, answers))
    return () if all_no else None


def mapped(value: Any, values: ValueMap | None) -> Any:
    """What a cell or word means by a value map; itself where the map does not have it."""
    if not values or not isinstance(value, str | int | float):
        return value
    key = value.strip() if isinstance(value, str) else str(int(value)) if _is_whole(value) else str(value)
    return values.get(key, value)


def _is_whole(value: int | float) -> bool:
    return isinstance(value, int) or (math.isfinite(value) and value == int(value))


def _is_missing(value: object) -> bool:
    if isinstance(value, str):
        return not value.strip().strip(_INVISIBLE).strip()
    return value is None or (isinstance(value, float | Decimal) and math.isnan(value))


def _plain(word: str) -> str:
    """A word to compare: in small letters, without spaces, invisible signs and full stops around it."""
    return word.strip().strip(_INVISIBLE).strip().strip(".").strip().casefold()


def _says_nothing(word: str) -> bool:
    """Whether a label says nothing: `none` says that there is no finding."""
    return (is_null(word) and _plain(word) != "none") or _plain(word) in _NOBODY_SAID


def _labels(named: Iterable[Any], column: str) -> tuple[str, ...]:
    labels: dict[str, None] = {}
    normal = False
    for word in named:
        if not isinstance(word, str) or re.fullmatch(r"-?[0-9]+(?:\.[0-9]+)?", word.strip()):
            raise Rejected("bad_labels", f"{column}: one is a number or no word: name it in options.values")
        if fault := text_fault(word):
            raise Rejected("bad_text", f"{column}: {fault}")
        if is_normal(word):
            normal = True
        else:
            labels[word.strip()] = None
    if normal and labels:
        raise Rejected("bad_labels", f"{column}: {NO_FINDING} beside {len(labels)} others")
    return tuple(labels)


def _items(cell: str, column: str) -> list[Any]:
    """The words of a text: a list in any usual spelling, or words with | or ; between them."""
    plain = cell.strip().strip(_INVISIBLE).strip()
    array = re.fullmatch(r"(?:array|set|frozenset|list|tuple)\((.*?)(?:,\s*dtype=[^)]*)?\)", plain, re.DOTALL)
    plain = array.group(1).strip() if array else plain
    if plain in ("()", "{}"):
        return []
    if plain[:1] in ("[", "{") or _QUOTED_LIST.fullmatch(plain[1:-1].strip() if plain[:1] in _BRACKETS else plain):
        return _listed(plain, column)
    return [word for word in re.split(r"[|;]", plain) if word.strip()]


def _listed(plain: str, column: str) -> list[Any]:
    try:
        decoded = json.loads(plain)
    except (ValueError, RecursionError):
        pass
    else:
        return decoded if isinstance(decoded, list) else [decoded]
    inner = plain
    if plain[0] in _BRACKETS:
        if plain[-1] != _BRACKETS[plain[0]]:
            raise Rejected("bad_labels", f"{column}: a list that does not end")
        inner = plain[1:-1].strip()
    # Word by word: Python reads NumPy's ['a' 'b'] as one word.
    if _QUOTED_LIST.fullmatch(inner):
        return [_unquoted(word, column) for word in re.findall(_QUOTED_WORD, inner, re.DOTALL)]
    if re.search(r"['\"\[\]{}]", inner):
        return _python_list(plain, column)
    return _bare(re.split(r"[,|;]", inner))


def _python_list(plain: str, column: str) -> list[Any]:
    """A list with null words beside quoted ones, or with an apostrophe in an unquoted word."""
    words = re.split(r"\s*[,|;]\s*", plain[1:-1].strip())
    if any(re.search(r"[\"\[\]{}]|^'|'$", word) and not re.fullmatch(_QUOTED_WORD, word) for word in words):
        raise Rejected("bad_labels", f"{column}: a list that neither JSON nor Python writes so")
    quoted = [word for word in words if re.fullmatch(_QUOTED_WORD, word)]
    return [*(_unquoted(word, column) for word in quoted), *_bare(word for word in words if word not in quoted)]


def _bare(words: Iterable[str]) -> list[str | None]:
    """Words of a list without quotation marks, where None is Python's."""
    return [None if is_null(word) else word for word in words]


def _unquoted(word: str, column: str) -> str:
    try:
        return str(ast.literal_eval(word))
    except (ValueError, SyntaxError):
        raise Rejected("bad_labels", f"{column}: a word in quotation marks that cannot be read") from None


def yes_or_no(cell: Any, column: str, uncertain: str) -> bool | None:
    """What one of the columns of `one_hot` says; None where that is not known."""
    if isinstance(cell, bool):
        return cell
    word = text(cell, column)
    word = None if word is None else re.sub(r"\.0+$", "", word.strip().casefold())
    if word == "-1":
        return {"missing": None, "positive": True, "negative": False}[uncertain]
    if word is None or word in _TRUE | _FALSE:
        return None if word is None else word in _TRUE
    raise Rejected("bad_labels", f"{column} is none of 1, 0, -1 and nothing: see options.values")


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
