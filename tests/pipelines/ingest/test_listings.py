"""Listings are read strictly: structure that shifts or swallows values is refused with its line, and lines add up."""

import gzip
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from pipelines.errors import UserError
from pipelines.ingest.record import UnusableRow
from pipelines.ingest.tables import Listings


def read(tmp_path: Path, text: str, name: str = "t.csv", delimiter: str | None = None) -> tuple[list, dict[str, int]]:
    (tmp_path / name).write_bytes(text.encode())
    listings = Listings(tmp_path)
    rows = list(listings.rows(name, delimiter))
    counts = listings.lines[name]
    if "lines" in counts:
        assert counts["lines"] == sum(counts[key] for key in ("header", "blank", "rows", "further_lines_of_rows"))
    assert counts["rows"] == len(rows)
    return rows, counts


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    text = "file_name,a (b, c)\n1.png,x\n2.png,y\n"
    header, *lines = text.splitlines()
    lines = [line.replace(",", delimiter) for line in lines]
    header = f"file_name{delimiter}" + ('"a (b, c)"' if delimiter == "," else "a (b, c)")
    rows, _ = read(tmp_path, "\n".join([header, *lines]))
    assert rows[0] == ("t.csv:2", {"file_name": "1.png", "a (b, c)": "x"})


def test_a_delimiter_is_found_although_texts_hold_others(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, "f;text, long\n1;one, two, three\n2;four; five\n3;six, seven, eight\n")
    assert [row if isinstance(row, UnusableRow) else row[1] for row in rows[::2]] == [
        {"f": "1", "text, long": "one, two, three"},
        {"f": "3", "text, long": "six, seven, eight"},
    ]
    assert (rows[1].row, rows[1].detail) == ("t.csv:3", "3 values, the header names 2 columns")


def test_a_delimiter_that_is_set(tmp_path: Path) -> None:
    assert read(tmp_path, "a^b\n1^2\n", delimiter="^")[0] == [("t.csv:2", {"a": "1", "b": "2"})]
    with pytest.raises(UserError, match=r"t\.csv:1: options\.delimiter ';' splits nothing"):
        read(tmp_path, "a,b\n1,2\n", delimiter=";")


def test_every_line_is_counted_and_a_row_is_named_by_its_first(tmp_path: Path) -> None:
    text = '\r\na,b\r\n1,"two\r\nlines"\r\n\r\n ,\r\n2,3,4\r\n5\r\n6,7'
    rows, counts = read(tmp_path, text)
    assert counts == {"rows": 4, "lines": 9, "header": 1, "blank": 3, "further_lines_of_rows": 1}
    assert rows[0] == ("t.csv:3", {"a": "1", "b": "two\r\nlines"})
    assert [(row.row, row.reason) for row in rows[1:3]] == [("t.csv:7", "bad_row"), ("t.csv:8", "bad_row")]
    assert rows[3] == ("t.csv:9", {"a": "6", "b": "7"})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a,b\n1,x\n2,"open\n3,y\n4,z\n', 3),
        ('a,b\n1,"open\n2,"closed"\n', 2),
        ('a,b\n1,"two\nlines"\n2,"says "no""\n', 4),
        ('a,b\n1,"' + "x" * 200_000 + "\n", 2),
        ('a,b\n1.png,"open\n2.png,y\n3.png,closed"\n4.png,z\n', 2),
        ("a,b,a\n1,2,3\n", 1),
        ("\na,b, a\n1,2,3\n", 2),
        ("1.png,Clear lungs.,P17\n2.png,Mass.,P18\n", 1),
    ],
)
def test_broken_structure_is_refused_with_the_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(UserError, match=rf"t\.csv:{line}: ") as caught:
        read(tmp_path, text)
    assert "P17" not in str(caught.value)


def test_columns_without_a_name(tmp_path: Path) -> None:
    # pandas writes its index so, spreadsheets write empty columns so.
    assert read(tmp_path, ",a\n0,x\n")[0] == [("t.csv:2", {"": "0", "a": "x"})]
    rows, _ = read(tmp_path, "a,,\nx,,\ny,moved,\n")
    assert rows[0] == ("t.csv:2", {"a": "x", "": None})
    assert rows[1].reason == "bad_row"
    with pytest.raises(UserError, match="has no header"):
        read(tmp_path, "\n\n")


