"""Settings of the method."""

from dataclasses import dataclass

from models.dual_encoder import DualEncoderConfig


@dataclass(frozen=True, kw_only=True)
class ClipConfig(DualEncoderConfig):
    """Settings of `Clip`.

    Attributes:
        temperature: Divides the cosine; fixed.
    """

    temperature: float = 0.07
