"""Review there and back: what people do in Label Studio or a COCO tool comes back as verdicts on the same regions."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from pipelines.errors import UserError
from pipelines.masks import decode
from pipelines.regions import verdicts
from pipelines.regions.review import bring_in, export
from pipelines.regions.verdicts import Verdict
from tests.pipelines.regions.small_world import SIDE, Row, World, square

BOXES = [(4.0, 4.0, 20.0, 20.0), (30.5, 6.25, 50.0, 22.0), (8.0, 36.0, 28.0, 60.0)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """One unannotated training image with three accepted regions, and its exports."""
    world = World(tmp_path)
    item = world.image("train", report="SECRET report text", patient="secret patient", path="a/b.png")
    for place, box in enumerate(BOXES):
        world.propose(item, *box, score=0.9 - place / 10, label="nodule" if place == 0 else None)
    world.rows[0]["mask"] = square(4, 4, 20, 20)
    _, rows = world.run()
    assert [row["status"] for row in rows] == ["accepted"] * 3
    export(world.split, world.output, tmp_path / "out")
    return world


def exported(tmp_path: Path, name: str) -> Any:
    return json.loads((tmp_path / "out" / name).read_text())


def read_back(tmp_path: Path, changed: Any) -> list[Verdict]:
    file, review = tmp_path / "back.json", tmp_path / "review.jsonl"
    file.write_text(json.dumps(changed))
    bring_in(file, review)
    return verdicts.read(review)


def words(said: list[Verdict]) -> set[tuple[Any, ...]]:
    return {(verdict.verdict, *verdict.box) for verdict in said}


def submitted(task: Row) -> Row:
    """The task as Label Studio exports it after a person pressed Submit on the predictions."""
    results = copy.deepcopy(task["predictions"][0]["result"])
    for number, result in enumerate(results):
        result["id"] = f"Ls{number}"
    return {"id": 1, "data": task["data"], "predictions": [], "annotations": [{"id": 7, "result": results}]}


def test_label_studio(world: World, tmp_path: Path) -> None:
    (task,) = exported(tmp_path, "label_studio.json")
    first = task["predictions"][0]["result"][0]["value"]
    assert first == {"x": 6.25, "y": 6.25, "width": 25.0, "height": 25.0, "rotation": 0, "rectanglelabels": ["nodule"]}
    done = submitted(task)
    results = done["annotations"][0]["result"]
    results[1]["value"]["x"] += 100 * 6 / SIDE  # moved by six pixels
    del results[2]
    results.append(copy.deepcopy(results[0]))
    results[-1]["value"] |= {"x": 50.0, "y": 50.0, "width": 25.0, "height": 25.0, "rectanglelabels": ["mass"]}
    said = read_back(tmp_path, [done])
    assert words(said) == {
        ("accepted", *BOXES[0]),
        ("rejected", *BOXES[1]),
        ("rejected", *BOXES[2]),
        ("drawn", 36.5, 6.25, 56.0, 22.0),
        ("drawn", 32.0, 32.0, 48.0, 48.0),
    }
    assert {verdict.label for verdict in said if verdict.verdict == "drawn"} == {None, "mass"}


def test_a_task_nobody_submitted_says_nothing(world: World, tmp_path: Path) -> None:
    (task,) = exported(tmp_path, "label_studio.json")
    assert read_back(tmp_path, [task]) == []
    done = submitted(task)
    done["annotations"][0]["was_cancelled"] = True
    assert read_back(tmp_path, [done]) == []


def test_coco(world: World, tmp_path: Path) -> None:
    file = tmp_path / "out" / "coco.json"
    tool = COCO(str(file))  # the reference reader
    assert tool.annToMask(tool.loadAnns([1])[0]).tolist() == decode(square(4, 4, 20, 20), SIDE, SIDE).tolist()
    data = exported(tmp_path, "coco.json")
    assert data["annotations"][1]["bbox"] == [30.5, 6.25, 19.5, 15.75]
    data["annotations"][0]["attributes"]["verdict"] = "accepted"
    data["annotations"][1]["attributes"]["verdict"] = "rejected"
    data["annotations"][2]["bbox"][0] += 6  # moved, whatever the verdict says
    new = {"id": 9, "image_id": 1, "category_id": data["categories"][-1]["id"], "bbox": [32, 32, 16, 16]}
    data["annotations"].append(new)
    assert words(read_back(tmp_path, data)) == {
        ("accepted", *BOXES[0]),
        ("rejected", *BOXES[1]),
        ("rejected", *BOXES[2]),
        ("drawn", 14.0, 36.0, 34.0, 60.0),
        ("drawn", 32.0, 32.0, 48.0, 48.0),
    }


def test_coco_without_verdicts_says_nothing(world: World, tmp_path: Path) -> None:
    assert read_back(tmp_path, exported(tmp_path, "coco.json")) == []


def test_exports_hold_no_report_and_no_patient(world: World, tmp_path: Path) -> None:
    for file in (tmp_path / "out").iterdir():
        assert "secret" not in file.read_text().lower()


def test_a_later_word_replaces_the_former(world: World, tmp_path: Path) -> None:
    (task,) = exported(tmp_path, "label_studio.json")
    assert {verdict.verdict for verdict in read_back(tmp_path, [submitted(task)])} == {"accepted"}
    data = exported(tmp_path, "coco.json")
    data["annotations"][1]["attributes"]["verdict"] = "rejected"
    said = read_back(tmp_path, data)
    assert words(said) == {("accepted", *BOXES[0]), ("rejected", *BOXES[1]), ("accepted", *BOXES[2])}


def test_the_stage_follows_the_verdicts(world: World, tmp_path: Path) -> None:
    (task,) = exported(tmp_path, "label_studio.json")
    done = submitted(task)
    done["annotations"][0]["result"][1]["value"]["x"] += 100 * 6 / SIDE
    read_back(tmp_path, [done])
    summary, rows = world.run(review=tmp_path / "review.jsonl")
    assert [(row["proposer"], row["x0"], row["review"], row["reason"]) for row in rows] == [
        ("review", 36.5, "accepted", None),
        ("saliency", 4.0, "accepted", None),
        ("saliency", 30.5, "rejected", "rejected_in_review"),
        ("saliency", 8.0, "accepted", None),
    ]
    assert summary["review"] == {"verdicts": 4, "unused": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "JSON"), ('"a"', "neither a Label Studio nor a COCO"), ("[{}]", "image_id"), ("{}", "neither"),
     ('{"images": [{"id": 1}], "annotations": [{"id": 5, "image_id": 1}]}', "annotation 5")],
)  # fmt: skip
def test_foreign_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "foreign.json"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        bring_in(file, tmp_path / "review.jsonl")
    assert not (tmp_path / "review.jsonl").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "review.jsonl:1: not JSON"), ('{"image_id": "a"}', "review.jsonl:1"),
     ('{"image_id": "a", "x0": 0, "y0": 0, "x1": 5, "y1": 5, "verdict": "fine"}', "verdict"),
     ('{"image_id": "a", "x0": 5, "y0": 0, "x1": 5, "y1": 5, "verdict": "drawn"}', "no area"),
     ('{"image_id": "a", "x0": 0, "y0": 0, "x1": 5, "y1": 5, "verdict": "drawn", "by": "me"}', "unknown key")],
)  # fmt: skip
def test_a_broken_file_of_verdicts_names_the_line(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "review.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(UserError, match=message):
        verdicts.read(file)
