"""SLAKE's layout: questions in two languages and three splits, boxes, label maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.errors import UserError
from pipelines.ingest.inspect.look import look, print_look
from pipelines.ingest.sources.slake import Slake
from pipelines.masks import decode
from tests.pipelines.ingest.layouts import config, grey, ingest, same_from_a_zip, save, sorted_out, write_json


def question(qid: int, image: int, **changes: Any) -> dict[str, Any]:
    """As SLAKE writes it."""
    values = {
        "img_id": image,
        "img_name": f"xmlab{image}/source.jpg",
        "question": "What modality is used to take this image?",
        "answer": "MRI",
        "q_lang": "en",
        "location": "Abdomen",
        "modality": "MRI",
        "answer_type": "OPEN",
        "base_type": "vqa",
        "content_type": "Modality",
        "triple": ["vhead", "_", "_"],
        "qid": qid,
    }
    return values | changes


def label_map() -> np.ndarray:
    values = np.zeros((20, 30), np.uint8)
    values[2:8, 3:10], values[12:15, 20:25] = 5, 9
    return values


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four pictures, of which nobody asks about the last."""
    root = tmp_path / "Slake1.0"
    for number in range(4):
        folder = root / "imgs" / f"xmlab{number}"
        save(folder / "source.jpg", grey(number))
        save(folder / "mask.png", label_map())
        write_json(folder / "detection.json", [{"Liver": [3.0, 2.0, 7.0, 6.0]}, {"Kidney": [20, 12, 5, 3]}])
        write_json(folder / "question.json", [])
    lungs = {"location": "Lung", "modality": "X-Ray", "answer_type": "CLOSED", "answer": "No"}
    write_json(
        root / "train.json",
        [question(0, 0), question(1, 0, q_lang="zh", question="图像模态是什么?"), question(2, 1, **lungs)],
    )
    write_json(root / "validate.json", [question(3, 1, **lungs, question="Is the lung healthy?")])
    write_json(root / "test.json", [question(4, 2, modality="CT", answer=2)])
    return root