def test_a_key_that_stands_twice_costs_its_row(tmp_path: Path) -> None:
    rows, counts = read(tmp_path, '{"a": 1}\n\n{"a": 1, "a": 2}\n{"a": {"b": 1, "b": 1}}\n', "t.jsonl")
    assert rows[0] == ("t.jsonl:1", {"a": 1})
    assert [(row.row, row.reason) for row in rows[1:]] == [("t.jsonl:3", "bad_row"), ("t.jsonl:4", "bad_row")]
    assert counts["blank"] == 1


def test_a_parquet_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    table = pyarrow.table([pyarrow.array([1]), pyarrow.array([2])], names=["a", "a"])
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(UserError, match="a column stands twice"):
        list(Listings(tmp_path).rows("t.parquet"))


def test_gzipped_listings_are_those_that_were_packed(tmp_path: Path) -> None:
    for name, text in {"t.csv": 'a,b\n1,"two\nlines"\n', "t.tsv": "a\tb, c\n1\t2\n", "t.jsonl": '{"a": 1}\n'}.items():
        rows, counts = read(tmp_path, text, name)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        listings = Listings(tmp_path)
        packed = list(listings.rows(f"{name}.gz"))
        assert [row for _, row in packed] == [row for _, row in rows]
        assert packed[0][0] == rows[0][0].replace(name, f"{name}.gz")
        assert listings.lines == {f"{name}.gz": counts}


def test_a_broken_gzip_is_one_line(tmp_path: Path) -> None:
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 1000)
    for data in (whole[:-20], b"a,b\n1,2\n", whole[:40] + b"x" * 20):
        (tmp_path / "t.csv.gz").write_bytes(data)
        with pytest.raises(UserError, match=r"t\.csv\.gz cannot be read as its suffix says"):
            list(Listings(tmp_path).rows("t.csv.gz"))


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.jsonl"])
def test_a_line_that_never_ends_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = b"[1]\n" * 1000 if name == "t.jsonl" else b"a,b\n" + b"1,2\n" * 1000
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    monkeypatch.setattr("pipelines.ingest.tables.MAX_BYTES", 4)  # each line has four
    assert len(list(Listings(tmp_path).rows(name))) == 1000
    monkeypatch.setattr("pipelines.ingest.tables.MAX_BYTES", 3)
    with pytest.raises(UserError, match=rf"{name} cannot be read as its suffix says: a line of more than 3 char"):
        list(Listings(tmp_path).rows(name))


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.jsonl"])
@pytest.mark.parametrize(("place", "wrong"), [(3, b"\xfb"), (150_001, b"\xe4x"), (65_535, b"\xc3\x28")])
def test_text_that_is_no_utf8_is_told_with_its_byte(tmp_path: Path, name: str, place: int, wrong: bytes) -> None:
    data = (b"a,b\n" + "ä,2\n".encode() * 40_000)[:place] + wrong + b",\n1,2\n"
    with pytest.raises(UnicodeDecodeError) as caught:  # by Python, of the whole text
        data.decode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(UserError, match=rf"{name} is not UTF-8 \(byte {caught.value.start}\): save it as UTF-8"):
        list(Listings(tmp_path).rows(name))


def test_a_byte_order_mark_and_an_empty_file(tmp_path: Path) -> None:
    for name, text in {"t.csv": "a,b\n1,2\n", "t.jsonl": '{"a": 1}\n'}.items():
        marked = read(tmp_path, "\ufeff" + text, name)
        assert read(tmp_path, text, name) == marked
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(UserError, match=rf"{name} cannot be read \(.*empty_file|0 bytes"):
            list(Listings(tmp_path).rows(name))


def test_a_needed_column(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    assert len(list(Listings(tmp_path).rows("t.csv", needed=["b", "a"]))) == 1
    with pytest.raises(UserError, match=r"t\.csv has no column c, d"):
        list(Listings(tmp_path).rows("t.csv", needed=["c", "a", "d"]))
