"""Some columns of a table's rows, read alone."""

from pathlib import Path

import pyarrow.parquet
import pytest

from models.verified import record
from pipelines.errors import UserError
from pipelines.records import REGIONS, SPLIT_IMAGES
from tests.pipelines.regions.small_world import World, image_id

COLUMNS = ("image_id", "labels", "split", "width")


def test_parts_hold_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    for labels in (("mass", "cyst"), (), None):
        world.image("test", labels=labels)
    world.write()
    parts = list(SPLIT_IMAGES.parts(world.split_file, COLUMNS))
    assert [part._fields for part in parts] == [COLUMNS] * 3
    assert [part.labels for part in parts] == [["mass", "cyst"], [], None]
    assert [(part.image_id, part.split, part.width) for part in parts] == [(image_id(n), "test", 64) for n in range(3)]


@pytest.mark.parametrize(
    ("column", "values", "fault"),
    [
        ("split", ["test", None], "column split: a value is missing"),
        ("width", [64.0, 64.0], "column width: double"),
        ("image_id", [image_id(1), image_id(0)], "out of the order of image_id"),
        ("image_id", [image_id(1), image_id(1)], "occurs twice"),
    ],
)
def test_parts_that_break_the_contract_are_refused(tmp_path: Path, column: str, values: list, fault: str) -> None:
    world = World(tmp_path)
    for _ in range(2):
        world.image("test")
    world.write()
    table = pyarrow.parquet.read_table(world.split_file)
    table = table.set_column(table.schema.get_field_index(column), column, pyarrow.array(values))
    pyarrow.parquet.write_table(table, world.split_file)
    record(world.split_file)
    with pytest.raises(ValueError, match=f"table split images breaks its contract: .*{fault}"):
        list(SPLIT_IMAGES.parts(world.split_file, COLUMNS))


def test_parts_of_a_missing_or_another_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make the table 'regions'"):
        next(REGIONS.parts(tmp_path / "regions.parquet", ("image_id", "n")))
    world = World(tmp_path)
    world.image("test")
    world.write()
    with pytest.raises(UserError, match="is no table 'regions' of this release"):
        next(REGIONS.parts(world.split_file, ("image_id",)))
