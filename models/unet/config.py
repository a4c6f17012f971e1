"""Settings of the method."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Settings of `UNet`.

    Attributes:
        base: Channels at full size.
    """

    base: int = 64
