"""The folder that the stage writes, read as an outsider would: files, masks, boxes, words."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import center_of_mass
from skimage.measure import regionprops

from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.phantom.config import PhantomConfig
from pipelines.phantom.stage import run
from tests.fingerprints import write_fingerprint

ROOT = Path(__file__).resolve().parents[2]
PARAMS = {
    "images": 180,
    "size": 96,
    "seed": 3,
    "images_per_patient": [1, 3],
    "normal_fraction": 0.15,
    "contrast": 0.3,
}
PLACE = re.compile(r"\b(left|center|right) (upper|middle|lower)\b")
PERCENT = re.compile(r"(\d+) percent")


def config(**changes: Any) -> PhantomConfig:
    return parse(PhantomConfig, {**PARAMS, **changes}, "params.yaml: phantom")


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("phantom")
    return folder / "raw", run(config(), folder / "raw", folder / "summaries")


@pytest.fixture(scope="module")
def folder(written: tuple[Path, dict[str, Any]]) -> Path:
    return written[0]


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, Any]]:
    return rows_in(folder)


def lesions_of(row: dict[str, Any], folder: Path) -> list[tuple[str, str, list[int], np.ndarray]]:
    """(adjective, term, box, mask) of every annotated lesion."""
    objects = row["objects"]
    masks = [np.asarray(Image.open(folder / name)) for name in objects["mask"]]
    drawn = zip(objects["adjective"], objects["label"], objects["bbox"], masks, strict=True)
    return [lesion for lesion, look_alike in zip(drawn, objects["look_alike"], strict=True) if not look_alike]


def named(row: dict[str, Any], column: str) -> list[Any]:
    """A column of the annotated objects."""
    objects = row["objects"]
    pairs = zip(objects[column], objects["look_alike"], strict=True)
    return [value for value, look_alike in pairs if not look_alike]


def place_of(mask: np.ndarray, mirrored: bool) -> str:
    """Third of the image that holds the mask's centre of mass."""
    y, x = center_of_mass(mask)
    third = [int(3 * (value + 0.5) / 96) for value in (x, y)]
    columns = ("right", "center", "left") if mirrored else ("left", "center", "right")
    return f"{columns[third[0]]} {('upper', 'middle', 'lower')[third[1]]}"


def test_every_file_is_listed_and_counted(written, rows) -> None:
    folder, summary = written
    assert (summary["inputs"], summary["ok"], len(rows)) == (180, 180, 180)
    listed = {row["file_name"] for row in rows} | {name for row in rows for name in row["objects"]["mask"]}
    assert set(files_in(folder)) == listed | {"metadata.jsonl", "SHA256SUMS"}
    assert summary["lesions"] == sum(row["objects"]["look_alike"].count(False) for row in rows)
    assert summary["normal"] == sum(row["labels"] == [] for row in rows)
    assert summary["patients"] == len({row["patient_id"] for row in rows})


def test_three_looks_with_their_modes(folder, rows) -> None:
    modes = {"radiograph": "L", "ct": "L", "endoscopy": "RGB"}
    for row in rows:
        with Image.open(folder / row["file_name"]) as image:
            assert (image.mode, image.size) == (modes[row["modality"]], (96, 96))
        assert row["view"] == ("frontal" if row["modality"] == "radiograph" else None)
    assert all(sum(row["modality"] == look for row in rows) > 40 for look in modes)


def test_boxes_are_the_tightest_around_the_masks(folder, rows) -> None:
    for row in rows:
        for _, _, (x, y, width, height), mask in lesions_of(row, folder):
            assert set(np.unique(mask)) == {0, 255}
            assert Image.fromarray(mask).getbbox() == (x, y, x + width, y + height)


def test_one_to_four_lesions_and_labels_that_name_them(rows) -> None:
    counts = {len(named(row, "label")) for row in rows if row["labels"]}
    assert counts == {1, 2, 3, 4}
    for row in rows:
        assert sorted(row["labels"]) == sorted(set(named(row, "label")))


