"""Settings of the stage `regions`."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RegionsConfig:
    """Section `regions` of params.yaml.

    Attributes:
        train: Proposer of `input` regions on training images that the source annotated.
        evaluation: Proposer of `input` regions on all other images; one that never sees the annotations.
        segmenter: Gives the masks of `input` regions whose proposer gave none.
        min_score: Least confidence, 0 to 1.
        min_side: Least width and height of a box, in pixels.
        min_area_share: Least area over image area.
        max_area_share: Largest area over image area.
        max_regions: Most `input` regions an image, best score first.
        min_mask_quality: A segmenter's mask below this quality (0 to 1) is not kept; the box stands.
        max_failed_share: Largest share of images (0 to 1) that may fail before the stage does.
        workers: Processes; 1 works in this one. The result is the same.
        options: Settings of the plug-ins, by their names.
    """

    train: str
    evaluation: str
    segmenter: str
    min_score: float
    min_side: int
    min_area_share: float
    max_area_share: float
    max_regions: int
    min_mask_quality: float
    max_failed_share: float
    workers: int
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("min_score", "min_area_share", "max_area_share", "min_mask_quality", "max_failed_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose a number from 0 to 1")
        for name in ("min_side", "max_regions", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose at least 1")
        if self.min_area_share >= self.max_area_share:
            raise ValueError("min_area_share must be smaller than max_area_share")
