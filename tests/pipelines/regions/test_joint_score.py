"""The joint score and self-training on tables whose truth is known."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pipelines.regions.candidates import Candidates, select_candidates
from pipelines.regions.config import RegionsConfig, SelfTrainingConfig
from pipelines.regions.features import features
from pipelines.regions.scoring import POOLED, JointScorer, JointScores
from pipelines.regions.self_training import SelfTrainingRound, self_train
from tests.pipelines.regions.small_world import CONFIG, World


def candidates_of(world: World, config: RegionsConfig = CONFIG) -> Candidates:
    world.write()
    return select_candidates(world.split_file, world.proposals_file, config)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def fitting_targets(candidates: Candidates) -> np.ndarray:
    return np.where(candidates.in_split("train"), candidates.correctness(), np.nan)


def fit(candidates: Candidates, min_labelled: int = 20) -> JointScores:
    no_pseudo_labels = np.zeros(len(candidates), dtype=bool)
    return JointScorer(candidates, min_labelled).fit(fitting_targets(candidates), no_pseudo_labels)


def test_separable_proposals_get_separated_and_calibrated_probabilities(world: World) -> None:
    world.add_images("train", 60, seed=0)
    world.add_images("test", 100, seed=1)
    candidates = candidates_of(world)
    probability = fit(candidates).probability
    test = candidates.in_split("test")
    correct = candidates.correctness()[test] == 1
    assert probability[test][correct].min() > probability[test][~correct].max()
    # Calibrated: among 300 proposals of which a third is correct, the probabilities add up to about a third.
    assert abs(probability[test].mean() - correct.mean()) < 0.03


def test_out_of_fold_probability_does_not_leak_from_images_of_the_same_group(world: World) -> None:
    # Correct or wrong by coin, the same for both images of a group, which differ from all others by their score: a
    # model that saw one image of a group knows the other. Out of fold none does.
    rng = np.random.default_rng(0)
    for group in range(60):
        correct, level = rng.random() < 0.5, (group + 1) / 64
        for _ in range(2):
            image = world.image("train", group=str(group))
            world.annotate(image, 30, 30, 50, 50)
            world.propose(image, 10, 10, 26, 26, score=level, truth_iou=0.9 if correct else 0.0)
    candidates = candidates_of(world)
    targets = fitting_targets(candidates)
    grouped = fit(candidates).probability
    world.images = [dataclasses.replace(image, group=image.image_id) for image in world.images]
    leaky = fit(candidates_of(world)).probability

    def separation(probability: np.ndarray) -> float:
        return float(probability[targets == 1].mean() - probability[targets == 0].mean())

    assert separation(leaky) > 0.15
    assert abs(separation(grouped)) < 0.1


def test_shuffled_proposals_give_bitwise_equal_probabilities(world: World) -> None:
    world.add_images("train", 30, seed=0)
    world.add_images("test", 10, seed=1)
    expected = fit(candidates_of(world)).probability
    order = np.random.default_rng(0).permutation(len(world.proposals))
    world.proposals = [world.proposals[index] for index in order]
    assert np.array_equal(fit(candidates_of(world)).probability, expected)


def test_modality_with_few_labels_uses_the_pooled_model(world: World) -> None:
    world.add_images("train", 30, seed=0, modality="ct")
    world.add_images("train", 8, seed=1, modality="mri")
    world.add_images("test", 5, seed=2, modality="mri")
    world.add_images("test", 5, seed=3, modality="fundus")
    assert set(fit(candidates_of(world)).models) == {"ct", POOLED}
    assert set(fit(candidates_of(world), min_labelled=8).models) == {"ct", "mri", POOLED}
    scores = fit(candidates_of(world), min_labelled=500)
    assert set(scores.models) == {POOLED}
    assert not np.isnan(scores.probability).any()


def test_without_labels_there_is_no_model_and_no_probability(world: World) -> None:
    world.add_images("train", 30, seed=0, annotated=False)
    scores = fit(candidates_of(world))
    assert scores.models == {}
    assert np.isnan(scores.probability).all()


def rounds_of(world: World, max_rounds: int) -> list[SelfTrainingRound]:
    self_training = SelfTrainingConfig(max_rounds=max_rounds, pseudo_label_threshold=0.9)
    config = dataclasses.replace(CONFIG, self_training=self_training)
    candidates = candidates_of(world, config)
    unannotated = candidates.images.in_split("train") & ~candidates.images.annotated
    return self_train(candidates, fitting_targets(candidates), unannotated, config)


def test_self_training_ends_when_coverage_stops_growing(world: World) -> None:
    world.add_images("train", 25, seed=0)
    world.add_images("train", 60, seed=1, annotated=False)
    rounds = rounds_of(world, max_rounds=10)
    coverage = [latest.coverage for latest in rounds]
    assert coverage == sorted(set(coverage)), "each kept round covers more than the one before"
    assert len(rounds) < 11
    assert rounds[0].pseudo_labelled == 0
    assert all(latest.pseudo_labelled for latest in rounds[1:])
    assert len(rounds_of(world, max_rounds=0)) == 1


def test_without_unannotated_images_there_is_one_round(world: World) -> None:
    world.add_images("train", 30, seed=0)
    (only,) = rounds_of(world, max_rounds=5)
    assert only.coverage == 0.0


def test_targets_on_validation_images_are_refused_and_models_are_fitted_on_train_alone(world: World) -> None:
    world.add_images("train", 30, seed=0)
    world.add_images("validation", 30, seed=1)
    candidates = candidates_of(world)
    with pytest.raises(ValueError, match="never reach the fit"):
        self_train(candidates, candidates.correctness(), np.zeros(len(candidates.images), dtype=bool), CONFIG)
    for model in rounds_of(world, max_rounds=2)[-1].scores.models.values():
        assert candidates.in_split("train")[model.indices].all()


def test_features_of_three_proposals_equal_values_by_hand(world: World) -> None:
    image = world.image("train", width=100, height=50)
    world.annotate(image, 10, 10, 30, 20)
    first = {"score": 0.8, "area": 100, "area_fraction": 0.02, "truth_iou": 0.9, "mask_stability": 0.7}
    world.propose(image, 10, 10, 30, 20, **first)
    world.propose(image, 20, 10, 40, 20, score=0.4, area_fraction=0.04, truth_iou=0.1)
    world.propose(image, 10, 10, 20, 20, proposer="other", score=0.3, area_fraction=0.02, truth_iou=0.5)
    row = features(candidates_of(world)).iloc[0].to_dict()
    expected = {
        "score": 0.8, "mask_quality": -1.0, "mask_stability": 0.7, "box_agreement": -1.0, "agreement": 0.5,
        "area": np.log(0.02), "box_area": np.log(0.04), "fill": 0.5, "aspect": 0.0, "width": 0.2, "height": 0.2,
        "centre_x": 0.2, "centre_y": 0.3, "off_middle": 0.3, "border": 0.1, "rank": 1.0, "relative": 1.0,
        "rivals": 2.0, "is_other": 0.0, "is_saliency": 1.0,
    }  # fmt: skip
    assert row == pytest.approx(expected)


def test_agreement_with_one_proposer_is_none(world: World) -> None:
    world.add_images("train", 2, seed=0)
    assert np.isnan(candidates_of(world).agreement).all()
