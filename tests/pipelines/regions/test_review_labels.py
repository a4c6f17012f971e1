"""Review labels in the stage: which regions they decide, what they are learnt from, and which have no effect."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.regions.small_world import CONFIG, World, study


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def review_file(world: World, *lines: dict[str, Any]) -> Path:
    file = world.split_file.parent / "review.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def label(image_id: str, decision: str, *box: float) -> dict[str, Any]:
    return {"image_id": image_id, "decision": decision, **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))}


def test_review_labels_without_effect_are_counted_by_reason(world: World) -> None:
    train, test = world.image("train"), world.image("test")
    for image in (train, test):
        world.propose(image, 10, 10, 30, 30)
        world.propose(image, 40, 40, 60, 60)
    file = review_file(
        world,
        label("f" * 16, "accepted", 10, 10, 30, 30),
        label(train, "accepted", 10, 10, 24, 24),
        label(train, "accepted", 40, 40, 60, 60),
        label(train, "rejected", 40, 40, 60, 60.5),
        label(test, "drawn", 32, 10, 50, 30),
        label(test, "rejected", 10.2, 10, 30, 30),
        label(train, "drawn", 10, 32, 11, 33),
    )
    summary, rows = world.run(review=file)
    assert summary["review"]["unused"] == {
        "drawn_on_evaluation_image": 1,
        "no_such_region": 1,
        "reviewers_disagree": 2,
        "unknown_image": 1,
    }
    assert summary["inputs"] == len(rows) + 5
    assert summary["reasons"]["rejected"] == {
        "rejected_in_review": 1,
        "review_drawn_on_evaluation_image": 1,
        "review_no_such_region": 1,
        "review_reviewers_disagree": 2,
        "review_unknown_image": 1,
        "too_small": 1,
    }
    assert [(row.proposer, row.reason) for row in rows if row.image_id == train] == [
        ("review", "too_small"),
        ("saliency", None),
        ("saliency", None),
    ]


def test_reviewed_test_image_follows_the_review_and_leaves_all_others_unchanged(tmp_path: Path) -> None:
    world = study(tmp_path)
    ids = [image.image_id for image in world.images if image.split == "test"][:2]
    proposals = {(row.image_id, row.n): row for row in world.proposals}
    wrong, correct = proposals[ids[0], 2], proposals[ids[1], 1]
    file = review_file(
        world,
        label(ids[0], "accepted", *wrong.box),
        label(ids[1], "rejected", *correct.box),
    )
    before, unreviewed = world.run()
    after, rows = world.run(review=file)
    inputs = {(row.image_id, row.x0): row for row in rows if row.role == "input"}
    accepted, rejected = inputs[ids[0], wrong.x0], inputs[ids[1], correct.x0]
    assert (accepted.status, accepted.review, accepted.certified) == ("accepted", "accepted", False)
    assert (rejected.reason, rejected.review, rejected.certified) == ("rejected_in_review", "rejected", False)
    assert after["risk_control"]["radiograph"]["test"] == before["risk_control"]["radiograph"]["test"]
    others = [row for row in rows if row.image_id not in ids]
    assert others == [row for row in unreviewed if row.image_id not in ids], "review labels on test images fit nothing"


def test_a_patient_whose_best_region_is_rejected_has_no_certified_one(tmp_path: Path) -> None:
    world = study(tmp_path)
    first, second = [image.image_id for image in world.images if image.split == "test"][:2]
    world.images = [
        replace(image, group="one") if image.image_id in (first, second) else image for image in world.images
    ]
    control = replace(CONFIG.risk_control, quantity="patient_best")
    _, rows = world.run(risk_control=control)
    (best,) = [row for row in rows if row.image_id in (first, second) and row.certified]
    file = review_file(world, label(best.image_id, "rejected", best.x0, best.y0, best.x1, best.y1))
    _, rows = world.run(risk_control=control, review=file)
    assert not any(row.certified for row in rows if row.image_id in (first, second))
    assert any(row.status == "accepted" and row.role == "input" for row in rows if row.image_id in (first, second))


def test_rejections_on_unannotated_training_images_reach_the_fit(tmp_path: Path) -> None:
    world = study(tmp_path)
    unannotated = [row for row in world.proposals if row.truth_iou is None]
    file = review_file(
        world,
        *(label(row.image_id, "rejected", *row.box) for row in unannotated),
    )
    before, _ = world.run()
    after, rows = world.run(review=file)
    models = [summary["self_training"][0]["models"]["radiograph"] for summary in (before, after)]
    assert models[1]["images"] == models[0]["images"] + 20
    assert models[1]["correct"] == models[0]["correct"]
    certified = {row.image_id for row in rows if row.certified}
    assert not certified & {row.image_id for row in unannotated}
