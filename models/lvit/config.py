"""Settings of the method."""

from dataclasses import dataclass

from models.encoders import EncoderConfig
from models.lvit.variants import VARIANTS, LvitVariant


@dataclass(frozen=True, kw_only=True)
class LViTConfig:
    """Settings of `LViT`.

    Attributes:
        text_encoder: Any text model of `transformers`; published code has BERT, frozen.
        base: Channels at full size, a multiple of the 8 heads of attention.
        image_size: Side of the images in pixels, a multiple of 16: the transformers have a learned position for each
            patch.
        variant: `adapted` or `published`, see `variants.py`.
    """

    text_encoder: EncoderConfig
    base: int = 64
    image_size: int = 224
    variant: str = "adapted"

    def __post_init__(self) -> None:
        if self.base % 8:
            raise ValueError(f"base {self.base} must be a multiple of 8, the heads of the attention")
        if self.image_size % 16:
            raise ValueError(f"image_size {self.image_size} must be a multiple of 16")
        if self.variant not in VARIANTS:
            raise ValueError(f"variant '{self.variant}' is not one of: {', '.join(VARIANTS)}")

    @property
    def differences(self) -> LvitVariant:
        return VARIANTS[self.variant]
