"""COCO's JSON: boxes, polygons, run-length codes and captions, compared with pycocotools and with pixels by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as reference

from pipelines.errors import UserError
from pipelines.ingest.inspect.look import look, print_look
from pipelines.ingest.sources.coco import Coco
from pipelines.masks import decode, encode, encode_polygons
from tests.pipelines.ingest.layouts import (
    config,
    grey,
    ingest,
    mask,
    same_from_a_zip,
    save,
    sorted_out,
    write_json,
)

OPTIONS = {"modality": "radiograph", "annotations": "annotations.json"}
SQUARE = [4, 2, 10, 2, 10, 8, 4, 8]


def annotation(image: Any, category: int | None = 1, **values: Any) -> dict[str, Any]:
    named = {} if category is None else {"category_id": category}
    return {"id": 1, "image_id": image, "iscrowd": 0, "area": 1, "bbox": [4, 2, 6, 6], **named, **values}


def document(annotations: list[Any], names: tuple[str, ...] = ("a.png",), **values: Any) -> dict[str, Any]:
    images = [{"id": n, "file_name": name, "width": 30, "height": 20} for n, name in enumerate(names, start=1)]
    categories = [{"id": n, "name": name} for n, name in ((1, "nodule"), (2, "mass"), (3, "lung"), (4, "No finding"))]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories, **values}


def write(root: Path, annotations: list[Any], names: tuple[str, ...] = ("a.png",), **values: Any) -> None:
    for seed, name in enumerate(names):
        save(root / name, grey(seed))
    write_json(root / "annotations.json", document(annotations, names, **values))


def codes(pixels: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """A mask's code compressed, and as runs."""
    height, width = pixels.shape
    column = pixels.flatten(order="F") > 0
    starts = np.flatnonzero(np.diff(column, prepend=False))
    counts = np.diff([0, *starts, column.size]).tolist()
    return {"size": [height, width], "counts": encode(pixels > 0)}, {"size": [height, width], "counts": counts}


def test_the_layout_of_coco_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """annotations/{instances,captions}_<split>2017.json beside <split>2017/."""
    root = tmp_path / "coco"
    for seed, split in enumerate(("train", "val")):
        name = f"00000000000{seed}.jpg"
        save(root / f"{split}2017" / name, grey(seed))
        instances = document([annotation(1, segmentation=[SQUARE])], (name,))
        captions = [{"id": n, "image_id": 1, "caption": text} for n, text in enumerate(("One.", "Two."))]
        write_json(root / "annotations" / f"instances_{split}2017.json", instances)
        told = document(captions, (name,))
        del told["categories"]
        write_json(root / "annotations" / f"captions_{split}2017.json", told)
    options = {
        "modality": "other",
        "annotations": {
            ours: [f"annotations/{kind}_{theirs}2017.json" for kind in ("instances", "captions")]
            for ours, theirs in (("train", "train"), ("validation", "val"))
        },
        "images": {"train": "train2017", "validation": "val2017"},
        "unannotated": "no_finding",
    }
    records, rejected = sorted_out(Coco(root, options))
    assert rejected == []
    assert [(record.row, record.name, record.split, record.report, record.labels) for record in records[:3]] == [
        ("annotations/instances_train2017.json:images:0", "train2017/000000000000.jpg", "train", None, ("nodule",)),
        ("annotations/captions_train2017.json:images:0", "train2017/000000000000.jpg", "train", "One.", None),
        ("annotations/captions_train2017.json:annotations:1", "train2017/000000000000.jpg", "train", "Two.", None),
    ]
    same_from_a_zip(Coco, root, options, tmp_path / "coco.zip")
    summary, tables = ingest(tmp_path, "coco", root, options)
    assert (summary["ok"], summary["duplicates"], summary["files"]["unlisted"]) == (2, 4, 0)
    assert [(image["report"], image["other_reports"], image["labels"]) for image in tables["images"]] == [
        ("One.", ["Two."], ["nodule"])
    ] * 2
    region = tables["annotations"][0]
    assert [region[edge] for edge in ("label", "x0", "y0", "x1", "y1", "mask_path", "mask_sha256")] == [
        *("nodule", 4, 2, 10, 8, None, None)
    ]
    expected = np.zeros((20, 30), bool)
    expected[2:8, 4:10] = True
    assert np.array_equal(decode(region["mask"], 20, 30), expected)
    print_look(look("here", config("coco", root, options), None))
    shown = capsys.readouterr().out
    assert "here: 6 rows, 2 images listed, 2 opened" in shown
    assert "labels: unknown 4, nodule 2" in shown
    assert "annotations/instances_train2017.json: rows 2" in shown
    assert [key for key in ("bbox", "segmentation", "category_id", "file_name") if f"{key}: NOT USED" in shown] == []


