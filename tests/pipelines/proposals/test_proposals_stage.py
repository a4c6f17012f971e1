"""The stage on small folders of real files."""

import contextlib
import dataclasses
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.geometry import mask_iou
from pipelines.masks import decode
from pipelines.proposals.plan import plan
from pipelines.proposals.stage import main
from tests.pipelines.proposals.proposals_world import (
    CONFIG,
    FIRST,
    SECOND,
    SIDE,
    Plain,
    World,
    image_id,
    of,
    square,
)


def test_every_proposer_stands_beside_the_annotations(world: World) -> None:
    items = {split: world.image(split) for split in ("train", "validation", "test")}
    bare = world.image("train")
    for item in items.values():
        world.box(item, *FIRST, label="nodule", adjective="round", phrase="A nodule.")
    summary, rows = world.run()
    for item in items.values():
        of_item = [row for row in rows if row.image_id == item]
        assert [row.n for row in of_item] == list(range(len(of_item)))
        (truth,) = of(rows, item, "annotations")
        assert (truth.label, truth.adjective, truth.score, truth.truth_iou) == ("nodule", "round", 1, 1)
        assert truth.phrase == "A nodule."
        assert truth.sees_annotations
        assert of_item[-1] == truth
        found = of(rows, item, "saliency")
        assert [row.score for row in found] == sorted((row.score for row in found), reverse=True)
        assert all(row.label is None and row.phrase is None and not row.sees_annotations for row in found)
        assert max(row.truth_iou for row in found) > 0.5
    assert {row.proposer for row in rows if row.image_id == bare} == {"saliency"}
    assert {row.truth_iou for row in rows if row.image_id == bare} == {None}
    assert summary["inputs"] == summary["ok"] == 4
    counts = summary["proposals"]["toy"]
    assert sum(count["proposed"] for count in counts.values()) == len(rows)
    assert counts["annotations"] == {"proposed": 3, "masks": 1, "reasons": {}}


