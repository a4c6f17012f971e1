"""Calibration groups: which modalities share a threshold, and the labelled regions of each group and split."""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

from pipelines.records import SPLITS, SplitImageRow
from pipelines.regions.calibration.risk_control import LabelledRegions
from pipelines.regions.candidates import Candidate, boxes_of, correctness, indices_by_image
from pipelines.regions.config import RegionsConfig
from pipelines.regions.limits import suppressed
from pipelines.regions.scoring import POOLED


def calibration_groups(
    images: Iterable[SplitImageRow], annotated: AbstractSet[str], config: RegionsConfig
) -> dict[str, str]:
    """Modality -> group: its own name, or `pooled` where it has too few annotated validation images."""
    counts: Counter[str] = Counter()
    for image in images:
        counts[image.modality] += image.split == "validation" and image.image_id in annotated
    enough = config.risk_control.min_calibration_images
    return {modality: modality if count >= enough else POOLED for modality, count in sorted(counts.items())}


def labelled_regions(
    images: Sequence[SplitImageRow],
    annotated: AbstractSet[str],
    candidates: Sequence[Candidate],
    probability: NDArray[np.float64],
    config: RegionsConfig,
) -> dict[str, dict[str, LabelledRegions]]:
    """The regions of the annotated images of each group and split: {group: {train, validation, test}}.

    Args:
        images: All images.
        annotated: Ids of the annotated ones.
        candidates: From `pipelines.regions.candidates.select_candidates`.
        probability: Of each candidate; NaN where no score could be fitted.
        config: Section `regions`.
    """
    group_of = calibration_groups(images, annotated, config)
    # `proposals` may have skipped some annotated training images; these say nothing about thresholds.
    with_candidates = {candidate.image.image_id for candidate in candidates}
    counted = [
        image
        for image in images
        if image.image_id in annotated and (image.split != "train" or image.image_id in with_candidates)
    ]
    kept = _after_suppression(candidates, probability, config)
    regions = [candidates[index] for index in kept]
    return {
        group: {
            split: _of_images(
                [image for image in counted if group_of[image.modality] == group and image.split == split],
                regions,
                probability[kept],
                config.max_regions,
            )
            for split in SPLITS
        }
        for group in sorted(set(group_of.values()))
    }


def _after_suppression(
    candidates: Sequence[Candidate], probability: NDArray[np.float64], config: RegionsConfig
) -> NDArray[np.int64]:
    """Indices of the candidates, ascending, that no better candidate of the same image suppresses."""
    kept: list[int] = []
    boxes = boxes_of(candidates)
    numbers = np.array([candidate.proposal.n for candidate in candidates], dtype=np.int64)
    for indices in indices_by_image([candidate.proposal for candidate in candidates]).values():
        best_first = indices[np.lexsort((numbers[indices], -probability[indices]))]
        reasons = suppressed(boxes[best_first].tolist(), [False] * len(indices), config)
        kept += [int(index) for index, reason in zip(best_first, reasons, strict=True) if reason is None]
    return np.array(sorted(kept), dtype=np.int64)


def _of_images(
    images: Sequence[SplitImageRow],
    regions: Sequence[Candidate],
    probability: NDArray[np.float64],
    max_regions: int,
) -> LabelledRegions:
    """The regions that lie on some images; patients are numbered in the order of the images."""
    image_index = {image.image_id: index for index, image in enumerate(images)}
    patient_index: dict[str, int] = {}
    for image in images:
        patient_index.setdefault(image.group, len(patient_index))
    patient_of_image = np.array([patient_index[image.group] for image in images], dtype=np.int64)
    rows = [row for row, region in enumerate(regions) if region.image.image_id in image_index]
    of_images = [regions[row] for row in rows]
    return LabelledRegions(
        probability=probability[rows],
        correct=correctness(of_images) == 1,
        image=np.array([image_index[region.image.image_id] for region in of_images], dtype=np.int64),
        patient=np.array([patient_index[region.image.group] for region in of_images], dtype=np.int64),
        images_per_patient=np.bincount(patient_of_image, minlength=len(patient_index)),
        max_per_image=max_regions,
    )
