"""What tools and people do to an export: turned pictures and boxes, other names, lost attributes, other images."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from models.verified import sha256_file
from pipelines.errors import UserError
from pipelines.regions import label_studio, review_labels
from pipelines.regions.annotation_tools import ShownImage, ShownRegion
from pipelines.regions.review import export_regions, import_labels
from pipelines.regions.review_labels import ReviewLabel
from pipelines.sources import Sources
from tests.pipelines.regions.small_world import CONFIG, SIDE, World

ID = "0" * 16
BOXES = [(10.0, 12.0, 40.0, 36.0), (50.0, 20.0, 90.0, 50.0)]  # on a picture of 100 x 60
SHOWN = ShownImage(
    size=(100, 60),
    regions=(
        ShownRegion(box=BOXES[0], label="nodule", mask_box=(14.0, 15.0, 38.0, 33.0)),
        ShownRegion(box=BOXES[1], label=None),
    ),
)


class Review:
    """An import into a study of one image, `SHOWN`."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder, self._capsys = folder, capsys

    def take(self, exported: Any, images: dict[str, ShownImage] | None = None) -> tuple[list[ReviewLabel], str]:
        """The labels, and what is printed after their number."""
        file, review = self._folder / "back.json", self._folder / "review.jsonl"
        file.write_text(json.dumps(exported))
        import_labels(file, images or {ID: SHOWN}, review)
        return review_labels.read(review), self._capsys.readouterr().out.partition("labels ")[2].strip()


@pytest.fixture
def review(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Review:
    return Review(tmp_path, capsys)


def rectangle(box: tuple[float, ...], name: str, **value: Any) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    percent = {"x": x0, "y": y0 / 0.6, "width": x1 - x0, "height": (y1 - y0) / 0.6, "rotation": 0}
    sides = {"original_width": 100, "original_height": 60, "image_rotation": 0}
    return {"id": "r", "type": "rectanglelabels", **sides, "value": percent | {"rectanglelabels": [name]} | value}


def task(*results: dict[str, Any]) -> dict[str, Any]:
    """What Label Studio exports after a person submitted these results."""
    edges = [dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)) for box in BOXES]
    shown = [
        {"region_id": f"{ID}-0", "label": "nodule"} | edges[0],
        {"region_id": f"{ID}-1", "label": None} | edges[1],
    ]
    return {"data": {"image_id": ID, "regions": shown}, "annotations": [{"result": list(results)}]}


def kept() -> list[dict[str, Any]]:
    return [rectangle(BOXES[0], "nodule"), rectangle(BOXES[1], "finding")]


def coco(*changes: dict[str, Any]) -> dict[str, Any]:
    """A COCO file in which the exported annotations are changed."""
    names = ["finding", "mass", "nodule"]
    annotations = []
    for number, (box, name) in enumerate(zip(BOXES, ("nodule", "finding"), strict=True)):
        x0, y0, x1, y1 = box
        attributes = {"region_id": f"{ID}-{number}", "exported_box": list(box), "exported_label": name, "decision": ""}
        annotations.append(
            {"id": number + 1, "image_id": 1, "category_id": names.index(name), "bbox": [x0, y0, x1 - x0, y1 - y0]}
            | {"attributes": attributes}
        )
    return {
        "images": [{"id": 1, "file_name": f"{ID}.png", "image_id": ID, "width": 100, "height": 60}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": [
            annotation | change for annotation, change in zip(annotations, changes or ({}, {}), strict=True)
        ],
    }


def decided(labels: list[ReviewLabel]) -> list[tuple[Any, ...]]:
    return [(label.decision, label.box, label.label) for label in labels]


ACCEPTED = [("accepted", BOXES[0], None), ("accepted", BOXES[1], None)]


