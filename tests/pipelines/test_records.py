"""The data contract: what goes in comes out, and what breaks the contract is refused by name."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pydantic
import pytest

from models.verified import DamagedError, record
from pipelines.errors import UserError
from pipelines.records import (
    ANNOTATIONS,
    CAPTIONS,
    IMAGES,
    NEAR_DUPLICATES,
    PROPOSALS,
    QUESTIONS,
    REGIONS,
    REJECTED,
    SPLIT_IMAGES,
    SPLIT_QUESTIONS,
    RegionRow,
)
from pipelines.tables import BATCH_ROWS, GROUP_ROWS, Table, beside

ID, OTHER, SHA = "0123456789abcdef", "fedcba9876543210", "0" * 64
WHERE = {"image_id": ID, "source": "s"}
IMAGE = {
    **WHERE,
    "path": "a.zip",
    "member": "x/a.png",
    "frame": 3,
    "axis": "coronal",
    "volume": 2,
    "sha256": SHA,
    "burned_in": "hidden",
    "hidden": ((0, 1, 4, 5), (2, 2, 8, 9)),
    "pixel_sha256": SHA,
    "perceptual_hash": SHA,
    "width": 8,
    "height": 9,
    "modality": "ct",
    "view": "frontal",
    "patient": "p",
    "study": "s",
    "split_conflict": False,
    "report": "Line one,\n“two” <b>",
    "other_reports": ("Second.", "Öd\n"),
    "labels": ("mass", "Ödem"),
    "attributes": {"heart": "slim", "Größe": "“1,80” m"},
    "look_alikes": ("0b0", "1a"),
    "mask_path": "m.png",
    "mask_sha256": SHA,
    "sides": "image",
    "rows": 2,
}
BOX_AND_MASK = {
    "proposer": "grounding_dino",
    "segmenter": "medsam",
    "label": "mass",
    "adjective": "oval",
    "phrase": "An oval mass.",
    "x0": 0.0,
    "y0": 0.0,
    "x1": 4.0,
    "y1": 4.5,
    "mask": "0b0",
    "area": 18,
    "area_fraction": 0.25,
    "score": 1.0,
    "mask_quality": 0.5,
    "mask_stability": 0.75,
    "box_agreement": 0.25,
}
# One row of each table with every value there.
FULL: dict[str, tuple[Table, dict[str, Any]]] = {
    "images": (IMAGES, {**IMAGE, "split": "test", "thumbnail": bytes(range(256)) * 4}),
    "annotations": (
        ANNOTATIONS,
        {
            **WHERE,
            "n": 0,
            "label": "mass",
            "adjective": "oval",
            "phrase": "An oval mass.",
            "x0": 0.0,
            "y0": 0.5,
            "x1": 2.0,
            "y1": 3.25,
            "mask": "0b0",
            "mask_path": "m.png",
            "mask_value": 7,
            "mask_sha256": SHA,
        },
    ),
    "questions": (
        QUESTIONS,
        {**WHERE, "question_id": "1", "question": "q?", "answer": "2", "answer_type": "open", "split": "train"},
    ),
    "rejected": (REJECTED, {"source": "s", "row": "m.csv:2", "path": "a.png", "reason": "corrupt", "detail": "why"}),
    "split images": (SPLIT_IMAGES, {**IMAGE, "source_split": "test", "group": ID, "split": "test", "leak": True}),
    "near duplicates": (
        NEAR_DUPLICATES,
        {"image_id": ID, "other_id": OTHER, "source": "s", "other_source": "t", "distance": 48, "correlation": 0.93},
    ),
    "proposals": (
        PROPOSALS,
        {
            **WHERE,
            "n": 3,
            "sees_annotations": False,
            "own_phrases": True,
            "truth_iou": 0.75,
            **BOX_AND_MASK,
            "reason": "beyond_max_proposals",
        },
    ),
    "regions": (
        REGIONS,
        {
            "region_id": f"{ID}-10",
            **WHERE,
            "n": 10,
            "role": "truth",
            **BOX_AND_MASK,
            "agreement": 0.125,
            "probability": 0.5,
            "certified": True,
            "round": 1,
            "review": "rejected",
            "status": "rejected",
            "reason": "too_small",
        },
    ),
    "captions": (
        CAPTIONS,
        {
            "item_id": f"{ID}-0",
            **WHERE,
            "kind": "region",
            "status": "ok",
            "reason": "none",
            "summary": "s",
            "report": "r",
            "other_reports": ("t",),
            "region_caption": "a | b | left upper",
            "phrase": "An oval mass.",
            "adjective": "a",
            "term": "b",
            "position": "left upper",
            "size": "small",
            "negatives": ("1", "2", "3", "4", "5"),
            "basis": "annotation",
            "oracle": True,
            "contradiction": "contradicts_side",
            "report_side": "opposite",
            "warnings": ("summary_too_short",),
            "raw_answer": '{"adjective": 1}',
            "attempts": 2,
            "captioner": "vllm",
            "prompt_sha256": SHA,
        },
    ),
}
every_table = pytest.mark.parametrize(("table", "values"), FULL.values(), ids=FULL.keys())


def nullable_columns(table: Table) -> set[str]:
    hints = typing.get_type_hints(table.row)
    return {name for name in table.columns if types.NoneType in typing.get_args(hints[name])}


def without_nullable(table: Table, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in nullable_columns(table)}


@every_table
def test_rows_come_back_as_they_went_in(tmp_path: Path, table: Table, values: dict[str, Any]) -> None:
    path = tmp_path / "folder" / "table.parquet"
    assert set(values) == set(table.columns)
    table.write(path, [table.row(**values)])
    (row,) = table.read(path)
    assert {name: getattr(row, name) for name in table.columns} == values


@every_table
def test_nulls_come_back_as_none(tmp_path: Path, table: Table, values: dict[str, Any]) -> None:
    path = tmp_path / "table.parquet"
    short = without_nullable(table, values)
    table.write(path, [table.row(**short)])
    (row,) = table.read(path)
    assert {name: getattr(row, name) for name in table.columns} == {name: short.get(name) for name in table.columns}


@every_table
def test_a_table_without_rows_keeps_its_columns(tmp_path: Path, table: Table, values: dict[str, Any]) -> None:
    path = tmp_path / "table.parquet"
    table.write(path, [])
    assert table.read(path) == []
    schema = pyarrow.parquet.read_schema(path)
    assert schema.equals(table.arrow_schema)
    assert schema.metadata is None  # it would name the version of a library, which decides nothing


@every_table
def test_a_required_value_that_is_missing_is_named(table: Table, values: dict[str, Any]) -> None:
    required = {
        field.name
        for field in dataclasses.fields(table.row)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    for name in required:
        with pytest.raises(pydantic.ValidationError, match=rf"\n{name}\n"):
            table.row(**{key: value for key, value in values.items() if key != name})


@every_table
def test_every_column_is_described(table: Table, values: dict[str, Any]) -> None:
    hints = typing.get_type_hints(table.row, include_extras=True)
    for name in table.columns:
        assert any(getattr(extra, "description", None) for extra in hints[name].__metadata__), name


@every_table
def test_equal_rows_give_equal_bytes(tmp_path: Path, table: Table, values: dict[str, Any]) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    table.write(first, [table.row(**values)])
    table.write(second, iter([table.row(**dict(reversed(values.items())))]))
    table.write(third, table.from_frame(table.frame(table.read(first))))
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()


def test_more_rows_than_a_batch_and_a_group_come_back_in_batches_and_order(tmp_path: Path) -> None:
    path = tmp_path / "rejected.parquet"
    values = FULL["rejected"][1]
    rows = [REJECTED.row(**{**values, "row": str(number)}) for number in range(GROUP_ROWS + BATCH_ROWS + 3)]
    REJECTED.write(path, iter(rows))
    batches = list(REJECTED.batches(path))
    assert [len(batch) for batch in batches] == [BATCH_ROWS] * (GROUP_ROWS // BATCH_ROWS + 1) + [3]
    assert [row for batch in batches for row in batch] == rows == list(REJECTED.rows(path))
    file = pyarrow.parquet.ParquetFile(path)
    assert [file.metadata.row_group(n).num_rows for n in range(2)] == [GROUP_ROWS, BATCH_ROWS + 3]


def regions(*places: tuple[int, int]) -> list[RegionRow]:
    """Rows of image number and n."""
    values = FULL["regions"][1]
    ids = ((f"{image:016x}", n) for image, n in places)
    return [REGIONS.row(**{**values, "image_id": id_, "n": n, "region_id": f"{id_}-{n}"}) for id_, n in ids]


@pytest.mark.parametrize(
    ("places", "fault"),
    [
        ([(1, 0), (2, 0), (1, 1)], "out of the order of image_id"),
        ([(1, 0), (2, 0), (2, 1), (2, 0)], "occurs twice"),
    ],
)
def test_rows_by_image_are_neither_written_nor_read_in_another_order_or_twice(
    tmp_path: Path, places: list[tuple[int, int]], fault: str
) -> None:
    with pytest.raises(ValueError, match=f"table regions breaks its contract: .*{fault}"):
        REGIONS.write(tmp_path / "regions.parquet", regions(*places))
    unchecked = Table("anything", RegionRow)
    unchecked.write(tmp_path / "regions.parquet", regions(*places))
    with pytest.raises(ValueError, match=fault):
        REGIONS.read(tmp_path / "regions.parquet")


def test_tables_are_read_side_by_side_and_an_image_that_one_lacks_is_told(tmp_path: Path) -> None:
    values = FULL["images"][1]
    images = [IMAGES.row(**{**values, "image_id": f"{number:016x}"}) for number in (1, 3, 5)]

    def found(*places: tuple[int, int]) -> list[list[int]]:
        REGIONS.write(tmp_path / "regions.parquet", regions(*places))
        pairs = beside(images, REGIONS.groups(tmp_path / "regions.parquet"), "run dvc repro regions")
        return [[row.n for row in rows] for _, rows in pairs]

    assert found() == [[], [], []]
    assert found((1, 1), (1, 0), (5, 2)) == [[1, 0], [], [2]]
    for strange in (0, 2, 6):
        with pytest.raises(UserError, match="run dvc repro regions"):
            found(*sorted([(1, 0), (strange, 0), (5, 0)]))


def test_no_list_an_empty_list_and_null_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    values = FULL["images"][1]
    labels: list[tuple[str, ...] | None] = [None, (), ("a",), ("a", "b")]
    rows = [IMAGES.row(**{**values, "image_id": f"{n:016x}", "labels": value}) for n, value in enumerate(labels)]
    IMAGES.write(path, rows)
    assert [row.labels for row in IMAGES.read(path)] == labels


def test_attributes_come_back_by_name_also_where_there_are_none(tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    values = FULL["images"][1]
    attributes: list[dict[str, str]] = [{}, {"b": "2", "a": ""}, {}]
    rows = [IMAGES.row(**{**values, "image_id": f"{n:016x}", "attributes": one}) for n, one in enumerate(attributes)]
    IMAGES.write(path, rows)
    assert [row.attributes for row in IMAGES.read(path)] == attributes
    frame = IMAGES.frame(rows).sort_values("image_id", ascending=False)
    assert [row.attributes for row in IMAGES.from_frame(frame)] == attributes[::-1]


def test_whole_numbers_stay_whole_beside_nulls(tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    values = FULL["images"][1]
    rows = [{**values, "frame": None}, {**values, "image_id": OTHER, "frame": 2**53 + 1}]
    IMAGES.write(path, [IMAGES.row(**row) for row in rows])
    frames = [row.frame for row in IMAGES.from_frame(IMAGES.frame(IMAGES.read(path)))]
    assert frames == [None, 2**53 + 1]  # a float64 would give 2**53
    assert isinstance(frames[1], int)


@every_table
def test_an_unknown_column_is_refused(tmp_path: Path, table: Table, values: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError, match="labell"):
        table.row(**values, labell=1)
    path = tmp_path / "table.parquet"
    frame = table.frame([table.row(**values)])
    frame.assign(labell="x").to_parquet(path, index=False)
    record(path)
    with pytest.raises(UserError, match=rf"is no table '{table.name}' of this release, which differs in .* labell:"):
        table.read(path)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("images", {"image_id": ID.upper()}),
        ("images", {"image_id": ID[:-1]}),
        ("images", {"image_id": f"{ID}\n"}),
        ("images", {"sha256": "0" * 63}),
        ("images", {"width": 0}),
        ("images", {"width": "8"}),
        ("images", {"modality": "xray"}),
        ("images", {"burned_in": "masked"}),
        ("images", {"split": "val"}),
        ("images", {"frame": -1}),
        ("images", {"frame": 3.0}),
        ("images", {"axis": "transverse"}),
        ("images", {"volume": -1}),
        ("images", {"rows": 0}),
        ("images", {"attributes": "age"}),
        ("regions", {"region_id": ID}),
        ("regions", {"region_id": f"{ID}-"}),
        ("regions", {"role": "oracle"}),
        ("regions", {"x0": -0.5}),
        ("regions", {"x0": float("inf")}),
        ("regions", {"score": 1.01}),
        ("regions", {"area_fraction": float("nan")}),
        ("regions", {"status": "ok"}),
        ("captions", {"status": "accepted"}),
        ("captions", {"basis": "guess"}),
        ("captions", {"kind": "patient"}),
        ("captions", {"oracle": None}),
        ("questions", {"answer_type": "CLOSED "}),
        ("rejected", {"reason": "Not a code"}),
        ("near duplicates", {"distance": 257}),
        ("near duplicates", {"correlation": 1.5}),
    ],
)
def test_a_value_that_breaks_the_contract_is_named(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    table, values = FULL[name]
    ((column, value),) = changes.items()
    with pytest.raises(pydantic.ValidationError, match=rf"\n{column}\n"):
        table.row(**{**values, **changes})
    # The same value in a file, as far as the column's type holds it.
    path = tmp_path / "table.parquet"
    written = pyarrow.Table.from_pylist([values], schema=table.arrow_schema)
    if value is None or isinstance(value, type(values[column])):
        position = table.columns.index(column)
        array = pyarrow.array([value], table.arrow_schema.field(column).type)
        pyarrow.parquet.write_table(written.set_column(position, column, array), path)
        record(path)
        with pytest.raises(ValueError, match=f"table {name} breaks its contract: column {column}"):
            table.read(path)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("images", {"path": "b.png"}),
        ("split images", {"path": "b.png"}),
        ("annotations", {"label": "other"}),
        ("questions", {"answer": "other"}),
        ("regions", {"label": "other"}),
        ("captions", {"kind": "image"}),
    ],
)
def test_a_key_that_occurs_twice_is_refused(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    table, values = FULL[name]
    path = tmp_path / "table.parquet"
    with pytest.raises(ValueError, match=f"table {name} breaks its contract: .* occurs twice"):
        table.write(path, [table.row(**values), table.row(**{**values, **changes})])
    assert list(tmp_path.iterdir()) == []
    both = pyarrow.Table.from_pylist([values, {**values, **changes}], schema=table.arrow_schema)
    pyarrow.parquet.write_table(both, path)
    record(path)
    with pytest.raises(ValueError, match=f"table {name} breaks its contract: .* occurs twice"):
        table.read(path)


def test_the_questions_of_all_images_are_in_the_order_of_their_keys(tmp_path: Path) -> None:
    """So that one that occurs twice is found without all former ones, whatever image it is about."""
    path = tmp_path / "questions.parquet"
    row = QUESTIONS.row(**FULL["questions"][1])
    keys = ("a", "2"), ("a", "3"), ("b", "1")
    rows = [dataclasses.replace(row, source=source, question_id=name) for source, name in keys]
    SPLIT_QUESTIONS.write(path, rows)
    assert SPLIT_QUESTIONS.read(path) == rows
    with pytest.raises(ValueError, match=r"table questions .* key \(source, question_id\) occurs twice"):
        SPLIT_QUESTIONS.write(path, [*rows, dataclasses.replace(rows[-1], image_id=OTHER)])
    with pytest.raises(ValueError, match=r"table questions .* out of the order of source, question_id"):
        SPLIT_QUESTIONS.write(path, [rows[1], rows[0]])


def test_some_columns_are_read_without_the_others(tmp_path: Path) -> None:
    path = tmp_path / "questions.parquet"
    row = QUESTIONS.row(**FULL["questions"][1])
    SPLIT_QUESTIONS.write(path, [dataclasses.replace(row, question_id=f"{number:06d}") for number in range(5000)])
    batches = list(QUESTIONS.arrow_batches(path, ("question_id", "image_id")))
    assert [batch.schema.names for batch in batches] == [["question_id", "image_id"]] * 3
    assert [value for batch in batches for value in batch["question_id"].to_pylist()] == [
        f"{number:06d}" for number in range(5000)
    ]
    with pytest.raises(UserError, match="is no table 'annotations' of this release"):
        next(ANNOTATIONS.arrow_batches(path, ("image_id",)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError):
        next(QUESTIONS.arrow_batches(path, ("image_id",)))


def test_rows_that_break_the_contract_leave_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "questions.parquet"
    row = QUESTIONS.row(**FULL["questions"][1])
    QUESTIONS.write(path, [row])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="occurs twice"):
        QUESTIONS.write(path, [row, row])
    assert path.read_bytes() == before
    assert QUESTIONS.read(path) == [row]


def test_a_missing_table_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images.parquet not found: run `dvc repro` to make the table 'images'"):
        IMAGES.read(tmp_path / "images.parquet")


def test_rows_that_have_a_value_are_read_and_counted_alone(tmp_path: Path) -> None:
    path, images = tmp_path / "regions.parquet", range(BATCH_ROWS)
    rows = [
        dataclasses.replace(row, status="accepted" if int(row.image_id, 16) % 2 and row.n != 1 else "rejected")
        for row in regions(*((image, n) for image in images for n in range(3)))
    ]
    REGIONS.write(path, rows)
    expected = [row for row in rows if row.status == "accepted"]
    assert list(REGIONS.rows(path, status="accepted")) == expected
    groups = dict(REGIONS.groups(path, status="accepted"))
    assert list(groups) == [f"{image:016x}" for image in images[1::2]]
    assert {len(group) for group in groups.values()} == {2}
    assert (REGIONS.count(path), REGIONS.count(path, status="accepted")) == (3 * BATCH_ROWS, len(expected))
    assert (REGIONS.count(path, status="failed"), list(REGIONS.rows(path, status="failed"))) == (0, [])
    with pytest.raises(UserError, match=r"nothing\.parquet not found"):
        REGIONS.count(tmp_path / "nothing.parquet")
