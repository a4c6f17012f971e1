"""The stage on tables made by hand: roles, reasons, verdicts, and what the truth may change."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UserError
from pipelines.regions.config import PromiseConfig, RoundsConfig
from tests.pipelines.regions.small_world import CONFIG, Row, World, image_id, square


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def study(folder: Path) -> World:
    """A small study with everything: annotated and bare training images, validation, test."""
    world = World(folder)
    world.crowd("train", 40, seed=0)
    world.crowd("train", 20, seed=1, truth=False)
    world.crowd("validation", 60, seed=2)
    world.crowd("test", 40, seed=3)
    return world


def of_split(world: World, rows: list[Row], split: str, role: str = "input") -> list[Row]:
    items = {image["image_id"] for image in world.images if image["split"] == split}
    return [row for row in rows if row["image_id"] in items and row["role"] == role]


def without(rows: list[Row], *columns: str) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in columns} for row in rows]


def test_roles(world: World) -> None:
    train, bare = world.image("train"), world.image("train")
    test, validation = world.image("test"), world.image("validation")
    for item in (train, test, validation):
        world.annotate(item, 8, 8, 24, 24, label="nodule", adjective="round")
        world.propose(item, 9, 9, 25, 25, truth_iou=0.7)
    world.propose(bare, 9, 9, 25, 25)
    summary, rows = world.run()
    kinds = {
        item: [(r["role"], r["proposer"]) for r in rows if r["image_id"] == item] for item in map(image_id, range(4))
    }
    assert kinds[train] == [("input", "annotations")]
    assert kinds[bare] == [("input", "saliency")]
    for item in (test, validation):
        assert kinds[item] == [("input", "saliency"), ("truth", "annotations")]
        truth = next(row for row in rows if row["image_id"] == item and row["role"] == "truth")
        assert (truth["label"], truth["adjective"], truth["n"]) == ("nodule", "round", 1)
    assert summary["for_fitting"] == {"toy": 1}
    assert summary["inputs"] == summary["ok"] == len(rows) == 6
    assert summary["regions"]["toy"]["truth"]["accepted"] == 2
    assert all(row["label"] is None for row in rows if row["proposer"] == "saliency")


def test_train_proposals_take_the_place_of_annotations(world: World) -> None:
    item = world.image("train")
    world.annotate(item, 8, 8, 24, 24)
    world.propose(item, 9, 9, 25, 25, truth_iou=0.7)
    summary, rows = world.run(train="proposals")
    assert [(row["role"], row["proposer"]) for row in rows] == [("input", "saliency")]
    assert summary["for_fitting"] == {"toy": 1}


def test_an_image_that_the_source_calls_empty_gives_no_region_to_train_on(world: World) -> None:
    item = world.image("train", labels=[])
    world.propose(item, 9, 9, 25, 25, truth_iou=0.0)
    summary, rows = world.run()
    assert rows == []
    assert summary["for_fitting"] == summary["no_input_region"] == {"toy": 1}


def test_every_hard_limit_has_its_reason(world: World) -> None:
    item = world.image("train", labels=["Cyst"])
    expected = {
        "box_outside": world.propose(item, 0, 0, 0, 0, reason="box_outside"),
        "too_small": world.propose(item, 10, 10, 12, 40),
        "too_large": world.propose(item, 1, 1, 63, 60),
        "low_score": world.propose(item, 10, 10, 20, 20, score=0.04),
        "unstable_mask": world.propose(item, 11, 10, 21, 20, mask=square(11, 10, 21, 20), mask_stability=0.2),
        "touches_border": world.propose(item, 0, 10, 10, 20),
        "absent_class": world.propose(item, 30, 30, 40, 40, label="nodule", score=0.99),
        None: world.propose(item, 30, 31, 40, 41, label="cyst", score=0.9, mask=square(30, 31, 40, 41)),
        "overlaps_better": world.propose(item, 30, 32, 40, 42, score=0.8, proposer="other"),
    }
    for place in range(3):
        world.propose(item, 2 + 12 * place, 50, 12 + 12 * place, 60, score=0.7 - place / 10)
    summary, rows = world.run()
    reasons = {(row["x0"], row["y0"], row["x1"], row["y1"], row["proposer"]): row["reason"] for row in rows}
    for reason, row in expected.items():
        assert reasons[row["x0"], row["y0"], row["x1"], row["y1"], row["proposer"]] == reason
    assert [row["reason"] for row in rows[:6]].count("beyond_max_regions") == 1
    assert all((row["status"] == "accepted") == (row["reason"] is None) for row in rows)
    assert summary["inputs"] == len(rows) == 12
    assert summary["reasons"]["rejected"] == dict.fromkeys([*filter(None, expected), "beyond_max_regions"], 1)
    assert [row["n"] for row in rows] == list(range(12))


def test_absent_class_is_asked_on_training_images_alone(world: World) -> None:
    for split, labels in (("test", ["cyst"]), ("validation", []), ("train", None)):
        world.propose(world.image(split, labels=labels), 9, 9, 25, 25, label="nodule")
    _, rows = world.run()
    assert [row["reason"] for row in rows] == [None] * 3


def test_annotations_keep_the_limits_and_truth_does_not(world: World) -> None:
    train, test = world.image("train"), world.image("test")
    for item in (train, test):
        world.annotate(item, 0, 0, 64, 64)
        world.annotate(item, 10, 10, 11, 11)
        for place in range(4):
            world.annotate(item, 0, place, 10, 10 + place)
    _, rows = world.run()
    of_train = [row["reason"] for row in of_split(world, rows, "train")]
    assert sorted(map(str, of_train)) == ["None"] * 4 + ["too_large", "too_small"]
    of_test = [row["reason"] for row in of_split(world, rows, "test", "truth")]
    assert of_test == [None, "too_small", None, None, None, None]


def test_a_certified_study(tmp_path: Path) -> None:
    world = study(tmp_path)
    summary, rows = world.run()
    promise = summary["promise"]["radiograph"]
    assert promise["reason"] is None
    assert promise["calibration"]["images"] == 60
    assert promise["test"]["images"] == 40
    # Right and wrong are far apart, so nearly every test image has its right region and hardly a wrong one.
    assert promise["test"]["precision"] > 0.9
    assert promise["test"]["coverage"] > 0.9
    assert promise["test_recall"] > 0.9
    assert promise["test"]["precision_low"] < promise["test"]["precision"]
    for split in ("train", "validation", "test"):
        inputs = [row for row in of_split(world, rows, split) if row["status"] == "accepted"]
        certified = [row for row in inputs if row["certified"]]
        # Bare training images entered no fit (rounds.most is 0); annotated ones have no probability.
        assert {row["proposer"] for row in certified} <= {"saliency"}
        assert bool(certified) == (split != "validation")
    for row in rows:
        if row["proposer"] == "saliency":
            passes = row["probability"] >= promise["threshold"]
            assert passes == (row["status"] == "accepted")
            assert row["round"] == (0 if passes else None)
    rejected = summary["reasons"]["rejected"]
    assert summary["inputs"] == len(rows) == summary["ok"] + rejected["low_probability"]


def test_nothing_is_certified_where_no_threshold_is(tmp_path: Path) -> None:
    world = study(tmp_path)
    summary, rows = world.run(promise=PromiseConfig(precision=0.999, confidence=0.99, min_calibration=20))
    promise = summary["promise"]["radiograph"]
    assert (promise["threshold"], promise["reason"]) == (None, "first_threshold_failed")
    assert not any(row["certified"] for row in rows)
    accepted = [row for row in rows if row["proposer"] == "saliency" and row["status"] == "accepted"]
    assert accepted
    assert all(row["probability"] >= CONFIG.min_probability for row in accepted)
    bare = World(tmp_path / "bare")
    bare.crowd("train", 20, seed=0)
    bare.crowd("test", 5, seed=1)
    summary, _ = bare.run()
    assert summary["promise"]["pooled"]["reason"] == "no_calibration_images"


def test_without_labels_the_proposers_score_ranks(world: World) -> None:
    world.crowd("test", 4, seed=0, truth=False)
    summary, rows = world.run()
    assert summary["promise"]["pooled"]["reason"] == "no_calibration_images"
    assert [row["status"] for row in rows] == ["accepted"] * 12
    for item in {row["image_id"] for row in rows}:
        scores = [row["score"] for row in rows if row["image_id"] == item]
        assert scores == sorted(scores, reverse=True)
    assert all((row["probability"], row["round"], row["certified"]) == (None, None, False) for row in rows)


def test_rounds_take_the_certificate_from_training_images(tmp_path: Path) -> None:
    world = study(tmp_path)
    summary, rows = world.run(rounds=RoundsConfig(most=2, accept=0.8))
    if summary["rounds"][-1]["learnt"]:
        assert not any(row["certified"] for row in of_split(world, rows, "train"))
    assert summary["rounds"][0]["learnt"] == 0
    assert any(row["certified"] for row in of_split(world, rows, "test"))


def test_a_promise_is_about_the_sources_and_modalities_it_was_calibrated_on(tmp_path: Path) -> None:
    world = study(tmp_path)
    elsewhere = world.crowd("test", 5, seed=4, truth=False)
    world.crowd("test", 5, seed=5, truth=False, modality="ct")
    for row in [*world.images, *world.rows]:
        if row["image_id"] in elsewhere:
            row["source"] = "elsewhere"
    summary, rows = world.run()
    assert summary["promise"]["pooled"]["reason"] == "no_calibration_images"
    new = [row for row in rows if int(row["image_id"], 16) >= 160]
    assert sum(row["status"] == "accepted" for row in new) >= 10
    assert not any(row["certified"] for row in new)


def test_modalities_with_few_calibration_images_share_a_threshold(world: World) -> None:
    for split, count in (("train", 20), ("validation", 15), ("test", 5)):
        world.crowd(split, count, seed=count, modality="ct")
        world.crowd(split, count, seed=count + 1, modality="mri")
        world.crowd(split, 2 * count, seed=count + 2)
    summary, _ = world.run()
    assert {name: told["calibration"]["images"] for name, told in summary["promise"].items()} == {
        "pooled": 30,
        "radiograph": 30,
    }
    assert set(summary["rounds"][0]["models"]) == {"ct", "mri", "radiograph"}


def test_own_phrases_take_the_certificate(tmp_path: Path) -> None:
    world = study(tmp_path)
    helped = next(row for row in world.rows if row["truth_iou" if "truth_iou" in row else "n"] is None)
    for row in world.rows:
        if row["image_id"] == helped["image_id"]:
            row["own_phrases"] = True
    _, rows = world.run()
    certified = {row["image_id"] for row in of_split(world, rows, "train") if row["certified"]}
    assert certified
    assert helped["image_id"] not in certified


def test_truth_of_validation_images_changes_thresholds_alone(tmp_path: Path) -> None:
    first, second = study(tmp_path / "a"), study(tmp_path / "b")
    validation = {image["image_id"] for image in second.images if image["split"] == "validation"}
    for row in second.rows:
        if row["image_id"] in validation and not row["sees_annotations"]:
            row["truth_iou"] = 1.0 - row["truth_iou"]  # right is wrong
    before, rows = first.run()
    after, changed = second.run()
    assert before["promise"]["radiograph"]["threshold"] is not None
    assert after["promise"]["radiograph"]["threshold"] is None
    decided = ("status", "reason", "certified", "round")
    assert without(changed, *decided) == without(rows, *decided)
    assert changed != rows
    assert after["rounds"] == before["rounds"]


def test_truth_of_test_images_changes_their_truth_rows_and_figures_alone(tmp_path: Path) -> None:
    first, second = study(tmp_path / "a"), study(tmp_path / "b")
    test = {image["image_id"] for image in second.images if image["split"] == "test"}
    second.rows = [row for row in second.rows if row["image_id"] not in test or not row["sees_annotations"]]
    for row in second.rows:
        if row["image_id"] in test:
            # The numbers of the proposals move up where the annotation is gone.
            row["n"] -= 1
            row["truth_iou"] = 0.0
    before, rows = first.run()
    after, changed = second.run()
    assert changed == [row for row in rows if row["image_id"] not in test or row["role"] == "input"]
    promise = before["promise"]["radiograph"], after["promise"]["radiograph"]
    assert promise[0]["calibration"] == promise[1]["calibration"]
    assert promise[0]["threshold"] == promise[1]["threshold"]
    assert promise[1]["test"]["precision"] == 0.0
    assert after["rounds"] == before["rounds"]


def review(world: World, *lines: dict[str, Any]) -> Path:
    file = world.split.parent / "review.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def word(item: str, verdict: str, *box: float) -> dict[str, Any]:
    return {"image_id": item, "verdict": verdict, **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))}


def test_verdicts_that_come_to_nothing_are_counted(world: World) -> None:
    train, test = world.image("train"), world.image("test")
    for item in (train, test):
        world.propose(item, 10, 10, 30, 30)
        world.propose(item, 40, 40, 60, 60)
    file = review(
        world,
        word("f" * 16, "accepted", 10, 10, 30, 30),
        word(train, "accepted", 10, 10, 24, 24),
        word(train, "accepted", 40, 40, 60, 60),
        word(train, "rejected", 40, 40, 60, 60.5),
        word(test, "drawn", 32, 10, 50, 30),
        word(test, "rejected", 10.2, 10, 30, 30),
        word(train, "drawn", 10, 32, 11, 33),
    )
    summary, rows = world.run(review=file)
    assert summary["review"]["unused"] == {
        "drawn_on_judged_image": 1,
        "no_such_region": 1,
        "reviewers_disagree": 2,
        "unknown_image": 1,
    }
    assert summary["inputs"] == len(rows) + 5
    assert summary["reasons"]["rejected"] == {
        "rejected_in_review": 1,
        "review_drawn_on_judged_image": 1,
        "review_no_such_region": 1,
        "review_reviewers_disagree": 2,
        "review_unknown_image": 1,
        "too_small": 1,
    }
    assert [(row["proposer"], row["reason"]) for row in rows if row["image_id"] == train] == [
        ("review", "too_small"),
        ("saliency", None),
        ("saliency", None),
    ]


def test_a_persons_word_stands_before_the_score(tmp_path: Path) -> None:
    world = study(tmp_path)
    items = [image["image_id"] for image in world.images if image["split"] == "test"][:2]
    proposals = {(row["image_id"], row["n"]): row for row in world.rows}
    wrong, right = proposals[items[0], 2], proposals[items[1], 1]
    edges = ("x0", "y0", "x1", "y1")
    file = review(
        world,
        word(items[0], "accepted", *(wrong[edge] for edge in edges)),
        word(items[1], "rejected", *(right[edge] for edge in edges)),
    )
    before, plain = world.run()
    after, rows = world.run(review=file)
    found = {(row["image_id"], row["x0"]): row for row in rows if row["role"] == "input"}
    accepted, rejected = found[items[0], wrong["x0"]], found[items[1], right["x0"]]
    assert (accepted["status"], accepted["review"], accepted["certified"]) == ("accepted", "accepted", False)
    assert (rejected["reason"], rejected["review"], rejected["certified"]) == ("rejected_in_review", "rejected", False)
    assert after["promise"]["radiograph"]["test"] == before["promise"]["radiograph"]["test"]
    others = [row for row in rows if row["image_id"] not in items]
    assert others == [row for row in plain if row["image_id"] not in items], "verdicts on test images fit nothing"


def test_verdicts_on_training_images_are_learnt_from(tmp_path: Path) -> None:
    world = study(tmp_path)
    bare = [row for row in world.rows if row.get("truth_iou") is None]
    edges = ("x0", "y0", "x1", "y1")
    file = review(
        world,
        *(word(row["image_id"], "rejected", *(row[edge] for edge in edges)) for row in bare),
    )
    before, _ = world.run()
    after, rows = world.run(review=file)
    models = [summary["rounds"][0]["models"]["radiograph"] for summary in (before, after)]
    assert models[1]["images"] == models[0]["images"] + 20
    assert models[1]["right"] == models[0]["right"]
    certified = {row["image_id"] for row in rows if row["certified"]}
    assert not certified & {row["image_id"] for row in bare}


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    world = study(tmp_path)
    world.run(rounds=RoundsConfig(most=2, accept=0.8))
    first = world.output.read_bytes()
    world.rows.reverse()
    world.images.reverse()
    world.run(rounds=RoundsConfig(most=2, accept=0.8))
    assert world.output.read_bytes() == first


def test_mistakes_of_the_user(world: World) -> None:
    world.propose(world.image("test"), 10, 10, 30, 30)
    with pytest.raises(UserError, match="make an empty file"):
        world.run(review=Path("absent.jsonl"))
    world.rows[0]["image_id"] = image_id(9)
    with pytest.raises(UserError, match="run dvc repro proposals"):
        world.run()
    for wrong in ({"train": "saliency"}, {"min_area_fraction": 0.6}, {"overlap": 1.5}, {"max_regions": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            dataclasses.replace(CONFIG, **wrong)
    with pytest.raises(ValueError, match="precision"):
        PromiseConfig(precision=1.0, confidence=0.9, min_calibration=1)
    with pytest.raises(ValueError, match="accept"):
        RoundsConfig(most=1, accept=0.4)