def test_a_picture_that_the_viewer_turned_is_left_out_and_counted(review: Review) -> None:
    turned = kept()
    for result in turned:  # a quarter turn clockwise, as for EXIF orientation 6
        value = result["value"]
        value["x"], value["y"] = 100 - value["y"] - value["height"], value["x"]
        value["width"], value["height"] = value["height"], value["width"]
        result["original_width"], result["original_height"] = 60, 100
    with pytest.raises(UserError, match=r"back.json: nothing can be imported \(size_differs 1\)$"):
        review.take([task(*turned)])
    rotated = [result | {"image_rotation": 90} for result in kept()]
    labels, printed = review.take([task(*turned), task(*rotated), task(*kept())])
    assert (decided(labels), printed) == (ACCEPTED, "(accepted 2); left out: image_rotated 1, size_differs 1")


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_square_is_known_by_its_boxes(review: Review, quarters: int) -> None:
    images = {ID: ShownImage(size=(100, 100))}
    results = kept()
    for result in results:
        result["original_height"] = 100
        result["value"] |= {"y": result["value"]["y"] * 0.6, "height": result["value"]["height"] * 0.6}
    assert decided(review.take([task(*results)], images)[0]) == ACCEPTED
    for result in results:
        value = result["value"]
        for _ in range(quarters):
            value["x"], value["y"] = 100 - value["y"] - value["height"], value["x"]
            value["width"], value["height"] = value["height"], value["width"]
    with pytest.raises(UserError, match=r"nothing can be imported \(image_rotated 1\)$"):
        review.take([task(*results)], images)
    labels, _ = review.take([task(results[0])], images)  # one of the two: a person may have drawn that
    assert [label.decision for label in labels].count("drawn") == 1


def test_coco_of_another_size_is_left_out_and_counted(review: Review) -> None:
    data = coco({"attributes": {"decision": "accepted"}}, {})
    data["images"][0] |= {"width": 60, "height": 100}
    with pytest.raises(UserError, match=r"nothing can be imported \(size_differs 2\)$"):
        review.take(data)


@pytest.mark.parametrize("degrees", [0.0001, -0.0001, 359.9999, 360, 0.5])
def test_a_rotation_that_moves_no_corner_by_more_than_a_pixel_is_none(review: Review, degrees: float) -> None:
    labels, _ = review.take([task(rectangle(BOXES[0], "nodule", rotation=degrees), kept()[1])])
    assert decided(labels) == ACCEPTED


@pytest.mark.parametrize("degrees", [5, -30, 90, 180])
def test_a_turned_rectangle_costs_itself_alone(review: Review, degrees: float) -> None:
    labels, printed = review.take([task(rectangle(BOXES[0], "nodule", rotation=degrees), kept()[1])])
    assert (decided(labels), printed) == (ACCEPTED[1:], "(accepted 1); left out: turned_rectangle 1")


def test_an_outline_and_a_box_without_area_cost_themselves_alone(review: Review) -> None:
    outline = {"type": "polygonlabels", "value": {"points": [[1, 1], [5, 1], [5, 5]]}}
    labels, printed = review.take([task(*kept(), outline, rectangle((5, 5, 5, 9), "mass"))])
    assert (decided(labels), printed) == (ACCEPTED, "(accepted 2); left out: bad_box 1, not_a_rectangle 1")


def test_a_new_name_is_kept_and_a_removed_one_counted(review: Review) -> None:
    labels, printed = review.take([task(rectangle(BOXES[0], "mass"), rectangle(BOXES[1], "cyst"))])
    assert decided(labels) == [("accepted", BOXES[0], "mass"), ("accepted", BOXES[1], "cyst")]
    assert printed == "(accepted 2)"
    labels, _ = review.take([task(*kept())])  # the next person saw the old names and left them
    assert [label.label for label in labels] == ["mass", "cyst"]
    labels, printed = review.take([task(rectangle(BOXES[0], "finding"), kept()[1])])
    assert ([label.label for label in labels], printed) == (["mass", "cyst"], "(accepted 2); left out: name_removed 1")


def test_a_new_category_in_coco_is_kept_without_a_decision_too(review: Review) -> None:
    labels, _ = review.take(coco({"category_id": 1}, {}))
    assert decided(labels) == [("accepted", BOXES[0], "mass")]


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"region_id": f"{ID}-0", "exported_box": str(list(BOXES[0])), "exported_label": "nodule", "decision": "None"},
        {"region_id": f"{ID}-0", "exported_box": None, "exported_label": None, "decision": None},
    ],
    ids=["dropped", "as text", "null"],
)
def test_a_shown_box_that_comes_back_unchanged_is_never_drawn(review: Review, attributes: dict[str, Any]) -> None:
    mask_box = {"bbox": [14, 15, 24, 18], "attributes": attributes}  # what CVAT returns of a region with a mask
    for change in ({"attributes": attributes}, mask_box):
        data = coco(
            change, {"attributes": {"region_id": f"{ID}-1", "exported_box": list(BOXES[1]), "decision": "rejected"}}
        )
        del data["images"][0]["image_id"]  # as Datumaro does
        labels, _ = review.take(data)
        assert decided(labels) == [("rejected", BOXES[1], None)]


