"""The learning rate over a phase."""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from models.training.config import Phase


def learning_rate(phase: Phase, step: int, steps: int) -> float:
    """Rate at `step` of the phase's `steps`, both counted from 0; a plateau schedule starts with it."""
    if step < phase.warmup_steps:
        return phase.learning_rate * (step + 1) / phase.warmup_steps
    if phase.schedule != "cosine":
        return phase.learning_rate
    progress = (step - phase.warmup_steps) / max(1, steps - phase.warmup_steps)
    return phase.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


class Schedule:
    """Sets the optimiser's rate.

    Args:
        phase: Sets the rate's peak and its course.
        optimiser: Its rate is set.
        steps: Optimiser steps of the whole phase.
    """

    def __init__(self, phase: Phase, optimiser: Optimizer, steps: int) -> None:
        self.phase, self.optimiser, self.steps = phase, optimiser, steps
        self.plateau: ReduceLROnPlateau | None = None
        if phase.schedule == "plateau":
            self.plateau = ReduceLROnPlateau(optimiser, factor=phase.factor, patience=phase.patience)

    def before_step(self, step: int) -> float:
        """Set and return the rate for `step` of the phase, counted from 0."""
        if self.plateau is None or step == 0:
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate(self.phase, step, self.steps)
        rate: float = self.optimiser.param_groups[0]["lr"]
        return rate

    def after_epoch(self, validation_loss: float) -> None:
        if self.plateau is not None:
            self.plateau.step(validation_loss)

    def state(self) -> dict[str, Any] | None:
        """What a resumed run needs beside the optimiser's state."""
        return self.plateau.state_dict() if self.plateau is not None else None

    def load(self, state: dict[str, Any] | None) -> None:
        if self.plateau is not None and state is not None:
            self.plateau.load_state_dict(state)