def test_every_form_of_a_segmentation_gives_its_mask(tmp_path: Path) -> None:
    first, second = mask((3, 4), (20, 10)), mask((0, 17), (27, 0))
    triangle = [12.5, 3, 20.25, 3.5, 16, 15.75]
    forms = [*codes(first), *codes(second), [SQUARE, triangle]]
    write(tmp_path, [annotation(1, bbox=None, segmentation=form, iscrowd=n % 2) for n, form in enumerate(forms)])
    _, tables = ingest(tmp_path / "work", "coco", tmp_path, OPTIONS)
    drawn = reference.decode(reference.merge(reference.frPyObjects([SQUARE, triangle], 20, 30))).astype(bool)
    expected = [first > 0, first > 0, second > 0, second > 0, drawn]
    for region, pixels in zip(tables["annotations"], expected, strict=True):
        assert np.array_equal(decode(region["mask"], 20, 30), pixels)
        assert region["x0"] is None


def test_labels_anatomy_and_images_without_annotations(tmp_path: Path) -> None:
    names = tuple(f"{letter}.png" for letter in "abcde")
    marked = [annotation(1), annotation(1, 2), annotation(1, 1), annotation(2, 3), annotation(3, 4)]
    write(tmp_path, [*marked, annotation(4, None)], names)
    options = OPTIONS | {"anatomy": ["lung"]}

    def seen(**changes: Any) -> list[tuple[Any, list[str | None]]]:
        records, rejected = sorted_out(Coco(tmp_path, options | changes))
        assert rejected == []
        return [(record.labels, [region.label for region in record.regions]) for record in records]

    known = [(("nodule", "mass"), ["nodule", "mass", "nodule"]), (None, ["lung"]), ((), []), (None, [None])]
    assert seen() == [*known, (None, [])]
    assert seen(unannotated="no_finding") == [*known, ((), [])]


def test_parts_without_a_place_are_left_out_and_counted(tmp_path: Path) -> None:
    flat = [5, 5, 5, 5, 5, 5]
    empty = {"size": [20, 30], "counts": [600]}
    marked = [
        annotation(1, segmentation=[flat]),
        annotation(1, 2, segmentation=empty),
        annotation(1, 3, bbox=None, segmentation=[]),
        annotation(1, 3, bbox=[None] * 4),
        annotation(1),
    ]
    write(tmp_path, marked)
    summary, tables = ingest(tmp_path / "work", "coco", tmp_path, OPTIONS)
    assert summary["left_out"] == {"empty_region_mask": 2, "null_box": 2}
    assert tables["images"][0]["labels"] == ["nodule", "mass", "lung"]
    assert len(tables["annotations"]) == 1


def test_a_box_follows_an_image_that_was_resized_and_a_mask_does_not(tmp_path: Path) -> None:
    for name, values in {"box": {}, "mask": {"segmentation": [SQUARE]}}.items():
        root = tmp_path / name
        write(root, [annotation(1, **values), annotation(2)], ("a.png", "b.png"))
        save(root / "a.png", grey(5, 40, 60))
        _, tables = ingest(tmp_path / f"work_{name}", "coco", root, OPTIONS)
        if values:
            assert [(row["path"], row["reason"]) for row in tables["rejected"]] == [("a.png", "mask_size_differs")]
        else:
            found = {row["image_id"]: [row[edge] for edge in ("x0", "y0", "x1", "y1")] for row in tables["annotations"]}
            of_a = next(image["image_id"] for image in tables["images"] if image["path"] == "a.png")
            assert found[of_a] == [8, 4, 20, 16]


