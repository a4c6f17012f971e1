"""Settings of the method."""

from dataclasses import dataclass

from models.encoders import EncoderConfig


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Settings of `UNet`.

    Attributes:
        base: Channels at full size.
        image_encoder: Whose patches are mixed with the deepest features (`models/segmentation/pretrained.py`).
    """

    base: int = 64
    image_encoder: EncoderConfig | None = None
