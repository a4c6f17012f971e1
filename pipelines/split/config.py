"""Settings of the stage `split`: the section `split` of params.yaml."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Fractions:
    """Shares of a source's images, by number; they sum to 1. A split may be left out with 0."""

    train: float
    validation: float
    test: float

    def __post_init__(self) -> None:
        fractions = (self.train, self.validation, self.test)
        if min(fractions) < 0 or not math.isclose(sum(fractions), 1):
            raise ValueError(f"train, validation and test must be 0 or more and sum to 1, not to {sum(fractions):g}")


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """When two images count as the same image: both conditions hold.

    Attributes:
        max_distance: Differing bits of the 256-bit perceptual hashes, 0 to 256.
        min_correlation: Pearson correlation of the 32 x 32 thumbnails, -1 to 1.
    """

    max_distance: int
    min_correlation: float

    def __post_init__(self) -> None:
        if not 0 <= self.max_distance <= 256:
            raise ValueError("max_distance counts bits of a 256-bit hash: choose 0 to 256")
        if not -1 <= self.min_correlation <= 1:
            raise ValueError("min_correlation is a correlation: choose -1 to 1")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """The section `split`.

    Attributes:
        seed: Decides the order in which groups without a published split are dealt out.
        fractions: What the splits of a source should hold, published ones included.
        near_duplicates: Thresholds.
        allow_leaks: Sources whose published split is kept although it leaks.
    """

    seed: int
    fractions: Fractions
    near_duplicates: NearDuplicates
    allow_leaks: list[str] = field(default_factory=list)
