"""The state of a training run, and its saved form, from which a killed run continues."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.distributed import all_gather, rank
from models.method import Method
from models.training.best import BestEpoch, ends_phase, is_better, saved_best, value_of
from models.training.config import TrainingConfig
from models.training.schedule import Schedule

SavedState = dict[str, Any]


@dataclass(frozen=True)
class StepPosition:
    """Where a run stands: the next batch is number `batch` of epoch `epoch` of phase number `phase`, all from 0.

    Attributes:
        phase: Index into the phases.
        epoch: Of the phase.
        batch: Of the epoch.
        step: Optimiser steps taken, over all phases.
    """

    phase: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass(kw_only=True)
class TrainState:
    """A training run between two steps.

    Attributes:
        model: With the weights that are trained.
        optimiser: Of its parameters.
        average: Their exponential moving average, where there is one.
        phase_name: Name of the present phase.
        schedule: Of the present phase.
        position: The next batch.
        curve: Points of the training loss.
        validation: Points of the validation loss, one an epoch.
        best: The best epoch of the present phase, where something depends on it.
        stopped: Phases that ended early, and after how many epochs.
        reading: How it reads (`EngineConfig.reading`).
    """

    model: Method
    optimiser: Optimizer
    average: AveragedModel | None
    phase_name: str = ""
    schedule: Schedule | None = None
    position: StepPosition = field(default_factory=StepPosition)
    curve: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    best: BestEpoch | None = None
    stopped: dict[str, int] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)

    @property
    def checkpoint_model(self) -> torch.nn.Module:
        """The model with the weights that the checkpoint will hold."""
        return self.average.module if self.average is not None else self.model

    def end_epoch(self, config: TrainingConfig, epoch: int) -> None:
        """Compare an epoch of the present phase, number `epoch` from 1, with the best before it.

        All workers have the same validation losses and scores, so they agree.
        """
        name = self.phase_name
        if not config.chooses(name):
            return
        best = self.best if self.best is not None and self.best.phase == name else None
        value = value_of(self.validation[-1], config.best_by)
        if is_better(value, best, config.best_by):
            best = BestEpoch(
                phase=name,
                epoch=epoch,
                step=self.position.step,
                by=config.best_by,
                value=value,
                weights=self._copied_weights() if config.keeps_best_of(name) else None,
            )
        self.best = best
        if ends_phase(config, name, epoch, best) and epoch < config.phases[name].epochs:
            self.stopped[name] = epoch

    def _copied_weights(self) -> dict[str, Tensor]:
        """The checkpoint's weights; training goes on in the memory of the others."""
        return {name: value.clone() for name, value in _weights(self.checkpoint_model).items()}


def initial_state(model: Method, config: TrainingConfig, saved: SavedState | None, device: torch.device) -> TrainState:
    """The state of a new run, or that of the saved one."""
    optimiser_class = {"adamw": AdamW, "adam": Adam}[config.optimiser]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = optimiser_class(trained, lr=0.0, weight_decay=config.weight_decay)
    if saved is not None:
        model.load_state_dict(saved["trained"] or saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
    average = None
    if config.ema_decay is not None:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        average.eval()
        if saved is not None:
            average.module.load_state_dict(saved["model"])
            average.n_averaged.fill_(saved["averaged"])
    state = TrainState(model=model, optimiser=optimiser, average=average)
    if saved is not None:
        state.position = StepPosition(*saved["position"])
        state.curve, state.validation = list(saved["curve"]), list(saved["validation"])
        state.best = BestEpoch(**saved["best"]) if saved["best"] is not None else None
        state.stopped = dict(saved["stopped"])
        for source, rows in saved["random"].items():
            if rank() >= len(rows):
                # Fewer workers saved it: this one keeps the numbers that it began with.
                continue
            # A copy: torch crashes on a state that does not begin its memory.
            _set_random(source, rows[rank()].clone(), device)
    return state


def snapshot(state: TrainState, device: torch.device, *, finished: bool = False) -> SavedState:
    """Everything that `initial_state` needs to continue, as tensors and plain values.

    All workers must call it at the same step. `model` has the present weights as a checkpoint would hold them: the
    averages where there are any; `trained` then has those that are trained. `best` has those of the best epoch.
    """
    position = state.position
    return {
        "model": _weights(state.checkpoint_model),
        "trained": _weights(state.model) if state.average is not None else None,
        "averaged": int(state.average.n_averaged) if state.average is not None else 0,
        "optimiser": state.optimiser.state_dict(),
        "schedule": state.schedule.state() if state.schedule is not None else None,
        "random": _random(device),
        "position": (position.phase, position.epoch, position.batch, position.step),
        "curve": list(state.curve),
        "validation": list(state.validation),
        "best": saved_best(state.best),
        "stopped": dict(state.stopped),
        "reading": dict(state.reading),
        "finished": finished,
    }


def checkpoint_weights(saved: SavedState) -> dict[str, Tensor]:
    """What the checkpoint of a finished state holds: the best epoch's weights where these are kept, else the last."""
    best = saved["best"]
    weights: dict[str, Tensor] = best["weights"] if best is not None and best["weights"] else saved["model"]
    return weights


def _weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in model.state_dict().items()}


def _random(device: torch.device) -> dict[str, Tensor]:
    """State of the random number generators, one row for each worker: their batches draw different counts."""
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    return {source: all_gather(state.to(device).unsqueeze(0)).cpu() for source, state in own.items()}


def _set_random(source: str, state: Tensor, device: torch.device) -> None:
    if source == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
