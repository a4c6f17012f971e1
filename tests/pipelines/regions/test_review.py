"""Review there and back: edits in Label Studio or a COCO tool become review labels of the same regions."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from models.verified import sha256_file
from pipelines.errors import UserError
from pipelines.images import open_image
from pipelines.masks import decode
from pipelines.records import REGIONS, SPLIT_IMAGES
from pipelines.regions import review_labels
from pipelines.regions.annotation_tools import ShownImage, ShownRegion, shown_images
from pipelines.regions.review import export_regions, import_labels
from pipelines.regions.review_labels import ReviewLabel
from pipelines.sources import Sources
from tests.pipelines.regions.small_world import SIDE, World, square

IMAGES = {"a": ShownImage(size=(20, 10), regions=(ShownRegion(box=(1, 2, 9, 8), label="mass"),))}
BOXES = [(4.0, 4.0, 20.0, 20.0), (30.5, 6.25, 50.0, 22.0), (8.0, 36.0, 28.0, 60.0)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """One unannotated training image with three accepted regions, and its exports."""
    world = World(tmp_path)
    raw = tmp_path / "raw" / "secret" / "b.png"
    raw.parent.mkdir(parents=True)
    Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE)).save(raw)
    columns = {"report": "SECRET report text", "patient": "secret patient", "path": "secret/b.png"}
    image = world.image("train", sha256=sha256_file(raw), **columns)
    world.propose(image, *BOXES[0], score=0.9, label="nodule", mask=square(4, 4, 20, 20))
    world.propose(image, *BOXES[1], score=0.8)
    world.propose(image, *BOXES[2], score=0.7)
    _, rows = world.run()
    assert [row.status for row in rows] == ["accepted"] * 3
    export(world, tmp_path)
    return world


def export(world: World, tmp_path: Path) -> None:
    sources = Sources(roots={"toy": tmp_path / "raw"}, max_pixels=10_000)
    export_regions(world.split_file, world.regions_file, sources, tmp_path / "out")


def exported(tmp_path: Path, name: str) -> Any:
    return json.loads((tmp_path / "out" / name).read_text())


def imported(tmp_path: Path, changed: Any) -> list[ReviewLabel]:
    """The review labels after the import of an export in the study whose tables lie in `tmp_path`."""
    file, review = tmp_path / "back.json", tmp_path / "review.jsonl"
    file.write_text(json.dumps(changed))
    tables = SPLIT_IMAGES.read(tmp_path / "images.parquet"), REGIONS.read(tmp_path / "regions.parquet")
    import_labels(file, shown_images(*tables), review)
    return review_labels.read(review)


def decisions(labels: list[ReviewLabel]) -> set[tuple[Any, ...]]:
    return {(label.decision, *label.box) for label in labels}


def submitted(task: dict[str, Any]) -> dict[str, Any]:
    """The task as Label Studio exports it after a person pressed Submit on the predictions."""
    results = copy.deepcopy(task["predictions"][0]["result"])
    for number, result in enumerate(results):
        result["id"] = f"Ls{number}"
    return {"id": 1, "data": task["data"], "predictions": [], "annotations": [{"id": 7, "result": results}]}


def test_boxes_left_moved_deleted_and_drawn_in_label_studio_become_review_labels(world: World, tmp_path: Path) -> None:
    (task,) = exported(tmp_path, "label_studio.json")
    first = task["predictions"][0]["result"][0]["value"]
    assert first == {"x": 6.25, "y": 6.25, "width": 25.0, "height": 25.0, "rotation": 0, "rectanglelabels": ["nodule"]}
    done = submitted(task)
    results = done["annotations"][0]["result"]
    results[1]["value"]["x"] += 100 * 6 / SIDE  # moved by six pixels
    del results[2]
    results.append(copy.deepcopy(results[0]))
    results[-1]["value"] |= {"x": 50.0, "y": 50.0, "width": 25.0, "height": 25.0, "rectanglelabels": ["mass"]}
    labels = imported(tmp_path, [done])
    assert decisions(labels) == {
        ("accepted", *BOXES[0]),
        ("rejected", *BOXES[1]),
        ("rejected", *BOXES[2]),
        ("drawn", 36.5, 6.25, 56.0, 22.0),
        ("drawn", 32.0, 32.0, 48.0, 48.0),
    }
    assert {label.label for label in labels if label.decision == "drawn"} == {None, "mass"}


def test_task_without_submitted_annotation_gives_no_labels(world: World, tmp_path: Path) -> None:
    (task,) = exported(tmp_path, "label_studio.json")
    assert imported(tmp_path, [task]) == []
    done = submitted(task)
    done["annotations"][0]["was_cancelled"] = True
    assert imported(tmp_path, [done]) == []


def test_decisions_moved_and_new_boxes_in_coco_become_review_labels(world: World, tmp_path: Path) -> None:
    file = tmp_path / "out" / "coco.json"
    tool = COCO(str(file))  # the reference reader
    assert tool.annToMask(tool.loadAnns([1])[0]).tolist() == decode(square(4, 4, 20, 20), SIDE, SIDE).tolist()
    data = exported(tmp_path, "coco.json")
    assert data["annotations"][1]["bbox"] == [30.5, 6.25, 19.5, 15.75]
    data["annotations"][0]["attributes"]["decision"] = "accepted"
    data["annotations"][1]["attributes"]["decision"] = "rejected"
    data["annotations"][2]["bbox"][0] += 6  # moved, without a decision
    new = {"id": 9, "image_id": 1, "category_id": data["categories"][-1]["id"], "bbox": [32, 32, 16, 16]}
    data["annotations"].append(new)
    assert decisions(imported(tmp_path, data)) == {
        ("accepted", *BOXES[0]),
        ("rejected", *BOXES[1]),
        ("rejected", *BOXES[2]),
        ("drawn", 14.0, 36.0, 34.0, 60.0),
        ("drawn", 32.0, 32.0, 48.0, 48.0),
    }


def test_a_copied_annotation_is_new_and_a_bad_one_costs_itself(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = exported(tmp_path, "coco.json")
    first = data["annotations"][0]
    data["annotations"].append({**copy.deepcopy(first), "id": 9, "bbox": [32, 32, 16, 16]})
    data["annotations"] += [{**first, "id": 10 + n, "bbox": bad} for n, bad in enumerate(([], None, "text"))]
    assert decisions(imported(tmp_path, data)) == {("drawn", 32.0, 32.0, 48.0, 48.0)}
    assert "bad_annotation 3" in capsys.readouterr().out


def test_a_picture_that_a_coco_tool_turned_is_told(world: World, tmp_path: Path) -> None:
    data = exported(tmp_path, "coco.json")
    number = data["annotations"][0]["image_id"]
    of_image = [annotation for annotation in data["annotations"] if annotation["image_id"] == number]
    for annotation in of_image:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [SIDE - x - width, SIDE - y - height, width, height]
    data["annotations"] = of_image
    with pytest.raises(UserError, match=f"image_rotated {len(of_image)}"):
        imported(tmp_path, data)


def test_coco_without_decisions_gives_no_labels(world: World, tmp_path: Path) -> None:
    assert imported(tmp_path, exported(tmp_path, "coco.json")) == []


def test_exports_hold_no_report_no_patient_and_no_name_of_a_raw_file(world: World, tmp_path: Path) -> None:
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert len(files) == 4
    for file in files:
        assert b"secret" not in file.read_bytes().lower()
        assert "secret" not in file.name


def test_reviewers_see_the_image_that_the_stages_see(world: World, tmp_path: Path) -> None:
    (task,) = exported(tmp_path, "label_studio.json")
    (image,) = exported(tmp_path, "coco.json")["images"]
    assert task["data"]["image"] == f"/data/local-files/?d=images/{image['file_name']}"
    shown = Image.open(tmp_path / "out" / "images" / image["file_name"])
    assert (shown.mode, shown.size) == ("L", (image["width"], image["height"]))
    assert (np.asarray(shown) == np.asarray(open_image(tmp_path / "raw", "secret/b.png"))).all()


def test_an_image_that_does_not_open_is_left_out_and_counted(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw" / "secret" / "b.png").unlink()
    export(world, tmp_path)
    assert "review: 0 regions of 0 images" in (printed := capsys.readouterr().out)
    assert "images left out: missing_file 1" in printed
    assert exported(tmp_path, "coco.json")["images"] == []


def test_second_review_of_a_box_replaces_the_first(world: World, tmp_path: Path) -> None:
    (task,) = exported(tmp_path, "label_studio.json")
    assert {label.decision for label in imported(tmp_path, [submitted(task)])} == {"accepted"}
    data = exported(tmp_path, "coco.json")
    data["annotations"][1]["attributes"]["decision"] = "rejected"
    labels = imported(tmp_path, data)
    assert decisions(labels) == {("accepted", *BOXES[0]), ("rejected", *BOXES[1]), ("accepted", *BOXES[2])}


def test_stage_rejects_the_moved_box_and_adds_the_reviewers_box(world: World, tmp_path: Path) -> None:
    (task,) = exported(tmp_path, "label_studio.json")
    done = submitted(task)
    done["annotations"][0]["result"][1]["value"]["x"] += 100 * 6 / SIDE
    imported(tmp_path, [done])
    summary, rows = world.run(review=tmp_path / "review.jsonl")
    assert [(row.proposer, row.x0, row.review, row.reason) for row in rows] == [
        ("review", 36.5, "accepted", None),
        ("saliency", 4.0, "accepted", None),
        ("saliency", 30.5, "rejected", "rejected_in_review"),
        ("saliency", 8.0, "accepted", None),
    ]
    assert summary["review"] == {"labels": 4, "unused": {}, "names": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "JSON"), ('"a"', "neither a Label Studio nor a COCO"), ("[{}]", "image_id"), ("{}", "neither"),
     ('{"images": [{"id": 1}], "annotations": [{"id": 5, "image_id": 1}]}', "annotation 5")],
)  # fmt: skip
def test_file_of_another_tool_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "foreign.json"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        import_labels(file, IMAGES, tmp_path / "review.jsonl")
    assert not (tmp_path / "review.jsonl").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "review.jsonl:1: not JSON"), ('{"image_id": "a"}', "review.jsonl:1"),
     ('{"image_id": "a", "x0": 0, "y0": 0, "x1": 5, "y1": 5, "decision": "fine"}', "decision"),
     ('{"image_id": "a", "x0": 5, "y0": 0, "x1": 5, "y1": 5, "decision": "drawn"}', "no area"),
     ('{"image_id": "a", "x0": 0, "y0": 0, "x1": 5, "y1": 5, "decision": "drawn", "by": "me"}', "unknown key")],
)  # fmt: skip
def test_malformed_line_of_review_labels_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "review.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(UserError, match=message):
        review_labels.read(file)


GOOD = '{"image_id": "a", "x0": 0, "y0": 0, "x1": 5, "y1": 5, "decision": "drawn", "label": "one\u2028line"}\n'


@pytest.mark.parametrize(
    "second", [GOOD[:30], "\n" + GOOD, "[" * 100_000, "9" * 5000, GOOD.replace("one", "\\ud800"), "\xff", "null", "[]"]
)
def test_damaged_review_labels_are_named_with_their_line(tmp_path: Path, second: str) -> None:
    file = tmp_path / "review.jsonl"
    file.write_bytes(GOOD.encode() + second.encode("latin-1" if second == "\xff" else "utf-8"))
    with pytest.raises(UserError, match=r"review.jsonl:2") as caught:
        review_labels.read(file)
    assert "\n" not in str(caught.value)


def test_a_label_may_hold_what_unicode_calls_the_end_of_a_line(tmp_path: Path) -> None:
    file = tmp_path / "review.jsonl"
    file.write_text(GOOD + GOOD, encoding="utf-8")
    assert [label.label for label in review_labels.read(file)] == ["one\u2028line"] * 2


COCO_EXPORT = {
    "images": [{"id": 1, "image_id": "a"}],
    "categories": [{"id": 1, "name": "mass"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [1, 2, 8, 6],
            "attributes": {"region_id": "x", "exported_box": [1, 2, 9, 8], "decision": "accepted"},
        }
    ],
}
GARBAGE = [{}, [], "\ud800", "a\0b", None, 10**400, 1e308, float("inf"), float("nan"), "x" * 10_000, [[]], {"a": {}}]


@pytest.mark.parametrize(
    "place",
    [
        ("images", 0, "image_id"), ("images", 0, "file_name"), ("images", 0, "id"), ("images", 0), ("images",),
        ("categories",),
        ("categories", 0, "name"), ("annotations", 0), ("annotations", 0, "image_id"),
        ("annotations", 0, "category_id"), ("annotations", 0, "bbox"), ("annotations", 0, "bbox", 2),
        ("annotations", 0, "attributes"), ("annotations", 0, "attributes", "region_id"),
        ("annotations", 0, "attributes", "exported_box"), ("annotations", 0, "attributes", "exported_label"),
        ("annotations", 0, "attributes", "decision"),
    ],
)  # fmt: skip
def test_garbage_in_an_export_is_one_line_or_a_sound_label(tmp_path: Path, place: tuple[Any, ...]) -> None:
    file, review = tmp_path / "back.json", tmp_path / "review.jsonl"
    for value in GARBAGE:
        changed = copy.deepcopy(COCO_EXPORT)
        at: Any = changed
        for step in place[:-1]:
            at = at[step]
        at[place[-1]] = value
        file.write_text(json.dumps(changed))
        review.unlink(missing_ok=True)
        said = ""
        try:
            import_labels(file, IMAGES, review)
        except UserError as error:
            said = str(error)
        if said:
            assert said.startswith(str(file))
            assert "\n" not in said
            assert len(said) < 500 + len(str(file))
            assert not review.exists()
        else:
            review_labels.read(review)


@pytest.mark.parametrize("data", [b"[", b"\xff\xfe{", b"[" * 100_000, b"9" * 5000, b"", b"null", b"3"])
def test_a_file_that_is_no_export_is_one_line(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "back.json"
    file.write_bytes(data)
    with pytest.raises(UserError) as caught:
        import_labels(file, IMAGES, tmp_path / "review.jsonl")
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no file: give the file that the tool exported"):
        import_labels(tmp_path / "missing.json", IMAGES, tmp_path / "review.jsonl")


def test_a_picture_with_an_exif_orientation_is_exported_as_viewers_show_it(tmp_path: Path) -> None:
    """A viewer has nothing to turn in the export, so that what it hands back fits what the study has."""
    world = World(tmp_path)
    exif = Image.Exif()
    exif[274] = 6
    raw = tmp_path / "raw" / "turned.jpg"
    raw.parent.mkdir()
    stored = np.full((60, 100), 40, np.uint8)
    stored[10:40, 20:50] = 220
    Image.fromarray(stored).save(raw, exif=exif, quality=95)
    image = world.image("train", sha256=sha256_file(raw), path="turned.jpg", width=60, height=100)
    world.propose(image, 20, 20, 50, 50, score=0.9)
    world.propose(image, 2, 60, 30, 95, score=0.8)
    world.run()
    export(world, tmp_path)
    (picture,) = (tmp_path / "out" / "images").iterdir()
    shown = Image.open(picture)
    assert (shown.size, dict(shown.getexif())) == ((60, 100), {})
    assert np.asarray(shown)[25:45, 25:45].min() > 200
    (task,) = exported(tmp_path, "label_studio.json")
    first = task["predictions"][0]["result"][0]
    assert (first["original_width"], first["original_height"]) == (60, 100)
    labels = imported(tmp_path, [submitted(task)])
    assert decisions(labels) == {("accepted", 20, 20, 50, 50), ("accepted", 2, 60, 30, 95)}
