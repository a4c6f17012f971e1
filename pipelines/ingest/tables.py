"""Listings of a source: rows of CSV, TSV, JSON Lines and Parquet files, and JSON lists, each with its place. Text
files may be gzipped (`.csv.gz`).

Tables are read strictly and row by row, so that memory does not grow with them; a JSON list is read as a whole. Every
line is counted: a line is the header, blank, the first one of a row, or a further one of a row whose quoted value has
line breaks.
"""

import codecs
import contextlib
import gzip
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow.parquet

from pipelines.archives import MAX_BYTES, locate, open_stream, read_bytes
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.ingest.record import UnusableRow
from pipelines.ingest.separated import HEAD_CHARACTERS, read_separated
from pipelines.storage import Root
from pipelines.tables import READING

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

Row = tuple[str, dict[str, Any]]
_BATCH_ROWS = 1024  # of a Parquet file that are objects at a time

Watch = Callable[[str, Mapping[str, Any]], None]


class Listings:
    """The listings of one source, and what was read of them.

    Args:
        root: The source's folder or archive.

    Attributes:
        files: The files that were read.
        lines: Of each file `rows`; of a text file also `lines`, which is the sum of `rows`, `header`, `blank` and
            `further_lines_of_rows`.
        columns: Of each file the names of its columns, in the order in which they were seen.
        watch: Called with the file's name and each row that has columns, whether the adapter can use it or not.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self.files: set[str] = set()
        self.lines: dict[str, dict[str, int]] = {}
        self.columns: dict[str, dict[str, None]] = {}
        self.watch: Watch = lambda name, row: None

    def rows(
        self, name: str, delimiter: str | None = None, needed: Collection[str] = ()
    ) -> Iterator[Row | UnusableRow]:
        """Yield (place, row) for each row; the place is the file's name and the line where the row starts.

        Args:
            name: The table's file; its suffix (one of `SUFFIXES`, and `.gz` behind it) tells how to read it. Parquet:
                the place is the row, from 1.
            delimiter: Between the values of a CSV or TSV file; None: the one of `,` `;` tab `|` that its lines show.
            needed: Columns that every row must have.

        Raises:
            UserError: There is no such file, it cannot be read as what its suffix says, or its structure is broken: a
                quote that never closes, a column that stands twice, a delimiter that splits nothing; or a needed
                column is missing.
        """
        try:
            with self._opened(name) as stream, item_boundary():
                counts = self.lines[name] = {"rows": 0}
                columns = self.columns[name] = {}
                for item in self._rows(name, stream, delimiter, counts, columns):
                    if not isinstance(item, UnusableRow):
                        if missing := [column for column in needed if column not in item[1]]:
                            raise UserError(f"{self._root}: {name} has no column {', '.join(missing)}")
                        columns.update(dict.fromkeys(item[1]))
                        self.watch(name, item[1])
                    yield item
        except Rejected as error:
            raise UserError(f"{self._root}: {name} cannot be read as its suffix says: {error.detail}") from None

    def json_list(self, name: str, of: str, hint: str = "") -> list[Any]:
        """The list in a JSON file that lists a source's images.

        Args:
            name: The file.
            of: What the list should hold, for the message.
            hint: What may be said of a file that cannot be read.

        Raises:
            UserError: There is no such file, or it holds no list.
        """
        items = self._json(name, hint)
        if not isinstance(items, list):
            raise UserError(f"{self._root}: {name} should hold a list of {of}")
        self._count(name, items)
        return items

    def json_lists(
        self, name: str, needed: tuple[str, ...], optional: tuple[str, ...] = (), hint: str = ""
    ) -> dict[str, list[Any]]:
        """The lists of a JSON file that holds an object of lists, such as COCO's; their rows count together.

        Args:
            name: The file.
            needed: Keys of the lists; other keys are not read.
            optional: Further keys; a list that is not there is empty, and its rows do not count.
            hint: What may be said of a file that cannot be read.

        Raises:
            UserError: There is no such file, or it holds no object with these lists.
        """
        found = self._json(name, hint)
        lists = {**{key: [] for key in optional}, **found} if isinstance(found, dict) else {}
        if not all(isinstance(lists.get(key), list) for key in (*needed, *optional)):
            raise UserError(f"{self._root}: {name} should hold an object with the lists {', '.join(needed)}{hint}")
        self._count(name, [item for key in needed for item in lists[key]])
        return lists

    def _json(self, name: str, hint: str) -> Any:
        data = self.read(name, hint)
        try:
            with item_boundary():
                return json.loads(data)
        except Rejected as error:
            raise UserError(f"{self._root}: {name} is not JSON ({error.detail})") from None

    def _count(self, name: str, items: list[Any]) -> None:
        self.lines[name] = {"rows": len(items)}
        columns = self.columns[name] = {}
        for item in items:
            if isinstance(item, dict):
                columns.update(dict.fromkeys(item))
                self.watch(name, item)

    def read(self, name: str, hint: str = "") -> bytes:
        """The bytes of a file that says something about the images.

        Raises:
            UserError: It cannot be read; `hint` ends the message.
        """
        try:
            data = read_bytes(self._root, *locate(self._root, name))
        except Rejected as error:
            raise UserError(f"{self._root}: {name} cannot be read ({error}){hint}") from None
        self.files.add(name)
        return data

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[BinaryIO]:
        """The bytes of a table, from its first; raises as `read`."""
        with contextlib.ExitStack() as stack:
            try:
                stream = stack.enter_context(open_stream(self._root, *locate(self._root, name)))
                if not stream.read(1):
                    raise Rejected("empty_file", f"{name}: 0 bytes")
            except Rejected as error:
                raise UserError(f"{self._root}: {name} cannot be read ({error})") from None
            self.files.add(name)
            stream.seek(0)
            yield stream

    def _rows(
        self, name: str, stream: BinaryIO, delimiter: str | None, counts: dict[str, int], columns: dict[str, None]
    ) -> Iterator[Row | UnusableRow]:
        if name.endswith(".parquet"):
            yield from _parquet(self._root, name, stream, counts)
            return
        text = _Text(self._root, name, gzip.GzipFile(fileobj=stream) if name.endswith(".gz") else stream)
        if name.removesuffix(".gz").endswith((".csv", ".tsv")):
            yield from read_separated(self._root, name, text.head(), text.lines(""), delimiter, counts, columns)
        else:
            yield from _json_lines(name, text.lines("\n"), counts)


class _Text:
    """A text file of a source, read a line at a time.

    Args:
        root: The source, for messages.
        name: The file.
        stream: Its bytes.
    """

    def __init__(self, root: Root, name: str, stream: BinaryIO | gzip.GzipFile) -> None:
        self._root, self._name, self._stream = root, name, stream

    def head(self) -> str:
        """The first characters, from which the delimiter is told."""
        text = self._decoded("")
        try:
            with self._is_utf8():
                return text.read(HEAD_CHARACTERS)
        finally:
            text.detach()  # or it would close the stream

    def lines(self, newline: str) -> Iterator[str]:
        """The lines with their ends, which `newline` says as `open` does.

        Raises:
            Rejected: file_too_large, of a line that is longer than any file may be that is read as a whole.
        """
        text = self._decoded(newline)
        with self._is_utf8():
            while line := text.readline(MAX_BYTES + 1):
                if len(line) > MAX_BYTES:
                    raise Rejected("file_too_large", f"a line of more than {MAX_BYTES} characters")
                yield line

    def _decoded(self, newline: str) -> io.TextIOWrapper:
        self._stream.seek(0)
        return io.TextIOWrapper(self._stream, encoding="utf-8-sig", newline=newline)

    @contextlib.contextmanager
    def _is_utf8(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError:
            if self._name.lower().endswith((".xlsx", ".xls")):
                raise UserError(
                    f"{self._root}: {self._name} is a workbook of Excel: save its sheet as CSV (UTF-8)"
                ) from None
            raise UserError(
                f"{self._root}: {self._name} is not UTF-8 (byte {self._first_wrong_byte()}): save it as UTF-8"
            ) from None

    def _first_wrong_byte(self) -> int:
        """Where a file stops to be UTF-8, from 0; a reader that is ahead of its lines does not know."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        self._stream.seek(0)
        place = 0
        while True:
            data = self._stream.read(2**16)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                return place - pending + error.start
            place += len(data)


