"""The stage on small folders of real files."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import UserError
from pipelines.masks import decode
from pipelines.records import GIVEN_REGIONS, REGIONS, SPLIT_IMAGES, rows_of
from pipelines.regions.checks import clip, fault
from pipelines.regions.config import RegionsConfig
from pipelines.regions.stage import run
from pipelines.registry import PLUGINS

CONFIG = RegionsConfig(
    train="annotations",
    evaluation="saliency",
    segmenter="threshold",
    min_score=0.05,
    min_side=4,
    min_area_share=0.001,
    max_area_share=0.5,
    max_regions=3,
    min_mask_quality=0.5,
    max_failed_share=0.5,
    workers=1,
)
SIDE = 64


def image_id(n: int) -> str:
    return f"{n:016x}"


class World:
    """A source's folder with its split tables."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "raw"
        self.split = folder / "split"
        self.output = folder / "regions.parquet"
        self.summaries = folder / "summaries"
        self.root.mkdir(parents=True)
        self.images: list[dict[str, Any]] = []
        self.given: list[dict[str, Any]] = []

    def image(self, split: str, **columns: Any) -> str:
        """A grey picture with two bright squares, 12 and 16 pixels wide."""
        n = len(self.images)
        values = np.full((SIDE, SIDE), 100, dtype=np.uint8)
        values[10:22, 10:22] = 180
        values[36:52, 34:50] = 180
        Image.fromarray(values).save(self.root / f"{n}.png")
        row = {
            "image_id": image_id(n),
            "source": "toy",
            "path": f"{n}.png",
            "sha256": "0" * 64,
            "pixel_sha256": "0" * 64,
            "perceptual_hash": "0" * 64,
            "width": SIDE,
            "height": SIDE,
            "modality": "radiograph",
            "split_conflict": False,
            "rows": 1,
            "group": str(n),
            "split": split,
            "leak": False,
        }
        self.images.append(row | columns)
        return image_id(n)

    def annotate(self, item: str, **columns: Any) -> None:
        n = sum(row["image_id"] == item for row in self.given)
        self.given.append({"image_id": item, "source": "toy", "n": n, **columns})

    def box(self, item: str, x0: float, y0: float, x1: float, y1: float, **columns: Any) -> None:
        self.annotate(item, x0=x0, y0=y0, x1=x1, y1=y1, **columns)

    def mask(self, name: str, values: np.ndarray) -> str:
        Image.fromarray(values.astype(np.uint8)).save(self.root / name)
        return name

    def run(self, **changes: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        SPLIT_IMAGES.write(SPLIT_IMAGES.frame(self.images), self.split / "images.parquet")
        GIVEN_REGIONS.write(GIVEN_REGIONS.frame(self.given), self.split / "regions.parquet")
        config = dataclasses.replace(CONFIG, **changes)
        summary = run(config, {"toy": self.root}, self.split, self.output, self.summaries)
        return summary, rows_of(REGIONS.read(self.output))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_roles(world: World) -> None:
    train, bare = world.image("train"), world.image("train")
    test, validation = world.image("test"), world.image("validation")
    for item in (train, test, validation):
        world.box(item, 8, 8, 24, 24, label="nodule", adjective="round")
    summary, rows = world.run()
    kinds = {
        item: [(row["role"], row["proposer"]) for row in rows if row["image_id"] == item] for item in (train, bare)
    }
    assert kinds[train] == [("input", "annotations")]
    assert set(kinds[bare]) == {("input", "saliency")}
    for item in (test, validation):
        of_item = [row for row in rows if row["image_id"] == item]
        truth = [row for row in of_item if row["role"] == "truth"]
        assert [(row["proposer"], row["label"], row["mask"]) for row in truth] == [("annotations", "nodule", None)]
        assert {row["proposer"] for row in of_item if row["role"] == "input"} == {"saliency"}
        assert [row["n"] for row in of_item] == list(range(len(of_item)))
        assert of_item[-1]["role"] == "truth"
        assert all(row["label"] is None for row in of_item if row["role"] == "input")
    assert summary["inputs"] == summary["ok"] == 4
    counts = summary["regions"]["toy"]
    assert sum(count["proposed"] for count in counts.values()) == len(rows)
    assert all(count["proposed"] == count["accepted"] + count["rejected"] for count in counts.values())
    assert counts["truth"] == {"proposed": 2, "accepted": 2, "rejected": 0, "reasons": {}}


def test_input_regions_of_judged_images_ignore_annotations(tmp_path: Path) -> None:
    inputs = []
    for name in ("with", "without"):
        world = World(tmp_path / name)
        item = world.image("test")
        if name == "with":
            world.box(item, 1, 1, 60, 60, label="mass")
        _, rows = world.run()
        inputs.append([row for row in rows if row["role"] == "input"])
    assert inputs[0] == inputs[1] != []


def test_saliency_finds_the_squares_with_masks(world: World) -> None:
    world.image("test")
    _, rows = world.run()
    accepted = [row for row in rows if row["status"] == "accepted"]
    for x0, y0, x1, y1 in ((10, 10, 22, 22), (34, 36, 50, 52)):
        truth = np.zeros((SIDE, SIDE), dtype=bool)
        truth[y0:y1, x0:x1] = True
        found = [decode(row["mask"], SIDE, SIDE) for row in accepted if row["mask"]]
        assert max((mask & truth).sum() / (mask | truth).sum() for mask in found) > 0.8
    assert {row["segmenter"] for row in accepted} == {"threshold"}
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)


