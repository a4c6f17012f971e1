"""The stage on tables made by hand: roles, reasons, certified regions, and what the truth may change."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UserError
from pipelines.records import ProposalRow, RegionRow, Split
from pipelines.regions.config import RiskControlConfig, SelfTrainingConfig
from tests.pipelines.regions.small_world import CONFIG, World, image_id, square, study
from tests.rows import by_image


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def of_split(world: World, rows: list[RegionRow], split: Split, role: str = "input") -> list[RegionRow]:
    return [row for row in rows if row.image_id in world.ids_of(split) and row.role == role]


def without(rows: list[RegionRow], *columns: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in asdict(row).items() if name not in columns} for row in rows]


def test_annotations_are_inputs_on_training_images_and_truth_on_the_others(world: World) -> None:
    train, unannotated = world.image("train"), world.image("train")
    test, validation = world.image("test"), world.image("validation")
    for image in (train, test, validation):
        world.annotate(image, 8, 8, 24, 24, label="nodule", adjective="round")
        world.propose(image, 9, 9, 25, 25, truth_iou=0.7)
    world.propose(unannotated, 9, 9, 25, 25)
    summary, rows = world.run()
    kinds = {image: [(r.role, r.proposer) for r in rows if r.image_id == image] for image in map(image_id, range(4))}
    assert kinds[train] == [("input", "annotations")]
    assert kinds[unannotated] == [("input", "saliency")]
    for image in (test, validation):
        assert kinds[image] == [("input", "saliency"), ("truth", "annotations")]
        truth = next(row for row in rows if row.image_id == image and row.role == "truth")
        assert (truth.label, truth.adjective, truth.n) == ("nodule", "round", 1)
    assert summary["proposals_only_for_fitting"] == {"toy": 1}
    assert summary["inputs"] == summary["ok"] == len(rows) == 6
    assert summary["regions"]["toy"]["truth"]["accepted"] == 2
    assert all(row.label is None for row in rows if row.proposer == "saliency")


def test_training_regions_proposals_gives_proposals_as_inputs(world: World) -> None:
    image = world.image("train")
    world.annotate(image, 8, 8, 24, 24)
    world.propose(image, 9, 9, 25, 25, truth_iou=0.7)
    summary, rows = world.run(training_regions="proposals")
    assert [(row.role, row.proposer) for row in rows] == [("input", "saliency")]
    assert summary["proposals_only_for_fitting"] == {"toy": 1}


def test_training_image_annotated_as_empty_has_no_input_region(world: World) -> None:
    image = world.image("train", labels=())
    world.propose(image, 9, 9, 25, 25, truth_iou=0.0)
    summary, rows = world.run()
    assert rows == []
    assert summary["proposals_only_for_fitting"] == summary["images_without_input_region"] == {"toy": 1}


def test_each_broken_limit_gives_its_reason_code(world: World) -> None:
    image = world.image("train", labels=("Cyst",))
    expected = {
        "box_outside": world.propose(image, 0, 0, 0, 0, reason="box_outside"),
        "too_small": world.propose(image, 10, 10, 12, 40),
        "too_large": world.propose(image, 1, 1, 63, 60),
        "low_score": world.propose(image, 10, 10, 20, 20, score=0.04),
        "unstable_mask": world.propose(image, 11, 10, 21, 20, mask=square(11, 10, 21, 20), mask_stability=0.2),
        "touches_border": world.propose(image, 0, 10, 10, 20),
        "absent_class": world.propose(image, 30, 30, 40, 40, label="nodule", score=0.99),
        None: world.propose(image, 30, 31, 40, 41, label="cyst", score=0.9, mask=square(30, 31, 40, 41)),
        "overlaps_better": world.propose(image, 30, 32, 40, 42, score=0.8, proposer="other"),
    }
    for index in range(3):
        world.propose(image, 2 + 12 * index, 50, 12 + 12 * index, 60, score=0.7 - index / 10)
    summary, rows = world.run()
    reasons = {(row.x0, row.y0, row.x1, row.y1, row.proposer): row.reason for row in rows}
    for reason, row in expected.items():
        assert reasons[row.x0, row.y0, row.x1, row.y1, row.proposer] == reason
    assert [row.reason for row in rows[:6]].count("beyond_max_regions") == 1
    assert all((row.status == "accepted") == (row.reason is None) for row in rows)
    assert summary["inputs"] == len(rows) == 12
    assert summary["reasons"]["rejected"] == dict.fromkeys([*filter(None, expected), "beyond_max_regions"], 1)
    assert [row.n for row in rows] == list(range(12))


def test_absent_class_on_validation_test_and_unlabelled_images_is_not_rejected(world: World) -> None:
    for split, labels in (("test", ("cyst",)), ("validation", ()), ("train", None)):
        world.propose(world.image(split, labels=labels), 9, 9, 25, 25, label="nodule")
    _, rows = world.run()
    assert [row.reason for row in rows] == [None] * 3


def test_size_limits_reject_annotations_on_training_images_and_only_specks_of_the_truth(world: World) -> None:
    train, test = world.image("train"), world.image("test")
    for image in (train, test):
        world.annotate(image, 0, 0, 64, 64)
        world.annotate(image, 10, 10, 11, 11)
        for index in range(4):
            world.annotate(image, 0, index, 10, 10 + index)
    _, rows = world.run()
    of_train = [row.reason for row in of_split(world, rows, "train")]
    assert sorted(map(str, of_train)) == ["None"] * 4 + ["too_large", "too_small"]
    of_test = [row.reason for row in of_split(world, rows, "test", "truth")]
    assert of_test == [None, "too_small", None, None, None, None]


def test_separable_study_is_certified_on_test_and_unannotated_images(tmp_path: Path) -> None:
    world = study(tmp_path)
    summary, rows = world.run()
    result = summary["risk_control"]["radiograph"]
    assert result["reason"] is None
    assert result["calibration"]["images"] == 60
    assert result["test"]["images"] == 40
    # Correct and wrong proposals are far apart: nearly every test image has its correct region and hardly a wrong one.
    assert result["test"]["precision"] > 0.9
    assert result["test"]["coverage"] > 0.9
    assert result["test_recall"] > 0.9
    assert result["test"]["precision_low"] < result["test"]["precision"]
    for split in ("train", "validation", "test"):
        inputs = [row for row in of_split(world, rows, split) if row.status == "accepted"]
        certified = [row for row in inputs if row.certified]
        # Unannotated training images entered no fit (max_rounds is 0); annotated ones have no probability.
        assert {row.proposer for row in certified} <= {"saliency"}
        assert bool(certified) == (split != "validation")
    for row in rows:
        if row.proposer == "saliency":
            passes = row.probability >= result["threshold"]
            assert passes == (row.status == "accepted")
            assert row.round == (0 if passes else None)
    rejected = summary["reasons"]["rejected"]
    assert summary["inputs"] == len(rows) == summary["ok"] + rejected["low_probability"]


def test_unreachable_target_or_no_calibration_images_certify_nothing(tmp_path: Path) -> None:
    world = study(tmp_path)
    summary, rows = world.run(
        risk_control=RiskControlConfig(
            quantity="region", target_precision=0.999, confidence=0.99, min_calibration_images=20
        )
    )
    result = summary["risk_control"]["radiograph"]
    assert (result["threshold"], result["reason"]) == (None, "first_threshold_failed")
    assert not any(row.certified for row in rows)
    accepted = [row for row in rows if row.proposer == "saliency" and row.status == "accepted"]
    assert accepted
    assert all(row.probability >= CONFIG.min_probability for row in accepted)
    no_validation = World(tmp_path / "no_validation")
    no_validation.add_images("train", 20, seed=0)
    no_validation.add_images("test", 5, seed=1)
    summary, _ = no_validation.run()
    assert summary["risk_control"]["pooled"]["reason"] == "no_calibration_images"


def test_without_labels_regions_are_ranked_by_the_proposers_score(world: World) -> None:
    world.add_images("test", 4, seed=0, annotated=False)
    summary, rows = world.run()
    assert summary["risk_control"]["pooled"]["reason"] == "no_calibration_images"
    assert [row.status for row in rows] == ["accepted"] * 12
    for image in {row.image_id for row in rows}:
        scores = [row.score for row in rows if row.image_id == image]
        assert scores == sorted(scores, reverse=True)
    assert all((row.probability, row.round, row.certified) == (None, None, False) for row in rows)


def test_patient_best_certifies_the_most_probable_region_of_each_patient_alone(tmp_path: Path) -> None:
    world = study(tmp_path)
    tests = [image.image_id for image in world.images if image.split == "test"]
    patient_of = {id_: f"patient{number // 2}" for number, id_ in enumerate(tests)}
    world.images = [replace(image, group=patient_of.get(image.image_id, image.group)) for image in world.images]
    _, all_regions = world.run()
    summary, rows = world.run(risk_control=replace(CONFIG.risk_control, quantity="patient_best"))
    found: dict[str, list[RegionRow]] = {}
    for row in of_split(world, rows, "test"):
        if row.status == "accepted":
            found.setdefault(patient_of[row.image_id], []).append(row)
    assert len(found) == 20
    for accepted in found.values():
        (certified,) = [row for row in accepted if row.certified]
        assert certified.probability == max(row.probability or 0 for row in accepted)
    assert sum(row.certified for row in of_split(world, all_regions, "test")) > len(found)
    control = summary["risk_control"]["radiograph"]
    assert (control["quantity"], control["test"]["patients"]) == ("patient_best", 20)
    assert "the most probable one of each patient" in control["promised"]


def test_self_training_on_training_images_leaves_none_of_them_certified(tmp_path: Path) -> None:
    world = study(tmp_path)
    summary, rows = world.run(self_training=SelfTrainingConfig(max_rounds=2, pseudo_label_threshold=0.8))
    if summary["self_training"][-1]["pseudo_labelled_images"]:
        assert not any(row.certified for row in of_split(world, rows, "train"))
    assert summary["self_training"][0]["pseudo_labelled_images"] == 0
    assert any(row.certified for row in of_split(world, rows, "test"))


def test_other_source_or_modality_than_the_calibration_images_is_not_certified(tmp_path: Path) -> None:
    world = study(tmp_path)
    elsewhere = set(world.add_images("test", 5, seed=4, annotated=False))
    world.add_images("test", 5, seed=5, annotated=False, modality="ct")

    def source_of(image_id: str) -> str:
        return "elsewhere" if image_id in elsewhere else "toy"

    world.images = [replace(image, source=source_of(image.image_id)) for image in world.images]
    world.change_proposals(lambda row: {"source": source_of(row.image_id)})
    summary, rows = world.run()
    assert summary["risk_control"]["pooled"]["reason"] == "no_calibration_images"
    new = [row for row in rows if int(row.image_id, 16) >= 160]
    assert sum(row.status == "accepted" for row in new) >= 10
    assert not any(row.certified for row in new)


def test_modalities_with_few_calibration_images_share_a_threshold(world: World) -> None:
    for split, count in (("train", 20), ("validation", 15), ("test", 5)):
        world.add_images(split, count, seed=count, modality="ct")
        world.add_images(split, count, seed=count + 1, modality="mri")
        world.add_images(split, 2 * count, seed=count + 2)
    summary, _ = world.run()
    assert {name: result["calibration"]["images"] for name, result in summary["risk_control"].items()} == {
        "pooled": 30,
        "radiograph": 30,
    }
    assert set(summary["self_training"][0]["models"]) == {"ct", "mri", "radiograph"}


def test_image_searched_with_its_own_phrases_is_not_certified(tmp_path: Path) -> None:
    world = study(tmp_path)
    searched = next(row.image_id for row in world.proposals if row.truth_iou is None)
    world.change_proposals(lambda row: {"own_phrases": row.image_id == searched})
    _, rows = world.run()
    certified = {row.image_id for row in of_split(world, rows, "train") if row.certified}
    assert certified
    assert searched not in certified


def test_inverted_truth_of_validation_images_changes_thresholds_alone(tmp_path: Path) -> None:
    first, second = study(tmp_path / "a"), study(tmp_path / "b")
    validation = second.ids_of("validation")

    def inverted(row: ProposalRow) -> dict[str, Any]:
        if row.image_id not in validation or row.sees_annotations or row.truth_iou is None:
            return {}
        return {"truth_iou": 1.0 - row.truth_iou}

    second.change_proposals(inverted)
    before, rows = first.run()
    after, changed = second.run()
    assert before["risk_control"]["radiograph"]["threshold"] is not None
    assert after["risk_control"]["radiograph"]["threshold"] is None
    decision = ("status", "reason", "certified", "round")
    assert without(changed, *decision) == without(rows, *decision)
    assert changed != rows
    assert after["self_training"] == before["self_training"]


def test_removed_truth_of_test_images_changes_their_truth_rows_and_metrics_alone(tmp_path: Path) -> None:
    first, second = study(tmp_path / "a"), study(tmp_path / "b")
    test = second.ids_of("test")
    second.proposals = [row for row in second.proposals if row.image_id not in test or not row.sees_annotations]
    # The numbers of the proposals move up where the annotation is gone.
    second.change_proposals(lambda row: {"n": row.n - 1, "truth_iou": 0.0} if row.image_id in test else {})
    before, rows = first.run()
    after, changed = second.run()
    assert changed == [row for row in rows if row.image_id not in test or row.role == "input"]
    with_truth, without_truth = before["risk_control"]["radiograph"], after["risk_control"]["radiograph"]
    assert with_truth["calibration"] == without_truth["calibration"]
    assert with_truth["threshold"] == without_truth["threshold"]
    assert without_truth["test"]["precision"] == 0.0
    assert after["self_training"] == before["self_training"]


def test_proposals_of_an_image_in_reverse_give_the_same_bytes(tmp_path: Path) -> None:
    world = study(tmp_path)
    world.run(self_training=SelfTrainingConfig(max_rounds=2, pseudo_label_threshold=0.8))
    first = world.regions_file.read_bytes()
    world.proposals = by_image(reversed(world.proposals))
    world.run(self_training=SelfTrainingConfig(max_rounds=2, pseudo_label_threshold=0.8))
    assert world.regions_file.read_bytes() == first


def test_missing_review_file_foreign_proposals_and_bad_settings_are_refused(world: World) -> None:
    world.propose(world.image("test"), 10, 10, 30, 30)
    with pytest.raises(UserError, match="make an empty file"):
        world.run(review=Path("absent.jsonl"))
    world.change_proposals(lambda row: {"image_id": image_id(9)})
    with pytest.raises(UserError, match="run dvc repro proposals"):
        world.run()
    for wrong in ({"training_regions": "saliency"}, {"min_area_fraction": 0.6}, {"nms_iou": 1.5}, {"max_regions": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(CONFIG, **wrong)
    with pytest.raises(ValueError, match="target_precision"):
        RiskControlConfig(quantity="region", target_precision=1.0, confidence=0.9, min_calibration_images=1)
    with pytest.raises(ValueError, match="pseudo_label_threshold"):
        SelfTrainingConfig(max_rounds=1, pseudo_label_threshold=0.4)
