"""What of a run changes with its steps, and the saved form of it, from which a killed run goes on."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.distributed import all_gather, rank
from models.method import Method
from models.training.config import TrainingConfig
from models.training.schedule import Schedule

State = dict[str, Any]


@dataclass(frozen=True)
class Position:
    """Where a run stands: the next batch is number `batch` of epoch `epoch` of phase `phase`."""

    phase: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass(kw_only=True)
class Course:
    """A run under way.

    Attributes:
        model: With the weights that are trained.
        optimiser: Of its parameters.
        average: Their exponential moving average, where there is one.
        schedule: Of the present phase.
        position: The next batch.
        curve: Points of the training loss.
        validation: Points of the validation loss, one an epoch.
    """

    model: Method
    optimiser: Optimizer
    average: AveragedModel | None
    schedule: Schedule | None = None
    position: Position = field(default_factory=Position)
    curve: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)

    @property
    def shipped(self) -> torch.nn.Module:
        """The model with the weights that the checkpoint will hold."""
        return self.average.module if self.average is not None else self.model


def begin(model: Method, config: TrainingConfig, state: State | None, device: torch.device) -> Course:
    """A new run, or the one that was saved."""
    optimiser_class = {"adamw": AdamW, "adam": Adam}[config.optimiser]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = optimiser_class(trained, lr=0.0, weight_decay=config.weight_decay)
    if state is not None:
        model.load_state_dict(state["trained"] or state["model"])
        optimiser.load_state_dict(state["optimiser"])
    average = None
    if config.ema_decay is not None:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        average.eval()
        if state is not None:
            average.module.load_state_dict(state["model"])
            average.n_averaged.fill_(state["averaged"])
    course = Course(model=model, optimiser=optimiser, average=average)
    if state is not None:
        course.position = Position(*state["position"])
        course.curve, course.validation = list(state["curve"]), list(state["validation"])
        for source, rows in state["random"].items():
            # A copy: torch crashes on a state that does not begin its memory.
            _set_random(source, rows[rank()].clone(), device)
    return course


def snapshot(course: Course, device: torch.device, *, finished: bool = False) -> State:
    """Everything that `begin` needs, as tensors and plain values; to be called on all workers together.

    `model` has the weights to ship: the averages where there are any, and then `trained` has those that are trained.
    """
    position = course.position
    return {
        "model": _weights(course.shipped),
        "trained": _weights(course.model) if course.average is not None else None,
        "averaged": int(course.average.n_averaged) if course.average is not None else 0,
        "optimiser": course.optimiser.state_dict(),
        "schedule": course.schedule.state() if course.schedule is not None else None,
        "random": _random(device),
        "position": (position.phase, position.epoch, position.batch, position.step),
        "curve": list(course.curve),
        "validation": list(course.validation),
        "finished": finished,
    }


def _weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in model.state_dict().items()}


def _random(device: torch.device) -> dict[str, Tensor]:
    """State of the random numbers on every worker, a row each: their batches draw differently many."""
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    return {source: all_gather(state.to(device).unsqueeze(0)).cpu() for source, state in own.items()}


def _set_random(source: str, state: Tensor, device: torch.device) -> None:
    if source == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
