"""Settings of the method."""

from dataclasses import dataclass

from models.dual_encoder import DualEncoderConfig


@dataclass(frozen=True, kw_only=True)
class ConvirtConfig(DualEncoderConfig):
    """Settings of `Convirt`; the defaults are the paper's.

    Attributes:
        temperature: tau; divides the cosine; fixed.
        image_to_text: lambda, the weight of the loss from image to text; the other direction has 1 - lambda.
    """

    temperature: float = 0.1
    image_to_text: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.image_to_text <= 1:
            raise ValueError(f"image_to_text is {self.image_to_text}; it is a fraction from 0 to 1")
