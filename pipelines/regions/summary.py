"""What the summary has beside its counts: regions by source, rounds of self-training, thresholds, recall."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss

from pipelines.masks import largest_ious
from pipelines.records import RegionRow, SplitImageRow
from pipelines.regions.calibration.threshold_selection import SelectedThreshold
from pipelines.regions.candidates import CORRECT_IOU, Candidates
from pipelines.regions.config import QUANTITIES, RiskControlConfig
from pipelines.regions.self_training import SelfTrainingRound


class RegionCounts:
    """What is counted of the regions, an image at a time.

    Args:
        group_of: Modality -> calibration group.

    Attributes:
        rows: All regions.
        images_without_input_region: Images of each source without an accepted `input` region.
        proposals_only_for_fitting: Proposals of each source without a row.
    """

    def __init__(self, group_of: Mapping[str, str]) -> None:
        self.rows = 0
        self.images_without_input_region: Counter[str] = Counter()
        self.proposals_only_for_fitting: Counter[str] = Counter()
        self._group_of = group_of
        self._regions: Counter[tuple[str, str, str | None, bool]] = Counter()
        self._true_regions: Counter[str] = Counter()
        self._matched: Counter[str] = Counter()

    def add(self, image: SplitImageRow, rows: Sequence[RegionRow], without_row: int) -> None:
        """Count an image.

        Args:
            image: The image.
            rows: Its regions.
            without_row: Its proposals without a row.
        """
        self.rows += len(rows)
        self._regions.update((row.source, row.role, row.reason, row.certified) for row in rows)
        if without_row:
            self.proposals_only_for_fitting[image.source] += without_row
        accepted = [row for row in rows if row.status == "accepted"]
        inputs = [row for row in accepted if row.role == "input"]
        if not inputs:
            self.images_without_input_region[image.source] += 1
        truth = [row for row in accepted if row.role == "truth"]
        if image.split == "test" and truth:
            ious = largest_ious(truth, inputs, image.height, image.width)
            group = self._group_of[image.modality]
            self._true_regions[group] += len(truth)
            self._matched[group] += int((ious >= CORRECT_IOU).sum())

    def outcomes(self) -> Counter[str | None]:
        """Rejected regions by reason code, accepted ones under None."""
        counts: Counter[str | None] = Counter()
        for (_, _, reason, _), count in self._regions.items():
            counts[reason] += count
        return counts

    def regions(self) -> dict[str, Any]:
        """Regions of each source and role: {source: {role: {proposed, accepted, rejected, certified, reasons}}}."""
        counts: dict[str, Any] = {}
        for (source, role, reason, certified), count in self._regions.items():
            empty = {"proposed": 0, "accepted": 0, "rejected": 0, "certified": 0, "reasons": {}}
            of_role = counts.setdefault(source, {}).setdefault(role, empty)
            of_role["proposed"] += count
            of_role["accepted" if reason is None else "rejected"] += count
            of_role["certified"] += count * certified
            if reason:
                of_role["reasons"][reason] = of_role["reasons"].get(reason, 0) + count
        return counts

    def recall_on_test_images(self) -> dict[str, float]:
        """Recall of each group: the fraction of the true regions of test images that an accepted region matches.

        Two regions match if their IoU is at least 0.5. A group without true regions has none.
        """
        return {group: round(self._matched[group] / count, 4) for group, count in sorted(self._true_regions.items())}


def describe_rounds(
    rounds: Sequence[SelfTrainingRound], candidates: Candidates, targets: NDArray[np.float64]
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
                "images": len(np.unique(candidates.image[indices])),
                "proposals": len(indices),
                "correct": int(targets[indices].sum()),
                "average_precision": round(float(average_precision_score(targets[indices], probability)), 4),
                "brier": round(float(brier_score_loss(targets[indices], probability)), 4),
            }
        described.append(
            {
                "round": number,
                "pseudo_labelled_images": latest.pseudo_labelled,
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
