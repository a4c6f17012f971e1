"""Settings of the stage `report`."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Section `report` of params.yaml.

    Attributes:
        gallery: Images shown of each source.
        rejected: Examples shown of each reason code on the page of what was rejected.
    """

    gallery: Annotated[int, Field(ge=0)]
    rejected: Annotated[int, Field(ge=0)]