@pytest.mark.parametrize("image_id", ["\ud800", "f" * 16, [{"a": 1}], {}, 7, "../x"])
def test_ids_that_are_none_of_the_study_are_one_line(review: Review, image_id: Any) -> None:
    done = task(*kept())
    done["data"]["image_id"] = image_id
    data = coco({}, {})
    data["images"][0]["image_id"] = image_id
    for exported in ([done], data if image_id else None):
        if exported is not None:
            with pytest.raises(UserError, match=r"nothing can be imported \(unknown_image \d\): its images are not in"):
                review.take(exported)
    if image_id:
        assert decided(review.take([done, task(*kept())])[0]) == ACCEPTED


def test_the_stage_calls_a_training_region_by_the_reviewers_name_and_no_test_region(tmp_path: Path) -> None:
    world = World(tmp_path)
    for split in ("train", "train", "test"):
        world.propose(world.image(split), 10, 10, 30, 30, label="nodule")
    names = {"0": ["mass"], "1": ["mass", "cyst"], "2": ["mass"]}
    labels = [
        ReviewLabel(image_id=number.zfill(16), x0=10, y0=10, x1=30, y1=30, decision="accepted", label=name)
        for number, given in names.items()
        for name in given
    ]
    review_labels.write(labels, tmp_path / "review.jsonl")
    summary, rows = world.run(CONFIG, review=tmp_path / "review.jsonl")
    assert [(row.label, row.review) for row in rows] == [(name, "accepted") for name in ("mass", "nodule", "nodule")]
    assert summary["review"] == {
        "labels": 4,
        "unused": {},
        "names": {"on_evaluation_image": 1, "reviewers_disagree": 2, "used": 1},
    }


def test_every_label_is_offered_whatever_its_letters() -> None:
    strange = ['ground "glass" <&> é', "it's", "a\x01b", "finding", "tab\there"]
    offered = [tag.get("value") for tag in ElementTree.fromstring(label_studio.labelling(strange)).iter("Label")]
    assert offered == ["finding", "a b", 'ground "glass" <&> é', "it's", "tab here"]


def test_members_slices_and_odd_names_get_pictures_of_their_own(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    pixels = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    Image.fromarray((pixels % 251).astype(np.uint8)).save(raw / "a b#1&x.png")
    with zipfile.ZipFile(raw / "batch.zip", "w") as archive:
        for name in ("1.png", "2.png"):
            archive.write(raw / "a b#1&x.png", f"x/{name}")
    nibabel.save(nibabel.Nifti1Image(np.stack([pixels, pixels.T], -1).astype(np.int16), np.eye(4)), raw / "v.nii.gz")
    world = World(tmp_path)
    files = [("a b#1&x.png", None, None), ("batch.zip", "x/1.png", None), ("batch.zip", "x/2.png", None)]
    files += [("v.nii.gz", None, 0), ("v.nii.gz", None, 1), ("im.dcm", None, None)]
    shutil.copy(get_testdata_file("CT_small.dcm", download=False), raw / "im.dcm")
    sides = {"im.dcm": {"width": 128, "height": 128}}
    for path, member, frame in files:
        opened = raw / ("a b#1&x.png" if member else path)  # a member's digest is that of its own bytes
        columns = {"path": path, "member": member, "frame": frame, "sha256": sha256_file(opened)}
        image = world.image("train", **columns, **sides.get(path, {}))
        world.propose(image, 4.0, 4.0, 20.0, 20.0)
    world.run()
    out = tmp_path / "out"
    sources = Sources(roots={"toy": raw}, max_pixels=20_000)
    export_regions(world.split_file, world.regions_file, sources, out)
    addresses = [task["data"]["image"] for task in json.loads((out / "label_studio.json").read_text())]
    names = [address.removeprefix("/data/local-files/?d=") for address in addresses]
    assert len(set(names)) == len(files)
    for name in names:
        assert not set(name) & set("#&?% ")
        assert Image.open(out / name).format == "PNG"
    images = json.loads((out / "coco.json").read_text())["images"]
    assert [f"images/{image['file_name']}" for image in images] == names
