"""Settings of the method."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AttentionUNetConfig:
    """Settings of `AttentionUNet`.

    Attributes:
        base: Channels at full size; they double at each halving of the image.
    """

    base: int = 64
