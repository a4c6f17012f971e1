"""Train any method: phases, schedule, gradient clipping, and states from which a killed run goes on.

A run that was killed and resumed ends with the weights of one that was not: the order of the samples follows from the
seed and the position, and the state holds weights, optimiser, position and random state.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.data.batches import Batch, Collate
from models.distributed import all_reduce_sum, rank, world_size
from models.method import Method
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.data import EpochShare, Plan, epoch_batches

State = dict[str, Any]

# Points of a loss curve at most, about: enough to draw, whatever the length of the run.
CURVE_POINTS = 400

# Points of the curve between two lines of the log.
SHOW_EVERY = 10


@dataclass(frozen=True)
class Position:
    """Where a run stands: the next batch is number `batch` of epoch `epoch` of phase `phase`."""

    phase: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0


def positions(config: TrainingConfig, plan: Plan, start: Position) -> Iterator[tuple[Position, Phase, int]]:
    """Every epoch still to run: its first position, its phase, and its number over all phases."""
    number, step = 0, 0
    for index, phase in enumerate(config.phases):
        steps = plan.steps(phase.batch_size)
        for epoch in range(phase.epochs):
            if (index, epoch) >= (start.phase, start.epoch):
                first = start.batch if (index, epoch) == (start.phase, start.epoch) else 0
                if first < steps:
                    yield Position(index, epoch, first, step + first), phase, number
            number += 1
            step += steps


def learning_rate(phase: Phase, step: int, steps: int) -> float:
    """Rate at `step` of the phase's `steps`, both counted from 0."""
    if step < phase.warmup_steps:
        return phase.learning_rate * (step + 1) / phase.warmup_steps
    if phase.schedule == "constant":
        return phase.learning_rate
    share = (step - phase.warmup_steps) / max(1, steps - phase.warmup_steps)
    return phase.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def fit(
    model: Method,
    plan: Plan,
    collate: Collate,
    config: TrainingConfig,
    engine: EngineConfig,
    *,
    device: torch.device,
    state: State | None,
    save: Callable[[State], None],
) -> State:
    """Train to the end of the last phase.

    Args:
        model: The method, on `device`.
        plan: The training split.
        collate: Samples to batches.
        config: Phases and optimiser.
        engine: Seed, threads, saving.
        device: Where to compute.
        state: What `save` was given by an earlier, unfinished run of the same inputs, or None.
        save: Called on every worker at the same steps with the state; keeps it.

    Returns:
        The last state, `finished`.

    Raises:
        ValueError: A phase is larger than the training split, or names a loss that the method does not have.
        FloatingPointError: The loss is not finite; the message names the step and the batch.
    """
    check_phases(model, plan.usable, config, world_size())
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=config.weight_decay)
    curve: list[dict[str, Any]] = []
    start = Position()
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        curve, start = list(state["curve"]), Position(*state["position"])

    def snapshot(position: Position, finished: bool = False) -> State:
        return {
            "model": {name: value.detach().cpu() for name, value in model.state_dict().items()},
            "optimiser": optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "position": (position.phase, position.epoch, position.batch, position.step),
            "curve": list(curve),
            "finished": finished,
        }

    total_steps = sum(phase.epochs * plan.steps(phase.batch_size) for phase in config.phases)
    record_every = max(1, total_steps // CURVE_POINTS)
    # The unused parameters differ between phases: the ROI processor rests while whole images are aligned.
    wrapped = DistributedDataParallel(model, find_unused_parameters=True) if world_size() > 1 else model
    model.train()
    position, begun = start, time.perf_counter()
    for first, phase, epoch_number in positions(config, plan, start):
        steps = plan.steps(phase.batch_size)
        share = EpochShare(plan, collate, epoch_number, phase.batch_size, first.batch, rank(), world_size())
        waited = time.perf_counter()
        for offset, batch in enumerate(epoch_batches(share, engine.loader_workers)):
            started = time.perf_counter()
            position = Position(first.phase, first.epoch, first.batch + offset + 1, first.step + offset + 1)
            rate = learning_rate(phase, first.epoch * steps + first.batch + offset, phase.epochs * steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            terms = _update(wrapped, optimiser, batch.to(device), phase, position, config.gradient_clip)
            if position.step % record_every == 0:
                curve.append(_point(position, phase, rate, terms))
                if len(curve) % SHOW_EVERY == 1:
                    now = time.perf_counter()
                    left = (now - begun) / (position.step - start.step) * (total_steps - position.step)
                    speed = f"{phase.batch_size / (now - waited):.0f} images/s"
                    _show(curve[-1], total_steps, f"{speed}, {1000 * (started - waited):.0f} ms waiting for data", left)
            if position.step % engine.checkpoint_every == 0:
                save(snapshot(position))
            waited = time.perf_counter()
    final = snapshot(position, finished=True)
    save(final)
    return final


def check_phases(model: Method, usable: int, config: TrainingConfig, workers: int) -> None:
    """Refuse phases that cannot be trained.

    Raises:
        ValueError: A batch is larger than the training split or cannot be shared evenly, or a loss is unknown.
    """
    for phase in config.phases:
        if usable < phase.batch_size:
            raise ValueError(
                f"phase '{phase.name}' has batch_size {phase.batch_size}, but only {usable} training images "
                "have text: lower batch_size or add data"
            )
        if phase.batch_size % workers:
            raise ValueError(f"batch_size {phase.batch_size} of phase '{phase.name}' is no multiple of the workers")
        if unknown := set(phase.losses) - set(model.losses):
            raise ValueError(
                f"phase '{phase.name}' asks for the losses {sorted(unknown)}; the method has: {', '.join(model.losses)}"
            )


def _update(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    phase: Phase,
    position: Position,
    gradient_clip: float,
) -> dict[str, Tensor]:
    """One optimiser step; the losses it took."""
    terms: dict[str, Tensor] = module(batch, phase.losses)
    loss = torch.stack(list(terms.values())).sum()
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"loss is {loss.item()} at step {position.step} ({phase.name}); images: {', '.join(batch.keys)}"
        )
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), gradient_clip)
    optimiser.step()
    return terms


def _point(position: Position, phase: Phase, rate: float, terms: dict[str, Tensor]) -> dict[str, Any]:
    values = {name: float(all_reduce_sum(value.detach())) / world_size() for name, value in terms.items()}
    return {
        "step": position.step,
        "phase": phase.name,
        "loss": sum(values.values()),
        "terms": values,
        "lr": rate,
    }


def _show(point: dict[str, Any], total_steps: int, speed: str, left: float) -> None:
    if rank() == 0:
        terms = " ".join(f"{name} {value:.3f}" for name, value in point["terms"].items())
        print(
            f"step {point['step']} of {total_steps} {point['phase']}: loss {point['loss']:.3f} ({terms}), {speed}, "
            f"{left:.0f} s left",
            flush=True,
        )