def test_text_gives_shape_term_size_and_place_of_every_lesion(folder, rows) -> None:
    for row in rows:
        sentences = re.split(r"[.:] ?", row["text"])
        for adjective, term, _, mask in lesions_of(row, folder):
            (sentence,) = [part for part in sentences if f"{adjective} {term}" in part.lower()]
            assert [" ".join(words) for words in PLACE.findall(sentence)] == [
                place_of(mask, mirrored=row["modality"] == "radiograph")
            ]
            # Small and large are apart by area: 1.5 and 2.5 percent of the image at the nearest.
            size = "small" if (mask > 0).mean() < 0.02 else "large"
            assert re.findall(r"\b(small|large)\b", sentence.lower()) == [size]
            for percent in PERCENT.findall(sentence):
                (shape,) = regionprops((mask > 0).astype(np.uint8))
                assert int(percent) == pytest.approx(100 * shape.feret_diameter_max / 96, abs=1.5)
        assert len(PLACE.findall(row["text"])) == len(named(row, "label"))
    assert any(PERCENT.search(row["text"]) for row in rows)


def test_left_on_a_radiograph_is_the_right_half_of_the_image(folder, rows) -> None:
    seen = {"radiograph": 0, "ct": 0, "endoscopy": 0}
    for row in rows:
        if len(named(row, "label")) == 1 and (word := re.search(r"\b(left|right) (?:upper|middle|lower)", row["text"])):
            x, _, width, _ = row["objects"]["bbox"][0]
            in_left_half = x + width / 2 < 48
            assert in_left_half == (word[1] == ("right" if row["modality"] == "radiograph" else "left"))
            seen[row["modality"]] += 1
    assert min(seen.values()) >= 4


def test_normal_images_say_so_and_have_no_lesion(rows) -> None:
    normal = [row for row in rows if row["labels"] == []]
    assert 0.08 < len(normal) / len(rows) < 0.23
    for row in normal:
        assert row["objects"] == {"bbox": [], "label": [], "adjective": [], "mask": [], "look_alike": []}
        assert re.search(r"\b(no|normal|neither|unremarkable|clear)\b", row["text"].lower())
        assert not PLACE.search(row["text"])
    assert len({row["text"] for row in normal}) >= 0.5 * len(normal)


def test_reports_are_distinct_and_short_enough_to_embed(rows) -> None:
    abnormal = [row["text"] for row in rows if row["labels"]]
    assert len(set(abnormal)) >= 0.8 * len(abnormal)
    assert max(len(text.split()) for text in abnormal) <= 80


def test_the_look_alike_stands_last_and_is_a_lesion_that_nothing_else_names(folder, rows) -> None:
    for row in rows:
        objects = row["objects"]
        assert objects["look_alike"] == ([False] * (len(objects["mask"]) - 1) + [True] if row["labels"] else [])
        if not row["labels"]:
            continue
        adjective, term = objects["adjective"][-1], objects["label"][-1]
        assert term in row["labels"]
        assert f"{adjective} {term}" not in row["text"].lower()
        mask = np.asarray(Image.open(folder / objects["mask"][-1]))
        x, y, width, height = objects["bbox"][-1]
        assert Image.fromarray(mask).getbbox() == (x, y, x + width, y + height)
        assert place_of(mask, row["view"] == "frontal") not in row["text"]
        assert not any((mask & other).any() for _, _, _, other in lesions_of(row, folder))


def test_attributes_are_the_traits_of_the_patient(rows) -> None:
    by_patient: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_patient.setdefault(row["patient_id"], []).append(row["attributes"])
        names = {"radiograph": {"inspiration", "heart"}, "ct": {"fat layer", "vessels"}}
        assert set(row["attributes"]) == names.get(row["modality"], {"lumen", "folds"})
    assert all(one == images[0] for images in by_patient.values() for one in images)
    hearts = [row["attributes"]["heart"] for row in rows if row["modality"] == "radiograph"]
    assert set(hearts) == {"slim", "broad"}
    # Reports name a trait in these words, among others, and never its opposite.
    for row in rows:
        if (heart := row["attributes"].get("heart")) and (said := re.search(r"heart is (\w+)", row["text"].lower())):
            assert said[1] == heart


def test_patients_have_one_to_three_images_of_one_look(rows) -> None:
    images: dict[str, list[str]] = {}
    for row in rows:
        images.setdefault(row["patient_id"], []).append(row["modality"])
    assert {len(looks) for looks in images.values()} == {1, 2, 3}
    assert all(len(set(looks)) == 1 for looks in images.values())


