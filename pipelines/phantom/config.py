"""Params of the stage `phantom`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """Section `phantom` of params.yaml.

    Attributes:
        images: How many images to draw.
        size: Side of the square images, pixels, at least 64 (below that the shapes cannot be told apart).
        seed: Decides every pixel and every word.
        images_per_patient: Fewest and most images of one patient.
        normal_fraction: Expected fraction of images without a lesion, 0 to 1.
        contrast: Brightness of a nodule over its surroundings, as a fraction of the grey range, above 0 and up to 0.5.
    """

    images: int
    size: int
    seed: int
    images_per_patient: tuple[int, int]
    normal_fraction: float
    contrast: float

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images is {self.images}: ask for at least 1")
        if self.size < 64:
            raise ValueError(f"size is {self.size}: ask for at least 64 pixels")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: it cannot be negative")
        fewest, most = self.images_per_patient
        if not 1 <= fewest <= most:
            raise ValueError(f"images_per_patient is [{fewest}, {most}]: give [fewest, most] with 1 <= fewest <= most")
        if not 0 <= self.normal_fraction <= 1:
            raise ValueError(f"normal_fraction is {self.normal_fraction}: it should lie between 0 and 1")
        if not 0 < self.contrast <= 0.5:
            raise ValueError(f"contrast is {self.contrast}: it should lie above 0 and not above 0.5")
