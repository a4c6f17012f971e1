"""The sheet as spreadsheets save it, what is refused in it, and what becomes of its answers."""

import contextlib
import csv
import datetime
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.audit import answers as answer_file
from pipelines.audit import sheet
from pipelines.audit.answers import REASONS
from pipelines.audit.commands import read_sheet
from pipelines.audit.sample import Item
from pipelines.errors import UserError
from tests.pipelines.audit.small_audit import image, region

TODAY = datetime.date(2026, 11, 28)
IMAGES = [image(n) for n in range(4)]
ITEMS = {
    "regions": [Item(what="regions", image=one, region=region(one), text=None) for one in IMAGES[:3]],
    "captions": [Item(what="captions", image=IMAGES[3], region=None, text="=1+1;\n'A nodule', \"left\"")],
}
ALL = [*ITEMS["regions"], *ITEMS["captions"]]
KNOWN = {one.image_id for one in IMAGES}


@pytest.fixture
def exported(tmp_path):
    file = tmp_path / "audit.csv"
    sheet.write(file, ALL, ["Right?"] * len(ALL))
    return file


def filled(exported, *answers, **columns):
    """The rows of the exported sheet with answers filled in, as a spreadsheet holds them."""
    rows = list(csv.reader(io.StringIO(exported.read_text(encoding="utf-8-sig"), newline="")))
    names = [name.partition(" ")[0] for name in rows[0]]
    for row, answer in zip(rows[1:], answers, strict=False):
        row[names.index("answer")] = answer
        row[names.index("reviewer")] = "ab" if answer else ""
        for name, value in columns.items():
            row[names.index(name)] = value
    return rows


def save(file, rows, delimiter=",", encoding="utf-8", before=""):
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows(rows)
    file.write_bytes((before + stream.getvalue()).encode(encoding))


def read(file, tmp_path):
    answers = tmp_path / "audit.jsonl"
    read_sheet(file, ITEMS, KNOWN, answers, TODAY)
    return answer_file.read(answers)


def test_no_cell_of_an_exported_sheet_is_a_number_or_a_formula(exported):
    rows = filled(exported)
    assert len(exported.read_text(encoding="utf-8-sig").splitlines()) == 5  # a row a line, whatever is in a text
    assert rows[1][:3] == ["1", "region:0000000000000000-0", f"sha256:{ALL[0].shown}"]
    assert rows[4][1] == "caption:0000000000000003"
    assert rows[4][4] == "'=1+1; 'A nodule', \"left\""
    for row in rows[1:]:
        for cell in row[1:]:
            assert not cell.startswith(("=", "+", "-", "@")), cell
            assert not cell.replace(".", "").replace("e", "").isdigit(), cell


@given(st.text())
def test_texts_never_begin_like_a_formula(text):
    assert not sheet.cell(text).startswith(("=", "+", "-", "@"))
    assert not set("\r\n\t") & set(sheet.cell(text))


@pytest.mark.parametrize(
    "form",
    [
        {"delimiter": ",", "encoding": "utf-8"},
        {"delimiter": ";", "encoding": "utf-8-sig"},
        {"delimiter": ";", "encoding": "cp1252"},
        {"delimiter": "\t", "encoding": "utf-8"},
        {"delimiter": ";", "encoding": "utf-8-sig", "before": "sep=;\r\n"},
    ],
)
def test_sheets_are_read_as_spreadsheets_save_them(exported, tmp_path, form, capsys):
    rows = filled(exported, "yes", " No ", "", "UNSURE")
    rows[2][6] = "too_large"
    rows[4][7] = "äö"
    rows.append([""] * len(rows[0]))
    save(exported, rows, **form)
    answers = read(exported, tmp_path)
    assert [(one.item, one.answer, one.reason, one.reviewer, one.date) for one in answers] == [
        ("caption:0000000000000003", "unsure", None, "ÄÖ", "2026-11-28"),
        ("region:0000000000000000-0", "yes", None, "AB", "2026-11-28"),
        ("region:0000000000000001-0", "no", "too_large", "AB", "2026-11-28"),
    ]
    assert [one.shown for one in answers] == [ALL[3].shown, ALL[0].shown, ALL[1].shown]
    said = capsys.readouterr().out
    assert "3 answers (yes 1, no 1, unsure 1); not used: 0 outdated" in said
    assert "1 rows without an answer; 3 of the 4 items of the sample are answered" in said


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("answer", "maybe", "row 2, column answer: 'maybe' is none of yes, no, unsure"),
        ("reason", "too_big", "row 2, column reason: 'too_big' is none of nothing_there"),
        ("reason", "wrong_finding", "row 2, column reason: 'wrong_finding' is none of nothing_there"),
        ("reviewer", "", "row 2, column reviewer: '': write initials"),
        ("reviewer", "John Doe", "row 2, column reviewer: 'JOHN DOE'"),
        ("reviewer", "ABCDEFGHI", "row 2, column reviewer"),
        ("date", "11/28/2026", "row 2, column date: '11/28/2026': write the day as 2026-11-28"),
        ("date", "2026-02-30", "row 2, column date"),
        ("item", "region:1", "row 2, column item: 'region:1' names no region"),
        ("item", "region:0000000000000001", "row 2, column item"),
        ("item", "region:00000000000000ff-0", "row 2, column item: region:00000000000000ff-0 is of no image"),
        ("item", "region:0000000000000001-0", "row 3, column item: region:0000000000000001-0 stands in row 2 already"),
        ("shown", "1.23E+15", "row 2, column shown: '1.23E+15' is no SHA-256"),
    ],
)
def test_bad_values_are_one_line_that_names_row_and_column_and_nothing_is_added(
    exported, tmp_path, column, value, said
):
    rows = filled(exported, "no", "no")
    names = [name.partition(" ")[0] for name in rows[0]]
    rows[1][names.index(column)] = value
    save(exported, rows)
    with pytest.raises(UserError) as caught:
        read(exported, tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "audit.jsonl").exists()


