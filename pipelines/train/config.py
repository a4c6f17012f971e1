"""Settings of the stage: section `train` of params.yaml."""

from dataclasses import dataclass
from typing import Any

from models.training.config import EngineConfig, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """One method to train.

    Attributes:
        code: Folder of the method's module, which DVC watches.
        model: Settings of the method's own `Config`.
        training: Phases and optimiser.
    """

    code: str
    model: dict[str, Any]
    training: TrainingConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All methods and how runs are carried out."""

    engine: EngineConfig
    methods: dict[str, MethodConfig]
