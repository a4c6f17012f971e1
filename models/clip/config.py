"""Settings of the method."""

from dataclasses import dataclass

from models.encoders import EncoderConfig


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Settings of `Clip`.

    Attributes:
        image_encoder: Any image model of `transformers`.
        text_encoder: Any text model of `transformers`.
        embedding_size: Dimensions of the shared space.
        temperature: Divides the cosine; fixed.
    """

    image_encoder: EncoderConfig
    text_encoder: EncoderConfig
    embedding_size: int = 512
    temperature: float = 0.07
