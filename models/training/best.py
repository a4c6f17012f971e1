"""The best epoch of a phase by its validation: what `keep: best` puts into the checkpoint, and what ends a phase early.

Losses are comparable within a phase only, since each phase has its own. So each starts anew, and the checkpoint holds
the best epoch of the last.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from models.training.config import LOSS, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class BestEpoch:
    """The best epoch of a phase so far.

    Attributes:
        phase: Its name.
        epoch: Epochs of the phase up to this one, itself included.
        step: Optimiser steps up to its end, over all phases.
        by: What it is the best by: `loss`, the lowest, or a score of the method, the highest.
        value: Of that, on the validation split.
        weights: The checkpoint's, on the CPU; None where the checkpoint will hold other ones.
    """

    phase: str
    epoch: int
    step: int
    by: str
    value: float
    weights: dict[str, Tensor] | None

    @property
    def facts(self) -> dict[str, Any]:
        """All but the weights."""
        return {name: value for name, value in vars(self).items() if name != "weights"}


def value_of(point: Mapping[str, Any], by: str) -> float:
    """What a point of the validation curve says of `best_by`."""
    value: float = point["loss"] if by == LOSS else point["scores"][by]
    return value


def is_better(value: float, best: BestEpoch | None, by: str) -> bool:
    """Whether an epoch is better than the best before it; of equal ones the first is the best, and NaN never is."""
    if not math.isfinite(value):
        return False
    if best is None:
        return True
    return value < best.value if by == LOSS else value > best.value


def ends_phase(config: TrainingConfig, phase: str, epoch: int, best: BestEpoch | None) -> bool:
    """Whether a phase ends early after its first `epoch` epochs."""
    patience = config.phases[phase].early_stopping
    return patience is not None and epoch - (best.epoch if best is not None else 0) >= patience


def saved_best(best: BestEpoch | None) -> dict[str, Any] | None:
    """As plain values and tensors."""
    return {**best.facts, "weights": best.weights} if best is not None else None