BAD = [
    ({"bbox": [1, 2, 3]}, "bad_box"),
    ({"bbox": "1,2,3,4"}, "bad_box"),
    ({"bbox": [1, 2, float("nan"), 4]}, "bad_box"),
    ({"segmentation": [[1, 2, 3, 4]]}, "bad_polygon"),
    ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "bad_polygon"),
    ({"segmentation": [[1, 2, 3, 4, 5, "6"]]}, "bad_polygon"),
    ({"segmentation": [1, 2, 3, 4, 5, 6]}, "bad_polygon"),
    ({"segmentation": [[1e9, 2, 3, 4, 5, 6]]}, "bad_polygon"),
    ({"segmentation": "outline.png"}, "bad_polygon"),
    ({"segmentation": {"size": [20, 30], "counts": [1, 2, 3]}}, "bad_rle"),
    ({"segmentation": {"size": [20, 30], "counts": [599, 1.0]}}, "bad_rle"),
    ({"segmentation": {"size": [20, 30], "counts": "111111111Q"}}, "bad_rle"),
    ({"segmentation": {"size": [20], "counts": [600]}}, "bad_rle"),
    ({"segmentation": {"size": [20, 30.0], "counts": [600]}}, "bad_rle"),
    ({"segmentation": {"counts": [600]}}, "bad_rle"),
    ({"segmentation": {"size": [10**6, 10**6], "counts": [10**12]}}, "too_many_pixels"),
    ({"category_id": 9}, "unnamed_category"),
    ({"category_id": [1]}, "unnamed_category"),
    ({"category_id": 4}, "bad_labels"),
    ({"caption": ["a"]}, "bad_value"),
]


def test_what_is_wrong_with_an_annotation_rejects_its_image_alone(tmp_path: Path) -> None:
    names = tuple(f"{number}.png" for number in range(len(BAD) + 1))
    marked = [annotation(number) for number in range(1, len(names) + 1)]
    marked += [annotation(number, **values) for number, (values, _) in enumerate(BAD, start=1)]
    write(tmp_path, [*marked, annotation(99), annotation(None), annotation([1]), "text"], names)
    records, rejected = sorted_out(Coco(tmp_path, OPTIONS))
    assert [record.name for record in records] == [names[-1]]
    place = "annotations.json:annotations"
    assert rejected == [
        *((f"{place}:{len(marked) + number}", "bad_row") for number in (1, 2, 3)),
        *((f"annotations.json:images:{number}", reason) for number, (_, reason) in enumerate(BAD)),
        (f"{place}:{len(marked)}", "annotation_without_row"),
    ]


