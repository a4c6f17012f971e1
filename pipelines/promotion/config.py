"""Params of promotion."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class Floors:
    """The least values that are promoted, whatever the champion has.

    Attributes:
        all: Of all test items together; null: none.
        sources: Of the test items of a source by themselves, by its name.
        modalities: Of the test items of a modality by themselves, by its name.
    """

    all: float | None = None
    sources: dict[str, float] = field(default_factory=dict)
    modalities: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PromoteConfig:
    """Section `promote` of params.yaml: the gates that a candidate must pass.

    Attributes:
        metric: `<task>/<metric>` of metrics.json, such as retrieval/i2t_recall@10; greater must be better, and the task
            must give its items (`items.parquet`).
        tolerance: How far below the champion the candidate may lie: the 95 % interval of the difference on the same
            test items must not begin below `-tolerance`.
        floors: Least values.
        use: What the champion is for; a key of `licences`.
        licences: Use -> the licences that allow it, as `ingest.sources.<name>.licence` writes them.
        signing_key: File of the private key (PEM) that signs what becomes champion; null: nothing is signed.
    """

    metric: str
    tolerance: Annotated[float, Field(ge=0)]
    floors: Floors
    use: str
    licences: dict[str, list[str]]
    signing_key: str | None = None

    def __post_init__(self) -> None:
        if not all(self.metric.partition("/")[::2]):
            raise ValueError("metric must be <task>/<metric>, such as retrieval/i2t_recall@10")
        if self.use not in self.licences:
            raise ValueError(f"use is '{self.use}', which licences does not list: {', '.join(self.licences)}")

    @property
    def task(self) -> str:
        return self.metric.partition("/")[0]

    @property
    def score(self) -> str:
        """The metric's name within its task."""
        return self.metric.partition("/")[2]
