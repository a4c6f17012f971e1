"""What the summary has beside its counts: regions by source, rounds of self-training, thresholds, recall."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss

from pipelines.masks import largest_ious
from pipelines.records import RegionRow, SplitImageRow
from pipelines.regions.calibration.threshold_selection import SelectedThreshold
from pipelines.regions.candidates import CORRECT_IOU, Candidate
from pipelines.regions.config import QUANTITIES, RiskControlConfig
from pipelines.regions.self_training import SelfTrainingRound


def count_regions(rows: Sequence[RegionRow]) -> dict[str, Any]:
    """Regions of each source and role: {source: {role: {proposed, accepted, rejected, certified, reasons}}}."""
    counts: dict[str, Any] = {}
    for row in rows:
        by_role = counts.setdefault(row.source, {})
        empty = {"proposed": 0, "accepted": 0, "rejected": 0, "certified": 0, "reasons": {}}
        count = by_role.setdefault(row.role, empty)
        count["proposed"] += 1
        count[row.status] += 1
        count["certified"] += row.certified
        if row.reason:
            count["reasons"][row.reason] = count["reasons"].get(row.reason, 0) + 1
    return counts


def images_without_input_region(rows: Sequence[RegionRow], images: Mapping[str, SplitImageRow]) -> dict[str, int]:
    """Images of each source without an accepted `input` region."""
    with_region = {row.image_id for row in rows if row.role == "input" and row.status == "accepted"}
    counts = Counter(image.source for image_id, image in images.items() if image_id not in with_region)
    return dict(sorted(counts.items()))


def describe_rounds(
    rounds: Sequence[SelfTrainingRound], candidates: Sequence[Candidate], targets: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Pseudo-labelled images and coverage of each round, and how good each model is out of fold.

    Average precision and Brier score are those on labels of the source or of reviewers, without pseudo-labels.
    """
    described = []
    for number, latest in enumerate(rounds):
        models = {}
        for name, model in latest.scores.models.items():
            is_labelled = ~np.isnan(targets[model.indices])
            indices, probability = model.indices[is_labelled], model.out_of_fold[is_labelled]
            models[name] = {
                "images": len({candidates[index].image.image_id for index in indices}),
                "proposals": len(indices),
                "correct": int(targets[indices].sum()),
                "average_precision": round(float(average_precision_score(targets[indices], probability)), 4),
                "brier": round(float(brier_score_loss(targets[indices], probability)), 4),
            }
        described.append(
            {
                "round": number,
                "pseudo_labelled_images": len(latest.pseudo_labelled),
                "coverage": round(latest.coverage, 4),
                "models": models,
            }
        )
    return described


def describe_risk_control(
    thresholds: Mapping[str, SelectedThreshold], recall: Mapping[str, float], config: RiskControlConfig
) -> dict[str, Any]:
    """What is promised, threshold and metrics of each group."""
    return {
        group: {
            "quantity": config.quantity,
            "promised": QUANTITIES[config.quantity],
            "target_precision": config.target_precision,
            "confidence": config.confidence,
            **asdict(selected),
            "test_recall": recall.get(group),
        }
        for group, selected in thresholds.items()
    }


def recall_on_test_images(
    rows: Sequence[RegionRow], images: Mapping[str, SplitImageRow], group_of: Mapping[str, str]
) -> dict[str, float]:
    """Recall of each group: the fraction of the true regions of test images that an accepted region matches.

    Two regions match if their IoU is at least 0.5.

    Args:
        rows: All regions.
        images: By image_id.
        group_of: Modality -> calibration group.
    """
    inputs: dict[str, list[RegionRow]] = defaultdict(list)
    truth: dict[str, list[RegionRow]] = defaultdict(list)
    for row in rows:
        if row.status == "accepted" and images[row.image_id].split == "test":
            (inputs if row.role == "input" else truth)[row.image_id].append(row)
    matched: dict[str, list[bool]] = defaultdict(list)
    for image_id, true_regions in truth.items():
        image = images[image_id]
        ious = largest_ious(true_regions, inputs[image_id], image.height, image.width)
        matched[group_of[image.modality]] += (ious >= CORRECT_IOU).tolist()
    return {group: round(float(np.mean(matches)), 4) for group, matches in sorted(matched.items())}
