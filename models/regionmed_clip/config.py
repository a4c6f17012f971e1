"""Settings of the method."""

from dataclasses import dataclass

from models.dual_encoder import DualEncoderConfig

EMBEDDINGS = ("global", "regions", "mean")
NEGATIVE_LOSSES = ("sigmoid", "softmax")


@dataclass(frozen=True, kw_only=True)
class RegionMedClipConfig(DualEncoderConfig):
    """Settings of `RegionMedClip`; whole images and region crops share the image encoder (eq. 1).

    Attributes:
        temperature: tau of eqs. 5 and 7.
        symmetric: Both directions of eqs. 5 and 7; False is the form as printed, image to text alone.
        negative_loss: sigmoid is eq. 6; softmax asks only that the region's own caption comes before the altered ones.
        negative_temperature: Divides N in eq. 6; None is the paper's form. The softmax has `temperature`.
        heads: Attention heads of the ROI processor.
        max_regions: Regions an image at most.
        embedding: What stands for an image at inference, which the paper leaves open: its global embedding, the mean
            of its fused regions, or the mean of both. An image without regions is its own region.
    """

    temperature: float = 0.07
    symmetric: bool = True
    negative_loss: str = "sigmoid"
    negative_temperature: float | None = None
    heads: int = 8
    max_regions: int = 4
    embedding: str = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding not in EMBEDDINGS:
            raise ValueError(f"embedding '{self.embedding}' is not one of: {', '.join(EMBEDDINGS)}")
        if self.negative_loss not in NEGATIVE_LOSSES:
            raise ValueError(f"negative_loss '{self.negative_loss}' is not one of: {', '.join(NEGATIVE_LOSSES)}")
