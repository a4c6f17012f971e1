"""Settings of the stage `regions`."""

from dataclasses import dataclass
from pathlib import Path

# What risk control can promise: setting -> of what at least the target precision is correct, as pages and cards say it.
QUANTITIES = {
    "region": "the accepted regions (each patient counted once)",
    "patient_mean": "a patient's accepted regions (on the mean over patients)",
    "patient_best": "the patients' best accepted regions (the most probable one of each patient)",
}


@dataclass(frozen=True, kw_only=True)
class RiskControlConfig:
    """The guarantee that the thresholds give (learn-then-test).

    Attributes:
        quantity: Which precision is promised, a key of `QUANTITIES`: that of the accepted regions (`region`), the mean
            over patients of the precision of each one's accepted regions (`patient_mean`), or that of each patient's
            most probable accepted region (`patient_best`), which alone is certified then.
        target_precision: Least value (0 to 1, both excluded) of this precision; a region is correct if its IoU with the
            truth is at least 0.5.
        confidence: Least probability (0 to 1, both excluded), over the draw of the calibration images, that the target
            is met.
        min_calibration_images: Annotated validation images from which a modality gets a threshold of its own; the
            modalities with fewer share one.
    """

    quantity: str
    target_precision: float
    confidence: float
    min_calibration_images: int

    def __post_init__(self) -> None:
        if self.quantity not in QUANTITIES:
            raise ValueError(f"quantity is '{self.quantity}': choose {', '.join(QUANTITIES)}")
        for name in ("target_precision", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose a number between 0 and 1")
        if self.min_calibration_images < 1:
            raise ValueError(f"min_calibration_images is {self.min_calibration_images}: choose at least 1")


@dataclass(frozen=True, kw_only=True)
class SelfTrainingConfig:
    """Self-training on training images that nobody annotated.

    Attributes:
        max_rounds: Most rounds after the first fit; 0 keeps the score that was fitted on annotated images.
        pseudo_label_threshold: Probability (0.5 to 1, both excluded) from which a proposal is pseudo-labelled as
            correct; at one minus this it is pseudo-labelled as wrong. It is set here and not calibrated, so that no
            calibration image can influence the fit through it.
    """

    max_rounds: int
    pseudo_label_threshold: float

    def __post_init__(self) -> None:
        if self.max_rounds < 0:
            raise ValueError(f"max_rounds is {self.max_rounds}: choose 0 or more")
        if not 0.5 < self.pseudo_label_threshold < 1:
            raise ValueError(
                f"pseudo_label_threshold is {self.pseudo_label_threshold}: choose a number between 0.5 and 1"
            )


@dataclass(frozen=True, kw_only=True)
class RegionsConfig:
    """Section `regions` of params.yaml.

    Attributes:
        training_regions: Where the `input` regions of annotated training images come from: the source's `annotations`,
            or `proposals`.
        min_score: Least confidence of the proposer, 0 to 1.
        min_side: Least width and height of a box, in pixels.
        min_area_fraction: Least area over image area.
        max_area_fraction: Largest area over image area.
        min_mask_stability: Least stability (0 to 1) of a segmenter's mask.
        max_regions: Most proposed regions of an image; the most probable ones stay. It does not limit annotations.
        nms_iou: Largest IoU (0 to 1) of two proposed boxes in one image; of two that overlap more, non-maximum
            suppression drops the less probable one.
        min_labelled: Labelled training images from which a modality gets a joint score of its own; the modalities with
            fewer share one, which is fitted on all.
        min_probability: Least joint probability (0 to 1) of an accepted region where no threshold could be certified.
        risk_control: The guarantee for certified regions.
        self_training: Self-training of the joint score.
        review: File of review labels (JSON lines, written by `pipelines.regions.review`); it may be empty.
    """

    training_regions: str
    min_score: float
    min_side: int
    min_area_fraction: float
    max_area_fraction: float
    min_mask_stability: float
    max_regions: int
    nms_iou: float
    min_labelled: int
    min_probability: float
    risk_control: RiskControlConfig
    self_training: SelfTrainingConfig
    review: Path

    def __post_init__(self) -> None:
        if self.training_regions not in ("annotations", "proposals"):
            raise ValueError(f"training_regions is '{self.training_regions}': choose annotations or proposals")
        fractions = (
            "min_score",
            "min_area_fraction",
            "max_area_fraction",
            "min_mask_stability",
            "nms_iou",
            "min_probability",
        )
        for name in fractions:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose a number from 0 to 1")
        for name in ("min_side", "max_regions", "min_labelled"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose at least 1")
        if self.min_area_fraction >= self.max_area_fraction:
            raise ValueError("min_area_fraction must be smaller than max_area_fraction")
