"""Calibration groups: which modalities share a threshold, and the labelled regions of each group and split."""

import numpy as np
from numpy.typing import NDArray

from pipelines.records import SPLITS
from pipelines.regions.calibration.risk_control import LabelledRegions
from pipelines.regions.candidates import AllImages, Candidates
from pipelines.regions.config import RegionsConfig
from pipelines.regions.limits import suppressed
from pipelines.regions.scoring import POOLED


def calibration_groups(images: AllImages, config: RegionsConfig) -> dict[str, str]:
    """Modality -> group: its own name, or `pooled` where it has too few annotated validation images."""
    modalities = images.modality.categories
    calibrating = images.annotated & images.in_split("validation")
    counts = np.bincount(images.modality.codes[calibrating], minlength=len(modalities))
    enough = config.risk_control.min_calibration_images
    return {
        modality: modality if count >= enough else POOLED for modality, count in zip(modalities, counts, strict=True)
    }


def labelled_regions(
    candidates: Candidates, probability: NDArray[np.float64], config: RegionsConfig
) -> dict[str, dict[str, LabelledRegions]]:
    """The regions of the annotated images of each group and split: {group: {train, validation, test}}.

    Args:
        candidates: From `pipelines.regions.candidates.select_candidates`.
        probability: Of each candidate; NaN where no score could be fitted.
        config: Section `regions`.
    """
    images = candidates.images
    group_of = calibration_groups(images, config)
    # `proposals` may have skipped some annotated training images; these say nothing about thresholds.
    counted = images.annotated & (~images.in_split("train") | (np.diff(candidates.first) > 0))
    kept = _after_suppression(candidates, probability, config)
    regions: dict[str, dict[str, LabelledRegions]] = {}
    for group in sorted(set(group_of.values())):
        members = [code for code, name in enumerate(images.modality.categories) if group_of[name] == group]
        of_group = counted & np.isin(images.modality.codes, members)
        regions[group] = {
            split: _of_images(candidates, of_group & images.in_split(split), kept, probability, config.max_regions)
            for split in SPLITS
        }
    return regions


def _after_suppression(
    candidates: Candidates, probability: NDArray[np.float64], config: RegionsConfig
) -> NDArray[np.int64]:
    """Indices of the candidates, ascending, that no better candidate of the same image suppresses."""
    kept = np.zeros(len(candidates), dtype=bool)
    for _, indices in candidates.by_image():
        # Of equals the one with the lowest number, for the sort is stable.
        best_first = indices[np.argsort(-probability[indices], kind="stable")]
        reasons = suppressed(candidates.boxes(best_first), [False] * len(indices), config)
        kept[best_first] = [reason is None for reason in reasons]
    return np.flatnonzero(kept)


def _of_images(
    candidates: Candidates,
    chosen: NDArray[np.bool_],
    kept: NDArray[np.int64],
    probability: NDArray[np.float64],
    max_regions: int,
) -> LabelledRegions:
    """The kept candidates that lie on some images; patients are numbered in the order of the images."""
    _, first, group = np.unique(candidates.images.group[chosen], return_index=True, return_inverse=True)
    patient = np.argsort(np.argsort(first))[group]
    regions = kept[chosen[candidates.image[kept]]]
    image = (np.cumsum(chosen) - 1)[candidates.image[regions]]
    return LabelledRegions(
        probability=probability[regions],
        correct=candidates.correct[regions] == 1,
        image=image,
        patient=patient[image],
        images_per_patient=np.bincount(patient),
        max_per_image=max_regions,
    )
