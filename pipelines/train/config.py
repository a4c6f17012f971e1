"""Settings of the stage: section `train` of params.yaml."""

from dataclasses import dataclass
from typing import Any

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
    """All methods and how runs are carried out."""

    engine: EngineConfig
    methods: dict[str, MethodConfig]
