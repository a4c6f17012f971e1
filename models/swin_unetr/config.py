"""Settings of the method."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SwinUnetrConfig:
    """Settings of `SwinUnetr`.

    Attributes:
        feature_size: Channels at full size, a multiple of 12; they double at each stage of the transformer.
    """

    feature_size: int = 24

    def __post_init__(self) -> None:
        if self.feature_size % 12:
            raise ValueError(f"feature_size {self.feature_size} must be a multiple of 12")
