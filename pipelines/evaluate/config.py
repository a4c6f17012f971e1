"""Params of the stage `evaluate`."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How the 95 % intervals are made.

    Attributes:
        samples: Resamples; 1000 or more give percentiles that hardly move with the seed.
        seed: Of the resampling.
    """

    samples: int
    seed: int

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError("samples must be at least 1")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Section `evaluate` of params.yaml.

    Attributes:
        tasks: Task by its registered name -> its options; each task checks its own (`Config` of its class).
        batch_size: Images or texts that are embedded at a time.
        bootstrap: Intervals.
    """

    tasks: dict[str, dict[str, Any]]
    batch_size: int
    bootstrap: Bootstrap

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("tasks is empty: name at least one task")
        if self.batch_size < 1:
            raise ValueError("batch_size must be at least 1")
