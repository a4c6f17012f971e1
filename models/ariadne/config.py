"""Settings of the method."""

from dataclasses import dataclass

from models.encoders import EncoderConfig

LOSSES = ("dice_and_cross_entropy", "dice")


@dataclass(frozen=True, kw_only=True)
class AriadneConfig:
    """Settings of `Ariadne`.

    Attributes:
        image_encoder: A ConvNeXt.
        text_encoder: A BERT; the published code keeps its weights (`frozen`).
        heads: Of the cross-attention; the self-attention has one.
        loss: Dice and cross-entropy, which the published code asks for, or Dice alone, which is what it trains with:
            of one channel, MONAI's cross-entropy is always 0.
    """

    image_encoder: EncoderConfig
    text_encoder: EncoderConfig
    heads: int = 4
    loss: str = "dice_and_cross_entropy"

    def __post_init__(self) -> None:
        if self.heads < 1:
            raise ValueError("heads must be at least 1")
        if self.loss not in LOSSES:
            raise ValueError(f"loss '{self.loss}' is not one of: {', '.join(LOSSES)}")