def test_images_that_cannot_be_used(tmp_path: Path) -> None:
    good = {"id": 1, "file_name": "a.png", "width": 30, "height": 20}
    images = [
        good,
        {**good, "file_name": "b.png"},
        {"id": 2},
        {"file_name": "b.png"},
        "b.png",
        {**good, "id": 3, "width": 0},
        {**good, "id": 4, "width": 10**6, "height": 10**6},
        {**good, "id": 5, "width": "wide"},
        {"id": 6, "file_name": "b.png"},
    ]
    outlined = [annotation(number, segmentation=[SQUARE]) for number in (1, 3, 4, 5, 6)]
    write(tmp_path, outlined, ("a.png", "b.png"), images=images)
    records, rejected = sorted_out(Coco(tmp_path, OPTIONS))
    assert [record.name for record in records] == ["a.png"]
    assert [reason for _, reason in rejected] == [
        *("repeated_entry", "bad_row", "bad_row", "bad_row", "bad_value", "too_many_pixels", "bad_value", "bad_polygon")
    ]
    save(tmp_path / "c.png", grey(7))
    write_json(tmp_path / "annotations.json", document([], ("../a.png", "gone.png", "c.png")))
    _, tables = ingest(tmp_path / "work", "coco", tmp_path, OPTIONS)
    assert [row["reason"] for row in tables["rejected"]] == ["path_outside_root", "missing_file"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotation": "x"}, "options.annotation: unknown key; did you mean 'annotations'"),
        ({"annotations": {"val": "x.json"}}, "annotations: val is no split: choose from train"),
        ({"images": {"train": "x"}}, "images: it names a folder for each split of annotations"),
        ({"modality": "photo"}, "modality is none of radiograph"),
        ({"view": "above"}, "view is none of frontal"),
        ({"unannotated": "normal"}, "options.unannotated: "),
        ({"anatomy": ["heart"]}, "options.anatomy: no file has the category heart: choose from "),
        ({"annotations": "gone.json"}, "gone.json cannot be read"),
        ({"annotations": "list.json"}, "list.json should hold an object with the lists images, annotations"),
        ({"annotations": "half.json"}, "half.json should hold an object with the lists images, annotations"),
        ({"annotations": "text.json"}, "text.json is not JSON"),
        ({"annotations": "twice.json"}, "twice.json: categories should be a list of objects with an id (whole"),
        ({"annotations": "float.json"}, "float.json: categories should be a list of objects with an id (whole number"),
        ({"annotations": "unnamed.json"}, "unnamed.json: categories should be"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path, [annotation(1)])
    write_json(tmp_path / "list.json", [])
    write_json(tmp_path / "half.json", {"images": []})
    (tmp_path / "text.json").write_text("{")
    write_json(tmp_path / "twice.json", document([], categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]))
    # Its annotations of 1.0 would be masses.
    write_json(tmp_path / "float.json", document([], categories=[{"id": 1, "name": "a"}, {"id": 2.0, "name": "mass"}]))
    write_json(tmp_path / "unnamed.json", document([], categories=[{"id": 1}]))
    with pytest.raises(UserError) as caught:
        list(Coco(tmp_path, OPTIONS | change).records())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("polygons", [[SQUARE], [SQUARE, [12.5, 3, 20.25, 3.5, 16, 15.75]], [[-5, -5, 40, -5, 15, 19]]])
def test_polygons_are_drawn_as_pycocotools_draws_them(polygons: list[list[float]]) -> None:
    expected = reference.merge(reference.frPyObjects(polygons, 20, 30))["counts"].decode()
    assert encode_polygons(polygons, 20, 30) == expected


@pytest.mark.parametrize("polygon", [[], [1, 2, 3, 4], [1] * 7, [float("nan")] * 6, [61, 0, 1, 1, 2, 2], [0, 41] * 3])
def test_polygons_that_pycocotools_would_trust_are_refused(polygon: list[float]) -> None:
    with pytest.raises(ValueError, match="polygon"):
        encode_polygons([polygon], 20, 30)
    with pytest.raises(ValueError, match="no polygon"):
        encode_polygons([], 20, 30)


def test_an_outline_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="reaches far out"):
        encode_polygons([[0, 0, 3000, 3000] * 4000], 3000, 3000)


def test_the_json_may_stand_anywhere(tmp_path: Path) -> None:
    """As Roboflow packs it: a JSON file beside the images of each split."""
    for seed, folder in enumerate(("train", "valid")):
        save(tmp_path / folder / f"{seed}.jpg", grey(seed))
        write_json(tmp_path / folder / "_annotations.coco.json", document([annotation(1)], (f"{seed}.jpg",)))
    files = {"train": "train/_annotations.coco.json", "validation": "valid/_annotations.coco.json"}
    records, _ = sorted_out(Coco(tmp_path, {"modality": "other", "annotations": files}))
    assert [(record.name, record.split) for record in records] == [
        ("train/0.jpg", "train"),
        ("valid/1.jpg", "validation"),
    ]