def test_slices_of_a_volume_stand_together_and_other_images_as_they_did(world: World, tmp_path: Path) -> None:
    world.image("train")
    (image,) = world.images
    slices = [
        dataclasses.replace(image, image_id=image_id(n), path=f"v{n % 2}.nii", frame=n // 2, width=32) for n in range(6)
    ]
    files = [dataclasses.replace(image, image_id=image_id(n), path=f"{9 - n}.png") for n in range(6, 9)]
    items = plan(((row, []) for row in [*slices, *files]), CONFIG, tmp_path)
    planned = [item.image for item in items]
    assert [image_id(n) for n in items.order] == [row.image_id for row in planned]
    assert [(row.path, row.frame) for row in planned[:6]] == [(f"v{v}.nii", n) for v in (0, 1) for n in (0, 1, 2)]
    assert [row.image_id for row in planned[6:]] == [image_id(n) for n in (6, 7, 8)]


def test_a_phrase_goes_with_each_part_of_its_annotation_and_not_into_the_result_cache(world: World) -> None:
    item = world.image("train")
    world.mask(item, square(*FIRST) | square(*SECOND), phrase="Two of them.")
    world.box(item, *FIRST, phrase="The first.")
    world.box(item, *SECOND)
    for _ in range(2):
        # The second time the masks of the boxes come out of the result cache.
        summary, rows = world.run()
        assert [row.phrase for row in of(rows, item, "annotations")] == [
            "Two of them.",
            "Two of them.",
            "The first.",
            None,
        ]
        assert all(row.mask is not None for row in of(rows, item, "annotations"))
    assert summary["reused"]["annotations"] == 1
    assert "adjective" in _answers_in(world.cache)
    assert "The first" not in _answers_in(world.cache)
    world.annotations[1] = dataclasses.replace(world.annotations[1], phrase="Another sentence.")
    _, rows = world.run()
    assert [row.phrase for row in of(rows, item, "annotations")][2] == "Another sentence."


def _answers_in(cache: Path) -> str:
    with contextlib.closing(sqlite3.connect(cache)) as connection:
        return "\n".join(connection.iterdump())


def test_without_a_proposer_the_annotations_stand_alone(world: World) -> None:
    world.box(world.image("train"), *FIRST)
    world.image("test")
    summary, rows = world.run(proposers=[])
    assert [row.proposer for row in rows] == ["annotations"]
    assert summary["inputs"] == summary["ok"] == 2


def test_boxes_get_a_mask_where_a_method_may_see_them_and_none_where_they_judge(world: World) -> None:
    for split in ("train", "test"):
        world.box(world.image(split), *FIRST)
    _, rows = world.run()
    train, test = of(rows, image_id(0), "annotations") + of(rows, image_id(1), "annotations")
    assert (test.mask, test.segmenter, test.mask_quality) == (None, None, None)
    assert train.segmenter == "threshold"
    assert mask_iou(decode(train.mask, SIDE, SIDE), square(*FIRST)) > 0.8
    assert train.truth_iou == 1


def test_proposals_of_judged_images_ignore_annotations_labels_and_reports(tmp_path: Path) -> None:
    found = []
    for name in ("with", "without"):
        world = World(tmp_path / name)
        known = {"labels": ("mass",), "report": "A mass."} if name == "with" else {}
        item = world.image("test", **known)
        if name == "with":
            world.box(item, 1, 1, 60, 60, label="mass")
        _, rows = world.run(terms=["mass"])
        found.append([dataclasses.replace(row, truth_iou=None) for row in of(rows, item, "saliency")])
    assert found[0] == found[1] != []


def test_saliency_finds_the_squares_with_masks(world: World) -> None:
    world.image("test")
    _, rows = world.run()
    for corners in (FIRST, SECOND):
        masks = [decode(row.mask, SIDE, SIDE) for row in rows if row.mask]
        assert max(mask_iou(mask, square(*corners)) for mask in masks) > 0.8
    assert {row.segmenter for row in rows if row.reason is None} == {"threshold"}
    assert all(0 < row.mask_stability <= 1 and 0 < row.box_agreement <= 1 for row in rows if row.mask)


def test_annotated_mask_is_kept_exactly_and_truth_is_measured_against_it(world: World) -> None:
    item = world.image("train")
    values = np.zeros((SIDE, SIDE))
    values[10:22, 10:22], values[40:50, 20:50] = 2, 1
    world.mask(item, values == 2, label="cyst")
    _, rows = world.run()
    (row,) = of(rows, item, "annotations")
    assert np.array_equal(decode(row.mask, SIDE, SIDE), values == 2)
    assert (row.area, row.area_fraction) == (144, 144 / SIDE**2)
    assert row.box == FIRST
    assert (row.segmenter, row.score, row.label, row.box_agreement) == (None, 1.0, "cyst", 1.0)
    for found in of(rows, item, "saliency"):
        if found.mask:
            assert found.truth_iou == pytest.approx(mask_iou(decode(found.mask, SIDE, SIDE), values == 2))
    assert max(found.truth_iou for found in of(rows, item, "saliency")) > 0.8


def test_mask_of_the_whole_image_has_no_label_and_a_region_for_each_component(world: World) -> None:
    mask = square(5, 5, 15, 15) | square(20, 40, 50, 50)
    world.mask(world.image("train", mask_path="m.png", labels=("infection",)), mask)
    _, rows = world.run()
    assert [(row.label, row.area) for row in of(rows, image_id(0), "annotations")] == [(None, 100), (None, 300)]


@pytest.mark.parametrize("known", [{"labels": ()}, {"mask_path": "m.png"}, {"labels": ("mass",)}])
def test_truth_of_an_image_without_regions(world: World, known: dict[str, Any]) -> None:
    """Every proposal is wrong where somebody looked and marked nothing, and unknown where nobody looked."""
    item = world.image("validation", **known)
    if "mask_path" in known:
        world.mask(item, np.zeros((SIDE, SIDE), dtype=bool))
    _, rows = world.run()
    assert {row.truth_iou for row in rows} == ({None} if known.get("labels") else {0.0})


def test_labelled_images_of_each_modality_bound_the_proposers(world: World) -> None:
    modalities = ("radiograph", "ct", "radiograph", "radiograph", "ct")
    for modality in modalities:
        world.box(world.image("train", modality=modality), *FIRST)
    world.image("train", labels=())
    bare, judged = world.image("train"), world.image("validation", labels=())
    _, rows = world.run(labelled_images=2)
    seen = {row.image_id for row in rows if row.proposer == "saliency"}
    assert seen == {image_id(n) for n in (0, 1, 2, 4)} | {bare, judged}
    assert {row.image_id for row in rows if row.proposer == "annotations"} == {image_id(n) for n in range(5)}


def test_proposals_beyond_the_most_keep_their_box(world: World) -> None:
    item = world.image("test")
    _, rows = world.run(max_proposals=1)
    best, *rest = of(rows, item, "saliency")
    assert best.mask is not None
    assert rest
    for row in rest:
        assert (row.mask, row.segmenter, row.reason) == (None, None, "beyond_max_proposals")
        assert row.area == round((row.x1 - row.x0) * (row.y1 - row.y0)) > 0


def test_annotated_boxes_are_clipped_and_refused_outside(world: World) -> None:
    item = world.image("train")
    world.box(item, 40, 40, 90, 90)
    world.box(item, 70, 70, 90, 90)
    _, rows = world.run()
    assert [(row.box, row.reason) for row in of(rows, item, "annotations")] == [
        ((40, 40, 64, 64), None),
        ((64, 64, 64, 64), "box_outside"),
    ]


def test_phrases_are_asked_in_batches_of_one_prompt_and_marked(world: World, plain: type[Plain]) -> None:
    for split, labels in (
        ("train", ("Mass",)),
        ("test", ("Mass",)),
        ("train", None),
        ("train", ("Mass", "opacity")),
    ):
        world.image(split, labels=labels)
    _, rows = world.run(proposers=["plain", "saliency"], batch_size=2)
    assert plain.calls == [[("opacity",)] * 2, [("opacity", "Mass")] * 2]
    own = {(row.proposer, row.image_id): row.own_phrases for row in rows}
    assert [own["plain", image_id(n)] for n in range(4)] == [True, False, False, True]
    assert not any(own["saliency", image_id(n)] for n in range(4))
    summary, _ = world.run(proposers=["plain", "saliency"], phrases={"radiograph": ["opacity", "mass"]})
    assert summary["answered"] == {"plain": 4}


def test_command_line_reads_params(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:

    world.image("test")
    world.run()
    params = {"proposals": dataclasses.asdict(CONFIG), "workers": {"processes": "all"}}
    params["ingest"] = {
        "max_pixels": 1000000,
        "max_failed_fraction": 0,
        "sources": {"toy": {"adapter": "table", "root": str(world.root)}},
    }
    (tmp_path / "params.yaml").write_text(json.dumps(params))
    (tmp_path / "data").mkdir()
    os.rename(world.split, tmp_path / "data" / "split")
    monkeypatch.chdir(tmp_path)
    main()
    assert (tmp_path / "data" / "proposals" / "proposals.parquet").read_bytes() == world.output.read_bytes()
    assert (tmp_path / "data" / "cache" / "results.sqlite").is_file()
    assert json.loads((tmp_path / "data" / "summaries" / "proposals.json").read_text())["ok"] == 1
