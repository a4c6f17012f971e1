"""The joint score and its rounds on tables whose truth is known."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.records import PROPOSALS, SPLIT_IMAGES
from pipelines.regions.candidates import told_images, truth_of, usable
from pipelines.regions.config import RegionsConfig, RoundsConfig
from pipelines.regions.features import features
from pipelines.regions.rounds import run_rounds
from pipelines.regions.scoring import POOLED, score
from tests.pipelines.regions.small_world import CONFIG, World


def frame_of(world: World, config: RegionsConfig = CONFIG) -> pd.DataFrame:
    proposals = PROPOSALS.frame(world.rows)
    return usable(proposals, told_images(SPLIT_IMAGES.frame(world.images), proposals), config)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def fit_target(candidates: pd.DataFrame) -> np.ndarray:
    return np.where(candidates["split"] == "train", truth_of(candidates), np.nan)


def fit(candidates: pd.DataFrame, min_labelled: int = 20):
    none = np.zeros(len(candidates), dtype=bool)
    return score(features(candidates), candidates, fit_target(candidates), none, min_labelled)


def test_right_and_wrong_are_told_apart_with_honest_probabilities(world: World) -> None:
    world.crowd("train", 60, seed=0)
    world.crowd("test", 100, seed=1)
    candidates = frame_of(world)
    probability = fit(candidates).probability
    test = (candidates["split"] == "test").to_numpy()
    right = truth_of(candidates)[test] == 1
    assert probability[test][right].min() > probability[test][~right].max()
    # Calibrated: among 300 proposals of which a third is right, the probabilities add up to about a third.
    assert abs(probability[test].mean() - right.mean()) < 0.03


def test_out_of_fold_means_never_seen_with_its_group(world: World) -> None:
    # Right and wrong by coin, the same for both images of a group, which differ from all others by their score: who
    # sees one image of a group knows the other. Out of fold nobody does.
    rng = np.random.default_rng(0)
    for group in range(60):
        right, level = rng.random() < 0.5, (group + 1) / 64
        for _ in range(2):
            item = world.image("train", group=str(group))
            world.annotate(item, 30, 30, 50, 50)
            world.propose(item, 10, 10, 26, 26, score=level, truth_iou=0.9 if right else 0.0)
    candidates = frame_of(world)
    target = fit_target(candidates)
    honest = fit(candidates).probability
    leaky = fit(candidates.assign(group=candidates["image_id"])).probability

    def apart(probability: np.ndarray) -> float:
        return float(probability[target == 1].mean() - probability[target == 0].mean())

    assert apart(leaky) > 0.15
    assert abs(apart(honest)) < 0.1


def test_order_of_rows_changes_no_bit(world: World) -> None:
    world.crowd("train", 30, seed=0)
    world.crowd("test", 10, seed=1)
    expected = fit(frame_of(world)).probability
    world.rows = [world.rows[place] for place in np.random.default_rng(0).permutation(len(world.rows))]
    assert np.array_equal(fit(frame_of(world)).probability, expected)


def test_a_modality_with_few_labels_takes_the_pooled_score(world: World) -> None:
    world.crowd("train", 30, seed=0, modality="ct")
    world.crowd("train", 8, seed=1, modality="mri")
    world.crowd("test", 5, seed=2, modality="mri")
    world.crowd("test", 5, seed=3, modality="fundus")
    assert set(fit(frame_of(world)).models) == {"ct", POOLED}
    assert set(fit(frame_of(world), min_labelled=8).models) == {"ct", "mri", POOLED}
    scored = fit(frame_of(world), min_labelled=500)
    assert set(scored.models) == {POOLED}
    assert not np.isnan(scored.probability).any()


def test_no_score_without_labels_of_both_kinds(world: World) -> None:
    world.crowd("train", 30, seed=0, truth=False)
    candidates = frame_of(world)
    scored = fit(candidates)
    assert scored.models == {}
    assert np.isnan(scored.probability).all()


def rounds_of(world: World, most: int, accept: float = 0.9) -> list:
    config = dataclasses.replace(CONFIG, rounds=RoundsConfig(most=most, accept=accept))
    candidates = frame_of(world, config)
    bare = set(candidates.loc[~candidates["annotated"] & (candidates["split"] == "train"), "image_id"])
    return run_rounds(candidates, fit_target(candidates), bare, config)


def test_rounds_end_when_coverage_stops_growing(world: World) -> None:
    world.crowd("train", 25, seed=0)
    world.crowd("train", 60, seed=1, truth=False)
    rounds = rounds_of(world, most=10)
    coverage = [latest.coverage for latest in rounds]
    assert coverage == sorted(set(coverage)), "each kept round covers more than the one before"
    assert len(rounds) < 11
    assert rounds[0].learnt == frozenset()
    assert all(latest.learnt for latest in rounds[1:])
    assert len(rounds_of(world, most=0)) == 1


def test_no_unannotated_image_no_second_round(world: World) -> None:
    world.crowd("train", 30, seed=0)
    (only,) = rounds_of(world, most=5)
    assert only.coverage == 0.0


def test_validation_images_never_reach_the_fit(world: World) -> None:
    world.crowd("train", 30, seed=0)
    world.crowd("validation", 30, seed=1)
    candidates = frame_of(world)
    with pytest.raises(ValueError, match="never reach the fit"):
        run_rounds(candidates, truth_of(candidates), set(), CONFIG)
    models = rounds_of(world, most=2)[-1].scored.models
    for model in models.values():
        assert set(candidates["split"].iloc[model.rows]) == {"train"}


def test_features_by_hand(world: World) -> None:
    item = world.image("train", width=100, height=50)
    world.annotate(item, 10, 10, 30, 20)
    first = {"score": 0.8, "area": 100, "area_fraction": 0.02, "truth_iou": 0.9, "mask_stability": 0.7}
    world.propose(item, 10, 10, 30, 20, **first)
    world.propose(item, 20, 10, 40, 20, score=0.4, area_fraction=0.04, truth_iou=0.1)
    world.propose(item, 10, 10, 20, 20, proposer="other", score=0.3, area_fraction=0.02, truth_iou=0.5)
    row = features(frame_of(world)).iloc[0].to_dict()
    expected = {
        "score": 0.8, "mask_quality": -1.0, "mask_stability": 0.7, "box_agreement": -1.0, "agreement": 0.5,
        "area": np.log(0.02), "box_area": np.log(0.04), "fill": 0.5, "aspect": 0.0, "width": 0.2, "height": 0.2,
        "centre_x": 0.2, "centre_y": 0.3, "off_middle": 0.3, "border": 0.1, "rank": 1.0, "relative": 1.0,
        "rivals": 2.0, "is_other": 0.0, "is_saliency": 1.0,
    }  # fmt: skip
    assert row == pytest.approx(expected)


def test_agreement_is_unknown_where_one_proposer_looked(world: World) -> None:
    world.crowd("train", 2, seed=0)
    assert frame_of(world)["agreement"].isna().all()