def test_a_reason_goes_with_an_answer_that_is_not_yes(exported, tmp_path):
    for answer, said in (("yes", "goes with no or unsure"), ("", "column answer: '' is none of")):
        save(exported, filled(exported, answer, reason="other", reviewer="AB"))
        with pytest.raises(UserError, match=said):
            read(exported, tmp_path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "column item is not there once"),
        (b"item,shown,answer,reason,reviewer\n", "column date is not there once"),
        (b"item,item,shown,answer,reason,reviewer,date\n", "column item is not there once"),
        ("item,shown".encode("utf-16"), "save it as CSV in UTF-8"),
        (b'item,shown,answer,reason,reviewer,date\n"a"b,c\n', "cannot be read as CSV"),
        (b"PK\x03\x04\0\0", "save it as CSV"),
    ],
)
def test_what_is_no_sheet_is_one_line(tmp_path, data, said):
    file = tmp_path / "sheet.csv"
    file.write_bytes(data)
    with pytest.raises(UserError, match=said):
        read(file, tmp_path)
    with pytest.raises(UserError, match="is no file"):
        read(tmp_path / "absent.csv", tmp_path)


def test_a_sheet_without_answers_is_told(exported, tmp_path):
    with pytest.raises(UserError, match=r"no row has an answer \(4 without\)"):
        read(exported, tmp_path)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_sheet_or_one_line(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    file = folder / "random.csv"
    file.write_bytes(b"item,shown,answer,reason,reviewer,date\n" + data)
    with contextlib.suppress(UserError):
        sheet.read(file, TODAY)


def test_what_changed_since_the_export_is_kept_and_told_as_outdated(exported, tmp_path, capsys):
    rows = filled(exported, "yes", "no")
    rows[1][2] = f"sha256:{'0' * 64}"
    rows[2][1] = "region:0000000000000002-9"  # of an image of the study, but in the sample no more
    save(exported, rows)
    assert len(read(exported, tmp_path)) == 2
    said = capsys.readouterr().out
    assert "2 answers (yes 1, no 1, unsure 0); not used: 2 outdated" in said
    assert "0 of the 4 items" in said


def test_a_person_s_later_answer_replaces_the_former_and_another_s_stays(exported, tmp_path, capsys):
    save(exported, filled(exported, "yes", "no"))
    read(exported, tmp_path)
    save(exported, filled(exported, "no"))
    read(exported, tmp_path)
    rows = filled(exported, "unsure")
    rows[1][7] = "CD"
    save(exported, rows)
    assert [(one.item[-1], one.item[-3], one.answer, one.reviewer) for one in read(exported, tmp_path)] == [
        ("0", "0", "no", "AB"),
        ("0", "0", "unsure", "CD"),
        ("0", "1", "no", "AB"),
    ]
    earlier = filled(exported, "yes")
    earlier[1][8] = "2020-01-01"
    save(exported, earlier)
    assert read(exported, tmp_path)[0].answer == "no", "the day decides, not the order in which sheets are read"
    assert "1 older than answers that are there" in capsys.readouterr().out
    earlier[1][8] = "2999-01-01"
    save(exported, earlier)
    with pytest.raises(UserError, match="row 2, column date: 2999-01-01 is still to come"):
        read(exported, tmp_path)
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert set(json.loads(lines[0])) == {"item", "shown", "answer", "reason", "reviewer", "date"}


def test_reasons_have_a_key_each():
    assert all(len(words) <= 9 for words in REASONS.values())
