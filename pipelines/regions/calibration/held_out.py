"""Held-out evaluation: what a threshold gives on annotated images that the score was not fitted on."""

from dataclasses import dataclass

from pipelines.regions.calibration.risk_control import LabelledRegions, precision_lower_bound


@dataclass(frozen=True, kw_only=True)
class ThresholdMetrics:
    """What a threshold gives on the annotated images of a split.

    Attributes:
        images: Annotated images.
        patients: Patients of these images.
        accepted: Accepted regions.
        correct: Accepted regions whose IoU with the truth is at least 0.5.
        precision: The precision that is promised (`regions.risk_control.quantity`); None where no region is accepted.
        precision_low: Lower bound of the precision at the configured confidence, for a threshold fixed beforehand. It
            is exact on test images. On calibration images it is not, because these selected the threshold: there the
            guarantee holds instead.
        coverage: Fraction of images with an accepted region.
    """

    images: int
    patients: int
    accepted: int
    correct: int
    precision: float | None
    precision_low: float | None
    coverage: float


def evaluate_threshold(
    regions: LabelledRegions, threshold: float, confidence: float, quantity: str
) -> ThresholdMetrics:
    """Metrics of a threshold on the regions of a split."""
    accepted = regions.probability >= threshold
    images = int(regions.images_per_patient.sum())
    precision = regions.precision(threshold, quantity)
    return ThresholdMetrics(
        images=images,
        patients=len(regions.images_per_patient),
        accepted=int(accepted.sum()),
        correct=int((accepted & regions.correct).sum()),
        precision=None if precision is None else round(precision, 4),
        precision_low=precision_lower_bound(regions, threshold, confidence, quantity),
        coverage=round(len(set(regions.image[accepted])) / images, 4) if images else 0.0,
    )
