"""Exports through the own code of the tools: label-studio-sdk's validation, Datumaro's reader and writer of COCO."""

import json
import shutil
import subprocess
import tomllib
import venv
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.verified import sha256_file
from pipelines.records import REGIONS, SPLIT_IMAGES
from pipelines.regions import review_labels
from pipelines.regions.annotation_tools import shown_images
from pipelines.regions.review import export_regions, import_labels
from pipelines.regions.review_labels import ReviewLabel
from pipelines.sources import Sources
from tests.pipelines.regions.small_world import SIDE, World, square

pytestmark = pytest.mark.slow

LABELS = ["nodule", None, 'ground "glass" <&> é']
BOXES = [(4.0, 4.0, 20.0, 20.0), (30.5, 6.25, 50.0, 22.0), (8.0, 36.0, 28.0, 60.0)]


@pytest.fixture(scope="module")
def tools(repository: Path) -> Path:
    """The interpreter of `.review-tools`, made here where it is absent: 40 s, 700 MB."""
    folder = repository / ".review-tools"
    python = folder / "bin/python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        groups = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *groups["review-tools"]], check=True)
        (folder / "ready").touch()
    return python


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The export of two images with three accepted regions each, of which the first has a mask."""
    world = World(tmp_path)
    raw = tmp_path / "raw" / "a b#1&x.png"
    raw.parent.mkdir()
    Image.new("L", (SIDE, SIDE), 99).save(raw)
    for number in range(2):
        image = world.image("train", sha256=sha256_file(raw), path=raw.name)
        for box, label in zip(BOXES, LABELS, strict=True):
            mask = square(7, 8, 18, 20) if box == BOXES[0] else None
            world.propose(image, *box, label=label, mask=mask, score=0.9 - number / 10)
    world.run()
    sources = Sources(roots={"toy": raw.parent}, max_pixels=10_000)
    export_regions(world.split_file, world.regions_file, sources, tmp_path / "out")
    return tmp_path / "out"


def run(tools: Path, repository: Path, script: str, *arguments: Path | str) -> str:
    command = [tools, repository / "tests" / "review_tools" / f"{script}.py", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def imported(tmp_path: Path, file: Path) -> list[ReviewLabel]:
    tables = SPLIT_IMAGES.read(tmp_path / "images.parquet"), REGIONS.read(tmp_path / "regions.parquet")
    import_labels(file, shown_images(*tables), tmp_path / "review.jsonl")
    return review_labels.read(tmp_path / "review.jsonl")


def decided(labels: list[ReviewLabel]) -> list[tuple[Any, ...]]:
    return sorted((label.image_id, label.decision, label.box) for label in labels)


ALL_ACCEPTED = sorted((str(number).zfill(16), "accepted", box) for number in range(2) for box in BOXES)


def test_label_studios_own_validation_finds_no_fault(tools: Path, repository: Path, out: Path, tmp_path: Path) -> None:
    assert json.loads(run(tools, repository, "check_label_studio", out)) == []
    done = [
        {"data": task["data"], "annotations": [{"result": task["predictions"][0]["result"]}]}
        for task in json.loads((out / "label_studio.json").read_text())
    ]
    (tmp_path / "back.json").write_text(json.dumps(done))
    assert decided(imported(tmp_path, tmp_path / "back.json")) == ALL_ACCEPTED
    xml = out / "label_studio.xml"
    xml.write_text(xml.read_text().replace('    <Label value="nodule"/>\n', ""))
    faults = json.loads(run(tools, repository, "check_label_studio", out))
    assert len(faults) == 2, "the validation looks at the labels"
    assert all("nodule" in fault for fault in faults)


def test_coco_comes_through_datumaro(tools: Path, repository: Path, out: Path, tmp_path: Path) -> None:
    folder = tmp_path / "as_datumaro_wants_it"
    (folder / "annotations").mkdir(parents=True)
    shutil.copy(out / "coco.json", folder / "annotations" / "instances_default.json")
    shutil.copytree(out / "images", folder / "images")
    back = Path("annotations/instances_default.json")
    for decision in ("accepted", ""):
        run(tools, repository, "through_datumaro", folder, tmp_path / f"back{decision}", decision)
        data = json.loads((tmp_path / f"back{decision}" / back).read_text())
        assert len(data["annotations"]) == 6
        assert ["attributes" in annotation for annotation in data["annotations"]] == [bool(decision)] * 6
    assert imported(tmp_path, tmp_path / "back" / back) == [], "a box that nobody touched is not drawn"
    assert decided(imported(tmp_path, tmp_path / "backaccepted" / back)) == ALL_ACCEPTED
