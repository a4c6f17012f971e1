"""Settings of the method."""

from dataclasses import dataclass

from models.encoders import EncoderConfig


@dataclass(frozen=True, kw_only=True)
class LavtConfig:
    """Settings of `Lavt`.

    Attributes:
        image_encoder: A Swin transformer of four stages; the paper has the base size with weights from ImageNet-22K.
        text_encoder: A BERT, trained with the rest.
    """

    image_encoder: EncoderConfig
    text_encoder: EncoderConfig
