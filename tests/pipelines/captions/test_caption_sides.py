"""Positions name the sides that the source's reports use, and are compared with these reports."""

from pathlib import Path

import pytest
from world import World

# Of 90 pixels; squares of 20 at these columns lie in the image's left, middle and right third.
LEFT, CENTER, RIGHT = 5, 35, 65


@pytest.mark.parametrize(
    ("columns", "position"),
    [
        # What the source means comes first, whatever modality and view say.
        ({"sides": "image", "modality": "radiograph", "view": "frontal"}, "left upper"),
        ({"sides": "patient", "modality": "ct", "view": None}, "right upper"),
        ({"sides": "patient", "modality": "radiograph", "view": None}, "right upper"),
        # Where it is unknown, the convention of the modality.
        ({"modality": "radiograph", "view": "frontal"}, "right upper"),
        ({"modality": "radiograph", "view": "lateral"}, "left upper"),
        ({"modality": "ct", "view": None}, "left upper"),
    ],
)
def test_positions_name_the_sides_of_the_source(tmp_path: Path, columns: dict[str, str | None], position: str) -> None:
    world = World(tmp_path)
    item = world.image(labels=("nodule",), **columns)
    world.region(item, x=LEFT, label="nodule")
    _, rows = world.run()
    assert rows[f"{item}-0"].position == position
    whose = "patient's" if position == "right upper" else None
    assert ("patient's" in (rows[item].report or "")) == (whose is not None)


def test_region_captions_are_compared_with_the_side_that_the_report_names(tmp_path: Path) -> None:
    world = World(tmp_path)
    one_sided = world.image(report="A nodule in the left lung. No nodule in the right lung.", sides="image")
    for x in (LEFT, CENTER, RIGHT):
        world.region(one_sided, x=x)
    world.region(one_sided, x=RIGHT, y=40, proposer="saliency")
    unknown = [world.image(report=text, sides="image") for text in ("Nodules in both lungs, the left first.", None)]
    for item in unknown:
        world.region(item, x=LEFT)
    patient = world.image(report="A nodule in the left lung.", sides="patient")
    world.region(patient, x=RIGHT)
    normal = world.image(report="The left lung is clear.", labels=(), sides="image")
    world.region(normal, x=RIGHT, proposer="saliency")
    summary, rows = world.run()
    found = {name: row.report_side for name, row in rows.items() if row.kind == "region"}
    assert found == {
        f"{one_sided}-0": "same",
        f"{one_sided}-1": "center",
        f"{one_sided}-2": "opposite",
        f"{one_sided}-3": "opposite",
        f"{unknown[0]}-0": None,
        f"{unknown[1]}-0": None,
        f"{patient}-0": "same",
        f"{normal}-0": None,  # it has no caption
    }
    assert {row.report_side for row in rows.values() if row.kind == "image"} == {None}
    assert summary["report_sides"] == {
        "toy, annotation": {"same": 2, "opposite": 1, "center": 1, "agreement": 0.6667},
        "toy, proposal": {"same": 0, "opposite": 1, "center": 0, "agreement": 0.0},
    }
    # The mark is no contradiction of what was measured.
    assert {row.contradiction for row in rows.values()} == {None}