def _json_lines(name: str, lines: Iterator[str], counts: dict[str, int]) -> Iterator[Row | UnusableRow]:
    counts |= {"lines": 0, "header": 0, "blank": 0, "further_lines_of_rows": 0}
    for number, line in enumerate(lines, start=1):
        counts["lines"] = number
        if not line.strip():
            counts["blank"] += 1
            continue
        counts["rows"] += 1
        place = f"{name}:{number}"
        try:
            with item_boundary("bad_row", "not JSON"):
                row = json.loads(line, object_pairs_hook=unique_keys)
        except Rejected as error:
            yield UnusableRow(row=place, reason=error.reason, detail=error.detail)
            continue
        if isinstance(row, dict):
            yield place, row
        else:
            yield UnusableRow(row=place, reason="bad_row", detail="not a JSON object")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, for `object_pairs_hook`; Python's reader would drop a value in silence."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise Rejected("bad_row", "a key stands twice in an object")
    return values


def _parquet(root: Root, name: str, stream: BinaryIO, counts: dict[str, int]) -> Iterator[Row]:
    table = pyarrow.parquet.ParquetFile(stream, **READING)
    names = table.schema_arrow.names
    if len(set(names)) < len(names):
        raise UserError(f"{root}: {name}: a column stands twice: rename one")
    for batch in table.iter_batches(_BATCH_ROWS):
        for row in batch.to_pylist():
            counts["rows"] += 1
            yield f"{name}:{counts['rows']}", row
