"""Train any method: phases, schedule, gradient clipping, and states from which a killed run continues.

A run that was killed and resumed ends with the weights of one that was not: the order of the samples follows from the
seed and the position, and the state holds weights, optimiser, schedule, position and random states.
"""

import logging
import time
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.distributed import all_reduce_sum, rank, world_size
from models.method import CollateFunction, Method
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.data import EpochRange, RankShardedDataset, SamplingPlan, load
from models.training.prepare import check_phases, prepare
from models.training.schedule import Schedule
from models.training.state import SavedState, StepPosition, TrainState, initial_state, snapshot
from models.training.throughput import Throughput

logger = logging.getLogger(__name__)

# Points of a loss curve at most, about: enough to draw, whatever the length of the run.
CURVE_POINTS = 400

# Points of the curve between two lines of the log.
LOG_EVERY = 10


def epoch_starts(
    config: TrainingConfig, plan: SamplingPlan, start: StepPosition
) -> Iterator[tuple[StepPosition, Phase, int]]:
    """Every epoch still to run: its first position, its phase, and its number over all phases."""
    number, step = 0, 0
    for index, phase in enumerate(config.phases.values()):
        steps = plan.steps(phase.batch_size)
        for epoch in range(phase.epochs):
            if (index, epoch) >= (start.phase, start.epoch):
                first = start.batch if (index, epoch) == (start.phase, start.epoch) else 0
                if first < steps:
                    yield StepPosition(index, epoch, first, step + first), phase, number
            number += 1
            step += steps