def test_questions_boxes_and_splits(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary, tables = ingest(tmp_path, "slake", root, {})
    # Four English questions, three pictures with boxes, one picture that nobody asks about.
    assert (summary["inputs"], summary["ok"], summary["duplicates"], summary["rejected"]) == (8, 3, 4, 1)
    assert summary["reasons"]["rejected"] == {"unlisted_file": 1}
    assert summary["left_out"] == {"mask_without_classes": 3}
    left_out = "questions in languages that options.languages does not name, which are not used: 1"
    assert left_out in summary["warnings"]
    images = {Path(image["path"]).parent.name: image for image in tables["images"]}
    seen = {name: (image["split"], image["split_conflict"], image["modality"]) for name, image in images.items()}
    assert seen == {
        "xmlab0": ("train", False, "mri"),
        "xmlab1": ("validation", True, "radiograph"),
        "xmlab2": ("test", False, "ct"),
    }
    assert {name: image["attributes"] for name, image in images.items()} == {
        "xmlab0": {"location": "Abdomen"},
        "xmlab1": {"location": "Lung"},
        "xmlab2": {"location": "Abdomen"},
    }
    assert {(image["labels"], image["mask_path"]) for image in images.values()} == {(None, None)}
    asked = {row["question_id"]: (row["answer"], row["answer_type"], row["split"]) for row in tables["questions"]}
    assert asked == {
        "0": ("MRI", "open", "train"),
        "2": ("No", "closed", "train"),
        "3": ("No", "closed", "validation"),
        "4": ("2", "open", "test"),
    }
    of_first = [row for row in tables["annotations"] if row["image_id"] == images["xmlab0"]["image_id"]]
    assert [[row[edge] for edge in ("label", "x0", "y0", "x1", "y1", "mask")] for row in of_first] == [
        ["Liver", 3, 2, 10, 8, None],
        ["Kidney", 20, 12, 25, 15, None],
    ]
    same_from_a_zip(Slake, root, {}, tmp_path / "slake.zip")
    print_look(look("here", config("slake", root, {}), None))
    shown = capsys.readouterr().out
    assert f"! {left_out}" in shown
    assert "left out of rows: mask_without_classes 3" in shown
    assert "attributes: location: Abdomen 4, location: Lung 3" in shown
    assert "rejected unlisted_file 1: imgs/xmlab3/source.jpg" in shown


def test_label_maps_are_regions_where_their_values_are_named(root: Path, tmp_path: Path) -> None:
    _, tables = ingest(tmp_path, "slake", root, {"mask_classes": {5: "liver", 9: "kidney"}})
    of_first = [row for row in tables["annotations"] if row["image_id"] == tables["annotations"][0]["image_id"]]
    assert [(row["label"], row["mask_value"]) for row in of_first] == [
        *(("Liver", None), ("Kidney", None), ("liver", 5), ("kidney", 9))
    ]
    assert np.array_equal(decode(of_first[2]["mask"], 20, 30), label_map() == 5)
    summary, tables = ingest(tmp_path / "other", "slake", root, {"mask_classes": {5: "liver"}})
    # The picture's questions stay.
    assert summary["reasons"]["rejected"] == {"unlisted_file": 1, "unlisted_mask_value": 3}
    assert (summary["ok"], len(tables["questions"]), tables["annotations"]) == (3, 4, [])


def test_both_languages(root: Path) -> None:
    source = Slake(root, {"languages": ["en", "zh"]})
    records, _ = sorted_out(source)
    assert [record.questions[0].question_id for record in records if record.questions] == ["0", "1", "2", "3", "4"]
    assert source.warnings == []


def test_bad_rows_and_boxes_cost_themselves_alone(root: Path) -> None:
    bad = [
        question(5, 0, answer_type="MAYBE"),
        question(6, 0, answer=""),
        question(7, 3, modality="PET"),
        "text",
        question(8, 0) | {"qid": None},
        question(9, 0, answer="None"),
    ]
    write_json(root / "train.json", [question(0, 0), *bad])
    for number, boxes in enumerate(([{"Liver": [1, 2, 3]}], {"Liver": [1, 2, 3, 4]}, [{"Liver": [1, 2, 3, "4"]}])):
        write_json(root / "imgs" / f"xmlab{number}" / "detection.json", boxes)
    records, rejected = sorted_out(Slake(root, {}))
    assert [record.questions[0].answer for record in records] == ["MRI", "None", "No", "2"]
    assert rejected == [
        ("train.json:1", "bad_questions"),
        ("train.json:2", "bad_row"),
        ("train.json:3", "unknown_modality"),
        ("train.json:4", "bad_row"),
        ("train.json:5", "bad_row"),
        ("imgs/xmlab0/detection.json", "bad_box"),
        ("imgs/xmlab1/detection.json", "bad_objects"),
        ("imgs/xmlab2/detection.json", "bad_box"),
        ("imgs/xmlab3/source.jpg", "unlisted_file"),
    ]
    (root / "imgs" / "xmlab0" / "detection.json").write_text("[")
    (root / "imgs" / "xmlab1" / "detection.json").write_text("")
    _, rejected = sorted_out(Slake(root, {}))
    assert rejected[5:7] == [
        ("imgs/xmlab0/detection.json", "bad_objects"),
        ("imgs/xmlab1/detection.json", "empty_file"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": ["en"]}, "options.language: unknown key; did you mean 'languages'"),
        ({"languages": []}, "languages: name one, such as en or zh"),
        ({"languages": ["fr"]}, "options.languages: no question is in fr: choose from en, zh"),
        ({"mask_classes": {"liver": 5}}, "options.mask_classes"),
    ],
)
def test_mistakes_are_one_line(root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        list(Slake(root, options).records())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_listing_that_is_missing_is_named(root: Path) -> None:
    (root / "validate.json").unlink()
    with pytest.raises(UserError, match=r"validate\.json cannot be read \(missing_file"):
        list(Slake(root, {}).records())
