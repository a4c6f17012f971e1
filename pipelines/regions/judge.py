"""The thresholds and what they are worth: certified on validation images, measured on test images."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.records import SPLITS
from pipelines.regions.candidates import truth_of
from pipelines.regions.checks import surplus
from pipelines.regions.config import RegionsConfig
from pipelines.regions.features import BOX
from pipelines.regions.promise import Sample, certify, lower_bound, sequence
from pipelines.regions.scoring import POOLED


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a threshold gives on the annotated images of a split.

    Attributes:
        images: Annotated images.
        patients: Patients of these.
        accepted: Regions accepted.
        right: Those of them whose IoU with the truth is at least 0.5.
        precision: Share of accepted regions that are right, each patient counted once; None where none is accepted.
        precision_low: Lower bound of it at the promise's confidence, for a threshold fixed beforehand. Exact on test
            images; on the calibration images, which chose the threshold, read the promise instead.
        coverage: Share of images with an accepted region.
    """

    images: int
    patients: int
    accepted: int
    right: int
    precision: float | None
    precision_low: float | None
    coverage: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of one group.

    Attributes:
        threshold: Least probability that keeps the promise; None where none was certified.
        reason: Why none was: no_score, no_calibration_images, no_fitting_images or
            first_threshold_failed.
        calibration: Figures at the threshold (where there is none: at `min_probability`) on validation images.
        test: The same on test images.
    """

    threshold: float | None
    reason: str | None
    calibration: Figures
    test: Figures

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def superfluous(candidates: pd.DataFrame, rank: NDArray[np.float64], config: RegionsConfig) -> NDArray[np.bool_]:
    """Candidates that go because better ones of the same image stand, best first by `rank`."""
    out = np.zeros(len(candidates), dtype=bool)
    boxes, numbers = candidates[BOX].to_numpy(dtype=float), candidates["n"].to_numpy(dtype=int)
    for rows in candidates.groupby("image_id", sort=False).indices.values():
        best_first = rows[np.lexsort((numbers[rows], -rank[rows]))]
        reasons = surplus(boxes[best_first].tolist(), [False] * len(rows), config)
        out[best_first] = [reason is not None for reason in reasons]
    return out


def groups_of(images: pd.DataFrame, config: RegionsConfig) -> dict[str, str]:
    """Modality -> group: its own name, or `pooled` where it has too few annotated validation images."""
    counts = images[images["annotated"] & (images["split"] == "validation")]["modality"].value_counts()
    enough = config.promise.min_calibration
    return {name: name if counts.get(name, 0) >= enough else POOLED for name in sorted(set(images["modality"]))}


def sample_of(
    images: pd.DataFrame, candidates: pd.DataFrame, probability: NDArray[np.float64], config: RegionsConfig
) -> Sample:
    """What the promise is tested on.

    Args:
        images: Annotated images, with `image_id` and `group`, one row each.
        candidates: All usable proposals of these images.
        probability: Of each candidate.
        config: The limits.
    """
    standing = ~superfluous(candidates, probability, config)
    kept = candidates[standing]
    patients = pd.Index(images["group"]).unique()
    return Sample(
        probability=probability[standing],
        right=truth_of(kept) == 1,
        image=pd.Index(images["image_id"]).get_indexer(kept["image_id"]),
        patient=patients.get_indexer(kept["group"]),
        images=np.bincount(patients.get_indexer(images["group"]), minlength=len(patients)),
        most=config.max_regions,
    )


def samples_of(
    images: pd.DataFrame, candidates: pd.DataFrame, probability: NDArray[np.float64], config: RegionsConfig
) -> dict[str, dict[str, Sample]]:
    """The annotated images of each group and split: {group: {train, validation, test}}.

    Args:
        images: With `image_id`, `group`, `modality`, `split`, `annotated`.
        candidates: From `pipelines.regions.candidates.usable`.
        probability: Of each candidate; NaN where no score could be fitted.
        config: Section `regions`.
    """
    group_of = groups_of(images, config)
    # The proposers may have been spared some annotated training images; these say nothing about thresholds.
    counted = images["annotated"] & ((images["split"] != "train") | images["image_id"].isin(candidates["image_id"]))
    samples: dict[str, dict[str, Sample]] = {}
    for name in sorted(set(group_of.values())):
        of_group = images[counted & (images["modality"].map(group_of) == name)]
        samples[name] = {}
        for split in SPLITS:
            of_split = of_group[of_group["split"] == split]
            rows = candidates["image_id"].isin(of_split["image_id"]).to_numpy()
            samples[name][split] = sample_of(of_split, candidates[rows], probability[rows], config)
    return samples


def judge(splits: dict[str, Sample], config: RegionsConfig) -> Verdict:
    """The outcome of one group.

    Training images (their out-of-fold probabilities) choose the order of the thresholds, validation images choose among
    them, test images say how it went.
    """
    threshold, reason = None, "first_threshold_failed"
    thresholds = sequence(splits["train"], len(splits["validation"].images), config.promise)
    if any(np.isnan(sample.probability).any() for sample in splits.values()):
        reason = "no_score"
    elif not len(splits["validation"].images):
        reason = "no_calibration_images"
    elif not thresholds:
        reason = "no_fitting_images"
    else:
        threshold = certify(thresholds, splits["validation"], config.promise)
    used = config.min_probability if threshold is None else threshold
    return Verdict(
        threshold=threshold,
        reason=reason if threshold is None else None,
        calibration=figures(splits["validation"], used, config.promise.confidence),
        test=figures(splits["test"], used, config.promise.confidence),
    )


def figures(sample: Sample, threshold: float, confidence: float) -> Figures:
    """What a threshold gives on a sample."""
    accepted = sample.probability >= threshold
    images = int(sample.images.sum())
    precision = sample.precision(threshold)
    return Figures(
        images=images,
        patients=len(sample.images),
        accepted=int(accepted.sum()),
        right=int((accepted & sample.right).sum()),
        precision=None if precision is None else round(precision, 4),
        precision_low=lower_bound(sample, threshold, confidence),
        coverage=round(len(set(sample.image[accepted])) / images, 4) if images else 0.0,
    )