def fit(
    model: Method,
    plan: SamplingPlan,
    collate: CollateFunction,
    config: TrainingConfig,
    engine: EngineConfig,
    *,
    device: torch.device,
    saved: SavedState | None,
    save: Callable[[SavedState], None],
    validation: SamplingPlan | None = None,
    on_point: Callable[[str, dict[str, Any]], None] | None = None,
) -> SavedState:
    """Train to the end of the last phase.

    Args:
        model: The method, on `device`.
        plan: The training split.
        collate: Samples to batches.
        config: Phases and optimiser.
        engine: Seed, precision, saving.
        device: Where to compute.
        saved: What `save` was given by an earlier, unfinished run of the same inputs, or None.
        save: Called on every worker at the same steps with the state; keeps it.
        validation: The validation split; a phase whose batch it cannot fill has no validation loss.
        on_point: Called on the first worker with the curve's name, `steps` or `validation`, and each new point of it.

    Returns:
        The last state, `finished`, and beside it the figures of `Throughput.result` for this call (`throughput`).

    Raises:
        ValueError: A phase cannot be trained; see `check_phases`.
        FloatingPointError: The loss, or its gradient, is not finite; raised on all workers together, and the message
            names the step and the images.
    """
    validated = validation.steps(1) if validation is not None else 0
    check_phases(model, config, engine, usable=plan.steps(1), validation=validated)
    prepare(model, config, engine)
    # Otherwise all workers would drop the same rows' features.
    torch.manual_seed(engine.seed + rank())
    state = initial_state(model.train(), config, saved, device)
    total_steps = sum(phase.epochs * plan.steps(phase.batch_size) for phase in config.phases.values())
    record_every = max(1, total_steps // CURVE_POINTS)
    start = state.position
    epochs = list(epoch_starts(config, plan, start))
    ranges = []
    for first, phase, number in epochs:
        ranges.append(EpochRange(plan=plan, epoch=number, batch_size=phase.batch_size, first=first.batch))
        if validated >= phase.batch_size and validation is not None:
            ranges.append(EpochRange(plan=validation, epoch=0, batch_size=phase.batch_size, augmented=False))
    dataset = RankShardedDataset(ranges, collate, rank(), world_size())
    batches = load(dataset, engine.loader_workers, pin=device.type == "cuda") if ranges else iter(())
    # The unused parameters differ between phases: the ROI processor rests while whole images are aligned.
    wrapped = DistributedDataParallel(model, find_unused_parameters=True) if world_size() > 1 else model
    throughput = Throughput(device)
    for index, epochs_of_phase in groupby(epochs, key=lambda epoch: epoch[0].phase):
        state.phase_name, phase = list(config.phases.items())[index]
        steps = plan.steps(phase.batch_size)
        schedule = state.schedule = Schedule(phase, state.optimiser, phase.epochs * steps)
        if saved is not None and index == start.phase:
            schedule.load(saved["schedule"])
        for first, _, _ in epochs_of_phase:
            throughput.resume()
            for number in range(first.batch, steps):
                requested = time.perf_counter()
                batch = next(batches)
                waited = time.perf_counter() - requested
                position = StepPosition(index, first.epoch, number + 1, first.step + number + 1 - first.batch)
                rate = schedule.before_step(first.epoch * steps + number)
                terms = _update(wrapped, state, batch.to(device), phase, position, config.gradient_clip)
                throughput.step(phase.batch_size, waited)
                if position.step % record_every == 0:
                    state.curve.append(_point(state, _mean_over_workers(terms)) | {"lr": rate})
                    _tell(on_point, "steps", state.curve[-1])
                    if len(state.curve) % LOG_EVERY == 1:
                        _log(state.curve[-1], total_steps, throughput.line(total_steps - position.step))
                if number + 1 == steps and validated >= phase.batch_size:
                    losses = _validate(state, islice(batches, validated // phase.batch_size), phase, device)
                    state.validation.append(_point(state, losses))
                    _tell(on_point, "validation", state.validation[-1])
                    schedule.after_epoch(state.validation[-1]["loss"])
                    throughput.resume()
                # After the validation, so that a state at the end of an epoch has it.
                if position.step % engine.checkpoint_every == 0:
                    save(snapshot(state, device))
    final = snapshot(state, device, finished=True) | {"throughput": throughput.result()}
    save(final)
    return final


def _update(
    module: nn.Module, state: TrainState, batch: Any, phase: Phase, position: StepPosition, gradient_clip: float
) -> dict[str, Tensor]:
    """Take one optimiser step to `position`; return the losses before it."""
    where = f"step {position.step} ({state.phase_name})"
    terms: dict[str, Tensor] = module(batch, phase.losses)
    loss = torch.stack(list(terms.values())).sum()
    # One worker's loss that is not finite makes the mean so: all of them stop, and none waits for the others.
    _check_finite("loss", all_reduce_sum(loss.detach()) / world_size(), batch, where)
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), gradient_clip)
    _check_finite("gradient", norm, batch, where)
    state.optimiser.step()
    if state.average is not None:
        state.average.update_parameters(state.model)
    state.position = position
    return terms


def _check_finite(what: str, value: Tensor, batch: Any, where: str) -> None:
    if torch.isfinite(value):
        return
    keys = [batch.keys]
    if world_size() > 1:
        keys = [[]] * world_size()
        dist.all_gather_object(keys, batch.keys)
    images = ", ".join(key for part in keys for key in part)
    raise FloatingPointError(f"{what} is {value.item()} at {where}; images: {images}")


def _validate(state: TrainState, batches: Iterator[Any], phase: Phase, device: torch.device) -> dict[str, float]:
    """The phase's losses on the validation split, of the weights that the checkpoint would hold: means over batches."""
    model = state.checkpoint_model
    training = model.training
    sums: dict[str, float] = {}
    count = 0
    # What is drawn here must not change what training draws afterwards.
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        model.eval()
        for batch in batches:
            for name, value in _mean_over_workers(model(batch.to(device), phase.losses)).items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
        model.train(training)
    return {name: value / count for name, value in sums.items()}


def _mean_over_workers(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(all_reduce_sum(value.detach())) / world_size() for name, value in terms.items()}


def _point(state: TrainState, terms: dict[str, float]) -> dict[str, Any]:
    """A point of a loss curve at the state's position."""
    return {"step": state.position.step, "phase": state.phase_name, "loss": sum(terms.values()), "terms": terms}


def _tell(on_point: Callable[[str, dict[str, Any]], None] | None, curve: str, point: dict[str, Any]) -> None:
    if on_point is not None and rank() == 0:
        on_point(curve, point)


def _log(point: dict[str, Any], total_steps: int, throughput: str) -> None:
    if rank() == 0:
        terms = " ".join(f"{name} {value:.3f}" for name, value in point["terms"].items())
        step, phase, loss = point["step"], point["phase"], point["loss"]
        logger.info("step %d of %d %s: loss %.3f (%s), %s", step, total_steps, phase, loss, terms, throughput)
