"""Settings of the audit."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Section `audit` of params.yaml.

    Attributes:
        answers: File of the answers of people, a dependency of the stage `report`; it may be empty.
        seed: Of the random sample.
        regions: Accepted regions in the proportional part of the sample.
        captions: Captions in the proportional part of the sample.
        min_per_stratum: Least items of a stratum; small strata get more than their proportional share for it.
        confidence: Of the intervals.
    """

    answers: str
    seed: int
    regions: Annotated[int, Field(ge=1)]
    captions: Annotated[int, Field(ge=1)]
    min_per_stratum: Annotated[int, Field(ge=0)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