def test_annotated_mask_is_kept_exactly(world: World) -> None:
    item = world.image("train")
    values = np.zeros((SIDE, SIDE))
    values[5:15, 5:15], values[40:50, 20:50] = 1, 2
    world.annotate(item, label="cyst", mask_path=world.mask("m.png", values), mask_value=2)
    _, (row,) = world.run()
    assert np.array_equal(decode(row["mask"], SIDE, SIDE), values == 2)
    assert (row["area"], row["area_share"]) == (300, 300 / SIDE**2)
    assert (row["x0"], row["y0"], row["x1"], row["y1"]) == (20, 40, 50, 50)
    assert (row["segmenter"], row["score"], row["label"]) == (None, 1.0, "cyst")


def test_mask_of_the_whole_image_has_no_label(world: World) -> None:
    values = np.zeros((SIDE, SIDE))
    values[5:15, 5:15] = values[40:50, 20:50] = 255
    world.image("train", mask_path=world.mask("m.png", values), labels=["infection"])
    _, rows = world.run()
    assert [(row["label"], row["area"]) for row in rows] == [(None, 300), (None, 100)]


def test_empty_mask_leaves_the_image_to_the_proposer(world: World) -> None:
    world.image("train", mask_path=world.mask("m.png", np.zeros((SIDE, SIDE))), labels=[])
    summary, rows = world.run()
    assert rows == []
    assert summary["no_input_region"] == {"toy": 1}


def test_reasons(world: World) -> None:
    item = world.image("train")
    world.box(item, 10, 10, 12, 40)  # too narrow
    world.box(item, 0, 0, 64, 60)  # too large
    world.box(item, 70, 70, 90, 90)  # outside
    world.box(item, 40, 40, 90, 90)  # clipped to 24 x 24
    for x in (0, 10, 20):
        world.box(item, x, 0, x + 10, 10)
    _, rows = world.run()
    reasons = {(row["x0"], row["y0"], row["x1"], row["y1"]): row["reason"] for row in rows}
    assert reasons[10, 10, 12, 40] == "too_small"
    assert reasons[0, 0, 64, 60] == "too_large"
    assert reasons[40, 40, 64, 64] is None
    assert sorted(str(row["reason"]) for row in rows) == sorted(
        ["too_small", "too_large", "box_outside", "beyond_max_regions", "None", "None", "None"]
    )
    assert all((row["reason"] is None) == (row["status"] == "accepted") for row in rows)


def test_truth_is_kept_whatever_its_extent(world: World) -> None:
    item = world.image("test")
    world.box(item, 0, 0, 64, 64)
    for _ in range(5):
        world.box(item, 10, 10, 20, 20)
    world.box(item, 10, 10, 11, 11)
    _, rows = world.run()
    truth = [row["reason"] for row in rows if row["role"] == "truth"]
    assert truth == [None] * 6 + ["too_small"]


@pytest.mark.parametrize(
    ("box", "reason"),
    [((math.nan, 0, 5, 5), "box_not_finite"), ((0, 0, math.inf, 5), "box_not_finite"), ((5, 5, 5, 9), "box_outside"),
     ((9, 5, 5, 9), "box_outside"), ((-9, 0, 0, 9), "box_outside"), ((-3, 2, 4, 99), None)],
)  # fmt: skip
def test_clip(box: tuple[float, float, float, float], reason: str | None) -> None:
    clipped, found = clip(box, 10, 20)
    assert found == reason
    assert 0 <= clipped[0] <= clipped[2] <= 10
    assert 0 <= clipped[1] <= clipped[3] <= 20
    if reason is None:
        assert clipped == (0, 2, 4, 20)


