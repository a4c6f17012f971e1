"""Settings of the stage `regions`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PromiseConfig:
    """What the certified regions promise.

    Attributes:
        precision: Least share (0 to 1, both excluded) of certified regions whose IoU with the truth is at least 0.5.
        confidence: Least probability (0 to 1, both excluded), over the draw of the calibration images, that it holds.
        min_calibration: Annotated validation images from which a modality gets a threshold of its own; those with fewer
            share one.
    """

    precision: float
    confidence: float
    min_calibration: int

    def __post_init__(self) -> None:
        for name in ("precision", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose a number between 0 and 1")
        if self.min_calibration < 1:
            raise ValueError(f"min_calibration is {self.min_calibration}: choose at least 1")


@dataclass(frozen=True, kw_only=True)
class RoundsConfig:
    """Self-training on training images that nobody annotated.

    Attributes:
        most: Most rounds of fitting again; 0 keeps the score that annotated images gave.
        accept: Probability from which a proposal counts as found and is learnt from; at one minus this it counts as
            refuted. Fixed here, so that no calibration image can reach the fit through it.
    """

    most: int
    accept: float

    def __post_init__(self) -> None:
        if self.most < 0:
            raise ValueError(f"most is {self.most}: choose 0 or more")
        if not 0.5 < self.accept < 1:
            raise ValueError(f"accept is {self.accept}: choose a number between 0.5 and 1")


@dataclass(frozen=True, kw_only=True)
class RegionsConfig:
    """Section `regions` of params.yaml.

    Attributes:
        train: What training images that the source annotated take as `input`: its `annotations`, or `proposals`.
        min_score: Least confidence of the proposer, 0 to 1.
        min_side: Least width and height of a box, in pixels.
        min_area_fraction: Least area over image area.
        max_area_fraction: Largest area over image area.
        min_mask_stability: Least stability (0 to 1) of a segmenter's mask.
        max_regions: Most proposed regions an image, most probable first; what the source drew is never cut.
        overlap: Largest IoU (0 to 1) of two proposed boxes; of two that overlap more, the less probable one goes.
        min_labelled: Training images with truth from which a modality gets a score of its own; those with fewer share
            one, fitted on all.
        min_probability: Least joint probability (0 to 1) where no threshold could be certified.
        promise: What `certified` means.
        rounds: Self-training.
        review: File of people's verdicts (JSON lines, written by `pipelines.regions.review`); empty: there are none.
    """

    train: str
    min_score: float
    min_side: int
    min_area_fraction: float
    max_area_fraction: float
    min_mask_stability: float
    max_regions: int
    overlap: float
    min_labelled: int
    min_probability: float
    promise: PromiseConfig
    rounds: RoundsConfig
    review: Path

    def __post_init__(self) -> None:
        if self.train not in ("annotations", "proposals"):
            raise ValueError(f"train is '{self.train}': choose annotations or proposals")
        shares = (
            "min_score",
            "min_area_fraction",
            "max_area_fraction",
            "min_mask_stability",
            "overlap",
            "min_probability",
        )
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose a number from 0 to 1")
        for name in ("min_side", "max_regions", "min_labelled"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose at least 1")
        if self.min_area_fraction >= self.max_area_fraction:
            raise ValueError("min_area_fraction must be smaller than max_area_fraction")
