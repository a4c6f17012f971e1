"""Settings of the method."""

from dataclasses import dataclass

from models.dual_encoder import DualEncoderConfig


@dataclass(frozen=True, kw_only=True)
class SiglipConfig(DualEncoderConfig):
    """Settings of `Siglip`; the defaults are the paper's starting values, from which both are learned.

    Attributes:
        initial_scale: t, which multiplies the cosine; its logarithm is learned.
        initial_bias: b; so low because nearly all pairs of a batch do not match.
    """

    initial_scale: float = 10.0
    initial_bias: float = -10.0