def test_limits_of_proposals() -> None:
    row = {"x0": 0.0, "y0": 10.0, "x1": 10.0, "y1": 20.0, "area_share": 0.02, "score": 0.9, "role": "input"}
    assert fault(row, 64, 64, annotated=False, config=CONFIG) == "touches_border"
    assert fault(row, 64, 64, annotated=True, config=CONFIG) is None
    assert fault({**row, "x0": 1.0}, 64, 64, annotated=False, config=CONFIG) is None
    assert fault({**row, "x0": 1.0, "x1": 64.0}, 64, 64, annotated=False, config=CONFIG) == "touches_border"
    assert fault({**row, "score": 0.04}, 64, 64, annotated=True, config=CONFIG) == "low_score"


def test_low_quality_leaves_the_box(world: World) -> None:
    world.image("test")
    summary, rows = world.run(min_mask_quality=1.0)
    bare = [row for row in rows if row["status"] == "accepted" and row["mask"] is None]
    assert bare
    assert summary["masks_below_quality"] >= len(bare)
    assert all(row["area"] == round((row["x1"] - row["x0"]) * (row["y1"] - row["y0"])) for row in bare)


def test_images_that_cannot_be_read_are_counted(world: World) -> None:
    ids = [world.image("train") for _ in range(6)]
    (world.root / "0.png").unlink()
    (world.root / "1.png").write_bytes(b"not a picture")
    Image.new("L", (10, 10)).save(world.root / "2.png")
    world.annotate(ids[3], mask_path="absent.png")
    world.annotate(ids[4], mask_path=world.mask("small.png", np.ones((9, 9))))
    summary, rows = world.run(max_failed_share=1.0)
    assert summary["failed"] == 5
    assert summary["ok"] == 1
    assert summary["reasons"]["failed"] == {
        "missing_file": 1,
        "unsupported_type": 1,
        "size_changed": 1,
        "mask_missing_file": 1,
        "mask_size_differs": 1,
    }
    assert {row["image_id"] for row in rows} == {ids[5]}
    with pytest.raises(UserError, match="max_failed_share"):
        world.run()


def test_processes_do_not_change_a_byte(world: World) -> None:
    for split in ("train", "test", "validation") * 3:
        world.box(world.image(split), 8, 8, 24, 24)
    world.run()
    one = world.output.read_bytes()
    world.run()
    assert world.output.read_bytes() == one
    world.run(workers=2)
    assert world.output.read_bytes() == one


def test_mistakes_of_the_user(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.image("test")
    with pytest.raises(UserError, match="never sees them"):
        world.run(evaluation="annotations")
    with pytest.raises(UserError, match="choose from annotations, saliency"):
        world.run(evaluation="salience")
    with pytest.raises(UserError, match="salience"):
        world.run(options={"salience": {}})
    with pytest.raises(UserError, match=r"regions\.options\.saliency\.scale: unknown key"):
        world.run(options={"saliency": {"scale": 1}})
    world.images[0]["source"] = "elsewhere"
    with pytest.raises(UserError, match="elsewhere"):
        world.run()
    with pytest.raises(ValueError, match="min_area_share"):
        dataclasses.replace(CONFIG, min_area_share=0.6)


class Broken:
    """A proposer from outside whose boxes and scores are no numbers."""

    sees_annotations = False

    def __init__(self, options: dict[str, Any]) -> None:
        pass

    def propose(self, image: Image.Image, query: Any) -> list[Any]:
        from pipelines.regions.protocols import Proposal

        assert query.given == ()
        box = (10.0, 10.0, 30.0, 30.0)
        return [Proposal(box=(math.nan, 0.0, 5.0, 5.0), score=0.5), Proposal(box=box, score=math.nan)]


def test_bad_answers_of_a_plug_in_are_rejected_not_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLUGINS["proposers"], "broken", f"{__name__}:Broken")
    world.box(world.image("test"), 8, 8, 24, 24)
    _, rows = world.run(evaluation="broken")
    assert [(row["role"], row["reason"]) for row in rows] == [
        ("input", "box_not_finite"),
        ("input", "score_not_finite"),
        ("truth", None),
    ]
