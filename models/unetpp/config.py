"""Settings of the method."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class UNetPlusPlusConfig:
    """Settings of `UNetPlusPlus`.

    Attributes:
        base: Channels at full size; they double at each halving of the image.
    """

    base: int = 32
