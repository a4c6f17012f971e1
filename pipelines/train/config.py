"""Settings of the stage: section `train` of params.yaml."""

from dataclasses import dataclass
from typing import Any

from models.data.fetch import check_location
from models.training.config import EngineConfig, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """One method to train.

    Attributes:
        model: Settings of the method's own `Config`.
        training: Phases and optimiser.
    """

    model: dict[str, Any]
    training: TrainingConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All methods and how runs are carried out.

    Attributes:
        engine: For every method.
        methods: By name.
        shards_from: Folder or URL of a copy of data/shards from which the reader `stream` takes the tars; None:
            data/shards itself. It decides no result, for each tar is compared with the manifest in data/shards.
    """

    engine: EngineConfig
    methods: dict[str, MethodConfig]
    shards_from: str | None = None

    def __post_init__(self) -> None:
        if self.shards_from is None:
            return
        if self.engine.reader != "stream":
            raise ValueError("shards_from is for engine.reader stream alone: choose that reader, or remove it")
        try:
            check_location(self.shards_from)
        except ValueError as error:
            raise ValueError(f"shards_from: {error}") from None
