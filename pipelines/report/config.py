"""Settings of the stage `report`, and what it says about the sources."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipelines.config import PARAMS, load_section, parse
from pipelines.records import BurnedInPolicy


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Section `report` of params.yaml.

    Attributes:
        gallery: Images shown of each source.
        rejected: Examples shown of each reason code on the page of what was rejected.
    """

    gallery: Annotated[int, Field(ge=0)]
    rejected: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True)
class SourceTerms:
    """Where a source comes from, and what of its settings a reader of the data must know.

    Attributes:
        adapter: The plug-in that reads it.
        licence: Under which terms it may be used; null where params.yaml says nothing.
        burned_in: What becomes of images with text in their pixels; null: nobody looks.
    """

    adapter: str
    licence: str | None = None
    burned_in: BurnedInPolicy | None = None


def load_terms(path: Path = PARAMS) -> dict[str, SourceTerms]:
    """These settings of each source in the section `ingest` of params.yaml; its others are not read."""
    return {
        name: parse(
            SourceTerms,
            {key: source[key] for key in ("adapter", "licence", "burned_in") if key in source},
            f"{path}: ingest.sources.{name}",
        )
        for name, source in load_section("ingest", path)["sources"].items()
    }
