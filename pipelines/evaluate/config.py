"""Params of the stage `evaluate`."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How the 95 % intervals are computed.

    Attributes:
        samples: Number of resamples; with 1000 or more the percentiles hardly depend on the seed.
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
        tasks: Registered name of a task -> its options; each task checks its own (`Config` of its class).
        batch_size: Images or texts that are embedded at a time.
        bootstrap: How the intervals are computed.
        image_blind: Whether each task is run again with the images exchanged (`blind.py`): masks and heatmaps are then
            computed twice.
        embedding_latency: Whether the time of embedding an image and a text is measured, of methods that do not
            segment; that of a mask is measured wherever the task `segmentation` runs.
    """

    tasks: dict[str, dict[str, Any]]
    batch_size: int
    bootstrap: Bootstrap
    image_blind: bool = True
    embedding_latency: bool = False

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("tasks is empty: name at least one task")
        if self.batch_size < 1:
            raise ValueError("batch_size must be at least 1")


@dataclass(frozen=True, kw_only=True)
class RecallConfig:
    """Options of the tasks that report recall at k.

    Attributes:
        ks: The k of each recall.
    """

    ks: list[int]

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1:
            raise ValueError("ks must hold numbers of at least 1, such as [1, 5, 10]")