def test_answers_agree_with_the_annotations(folder, rows) -> None:
    ids = [question["question_id"] for row in rows for question in row["questions"]]
    assert len(ids) == len(set(ids))
    replies = {"yes": 0, "no": 0}
    for row in rows:
        lesions = lesions_of(row, folder)
        mirrored = row["modality"] == "radiograph"
        for asked in row["questions"]:
            question, answer = asked["question"], asked["answer"]
            if match := re.fullmatch(r"Is a (\w+) visible\?", question):
                assert answer == ("yes" if match[1] in row["labels"] else "no")
                replies[answer] += 1
            elif question == "Is there any lesion?":
                assert answer == ("yes" if lesions else "no")
            elif match := re.fullmatch(r"In which zone is the (\w+) (\w+)\?", question):
                assert [answer] == [place_of(m, mirrored) for a, t, _, m in lesions if (a, t) == match.groups()]
            elif match := re.fullmatch(r"What shape is the (\w+) in the (\w+ \w+) zone\?", question):
                assert [answer] == [a for a, t, _, m in lesions if (t, place_of(m, mirrored)) == match.groups()]
            elif match := re.fullmatch(r"Is the (\w+) (\w+) small or large\?", question):
                (mask,) = [m for a, t, _, m in lesions if (a, t) == match.groups()]
                assert answer == ("small" if (mask > 0).mean() < 0.02 else "large")
            else:
                assert question == "What kind of image is this?"
                assert {"radiograph": "radiograph", "ct": "CT", "endoscopy": "endoscopic"}[row["modality"]] in answer
            assert asked["answer_type"] == ("closed" if question.startswith("Is ") else "open")
    assert min(replies.values()) > 60


def test_same_bytes_twice_and_other_bytes_for_another_seed(tmp_path) -> None:
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        run(config(images=24, seed=seed), tmp_path / name, tmp_path)
    one, again, other = (files_in(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again
    assert one["images/000000.png"] != other["images/000000.png"]


def test_images_reports_boxes_masks_and_answers_are_those_of_earlier_releases(tmp_path) -> None:
    folder = tmp_path / "raw"
    run(config(images=24), folder, tmp_path)
    digest = hashlib.sha256()
    for row in rows_in(folder):
        columns = ("bbox", "label", "adjective", "mask")
        values = {name: value for name, value in row.items() if name != "attributes"}
        values["objects"] = {column: named(row, column) for column in columns}
        digest.update(json.dumps(values, ensure_ascii=False).encode() + b"\n")
        for name in (row["file_name"], *values["objects"]["mask"]):
            digest.update(Image.open(folder / name).tobytes())
    assert digest.hexdigest() == "79e4d8c9e383460d8ec920ccd5b8a446b59d95d0a28868e4f494fc3562510442"


def test_an_image_does_not_depend_on_how_many_are_drawn(folder, rows, tmp_path) -> None:
    run(config(images=23), tmp_path / "few", tmp_path)
    assert rows_in(tmp_path / "few") == rows[:23]
    few, many = files_in(tmp_path / "few"), files_in(folder)
    del few["metadata.jsonl"], few["SHA256SUMS"]
    assert len(few) > 23
    assert all(many[name] == content for name, content in few.items())


def test_the_folder_is_replaced_whole(tmp_path) -> None:
    run(config(images=5), tmp_path / "raw", tmp_path)
    run(config(images=2), tmp_path / "raw", tmp_path)
    assert sorted(path.name for path in (tmp_path / "raw/images").iterdir()) == ["000000.png", "000001.png"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": 0}, "images is 0"),
        ({"size": 32}, "at least 64"),
        ({"seed": -1}, "cannot be negative"),
        ({"images_per_patient": [3, 1]}, "fewest <= most"),
        ({"normal_fraction": 1.5}, "between 0 and 1"),
        ({"contrast": 0.0}, "contrast is 0.0"),
        ({"normal_fractions": 0.1}, "did you mean 'normal_fraction'"),
    ],
)
def test_mistakes_in_params_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        config(**changes)


def test_the_command_line(tmp_path) -> None:
    command = [sys.executable, "-m", "pipelines.phantom"]
    write_fingerprint(tmp_path, "phantom", "pipelines.phantom")
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    ingest = {"max_pixels": 10000, "sources": {"phantom": {"adapter": "table", "root": "data/raw/phantom"}}}
    params = {"phantom": {**PARAMS, "images": 3}, "ingest": ingest}
    (tmp_path / "params.yaml").write_text(json.dumps(params), encoding="utf-8")
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert len(rows_in(tmp_path / "data/raw/phantom")) == 3
    assert json.loads((tmp_path / "data/summaries/phantom.json").read_text())["ok"] == 3
    (tmp_path / "params.yaml").write_text("phantom: {image: 3}", encoding="utf-8")
    failed = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr == "error: params.yaml: phantom.image: unknown key; did you mean 'images'?\n"
