"""Settings of the method."""

from dataclasses import dataclass

from models.encoders import EncoderConfig

LOSSES = ("dice_and_cross_entropy", "dice")


@dataclass(frozen=True, kw_only=True)
class AriadneConfig:
    """Settings of `Ariadne`.

    Attributes:
        image_encoder: A ConvNeXt; with `pyramid_widths` any other.
        text_encoder: A BERT; the published code keeps its weights (`frozen`).
        pyramid_widths: Make the features at 1/4, 1/8, 1/16 and 1/32 of the image encoder's patches, of these widths;
            None: they are its four stages.
        heads: Of the cross-attention; the self-attention has one.
        loss: Dice and cross-entropy, which the published code asks for, or Dice alone, which is what it trains with:
            of one channel, MONAI's cross-entropy is always 0.
    """

    image_encoder: EncoderConfig
    text_encoder: EncoderConfig
    pyramid_widths: tuple[int, ...] | None = None
    heads: int = 4
    loss: str = "dice_and_cross_entropy"

    def __post_init__(self) -> None:
        if self.heads < 1:
            raise ValueError("heads must be at least 1")
        if self.loss not in LOSSES:
            raise ValueError(f"loss '{self.loss}' is not one of: {', '.join(LOSSES)}")
