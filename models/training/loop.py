"""Train any method: phases, schedule, gradient clipping, and states from which a killed run continues.

A run that was killed and resumed ends with the weights of one that was not: the order of the samples follows from the
seed and the position, and the state holds weights, optimiser, schedule, position and random states.
"""

import logging
import time
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.distributed import all_reduce_sum, rank, world_size
from models.method import CollateFunction, Method
from models.training.config import LOSS, EngineConfig, Phase, TrainingConfig
from models.training.data import EpochRange, RankShardedDataset, SamplingPlan, load
from models.training.prepare import check_phases, check_reading, prepare
from models.training.schedule import Schedule
from models.training.silent import SilentLosses
from models.training.state import SavedState, StepPosition, TrainState, initial_state, snapshot
from models.training.stream import StreamDataset
from models.training.throughput import Throughput

logger = logging.getLogger(__name__)

# Points of a loss curve at most, about: enough to draw, whatever the length of the run.
CURVE_POINTS = 400

# Points of the curve between two lines of the log.
LOG_EVERY = 10

# By `EngineConfig.reader`.
_DATASETS: dict[str, type[RankShardedDataset] | type[StreamDataset]] = {
    "random_access": RankShardedDataset,
    "stream": StreamDataset,
}


class EpochStart(NamedTuple):
    """Where an epoch begins, or goes on after a resumed run's last step.

    Attributes:
        phase: Index into the phases.
        epoch: Of the phase.
        number: Of the epoch over all phases as they are set; decides the order of its samples.
        batch: The first to read.
    """

    phase: int
    epoch: int
    number: int
    batch: int


def epoch_starts(config: TrainingConfig, plan: SamplingPlan, state: TrainState) -> list[EpochStart]:
    """Every epoch still to run, as far as is known: a phase may end early."""
    starts, number = [], 0
    present = state.position.phase, state.position.epoch
    for index, (name, phase) in enumerate(config.phases.items()):
        for epoch in range(phase.epochs):
            first = state.position.batch if (index, epoch) == present else 0
            if (index, epoch) >= present and first < plan.steps(phase.batch_size) and name not in state.stopped:
                starts.append(EpochStart(index, epoch, number, first))
            number += 1
    return starts


def _ranges(
    starts: list[EpochStart], config: TrainingConfig, plan: SamplingPlan, validation: SamplingPlan | None
) -> list[EpochRange]:
    """What some epochs read: each its training batches and then, where they fill one, the validation batches."""
    ranges = []
    phases = list(config.phases.values())
    for start in starts:
        size = phases[start.phase].batch_size
        ranges.append(EpochRange(plan=plan, epoch=start.number, batch_size=size, first=start.batch))
        if validation is not None and validation.steps(size):
            ranges.append(EpochRange(plan=validation, epoch=0, batch_size=size, augmented=False))
    return ranges


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
        ValueError: A phase cannot be trained (see `check_phases`), or `saved` was read otherwise.
        ShardError: The reader `stream` found a tar missing or damaged.
        ConnectionError: It could not reach one.
        FloatingPointError: The loss, or its gradient, is not finite; raised on all workers together, and the message
            names the step and the images. Or the best epoch is to be kept and none has a finite validation loss.
    """
    validated = validation.steps(1) if validation is not None else 0
    check_phases(model, config, engine, usable=plan.steps(1), validation=validated)
    prepare(model, config, engine)
    # Otherwise all workers would drop the same rows' features.
    torch.manual_seed(engine.seed + rank())
    reading = engine.reading(world_size())
    check_reading(saved, reading)
    state = initial_state(model.train(), config, saved, device)
    state.reading = reading
    total_steps = sum(phase.epochs * plan.steps(phase.batch_size) for phase in config.phases.values())
    record_every = max(1, total_steps // CURVE_POINTS)
    resumed_phase = state.position.phase
    phases = list(config.phases.items())
    epochs = epoch_starts(config, plan, state)

    def read(starts: list[EpochStart]) -> Iterator[Any]:
        ranges = _ranges(starts, config, plan, validation)
        dataset = _DATASETS[engine.reader](ranges, collate, rank(), world_size())
        return load(dataset, engine.loader_workers, pin=device.type == "cuda") if ranges else iter(())

    batches = read(epochs)
    # The unused parameters differ between phases: the ROI processor rests while whole images are aligned.
    wrapped = DistributedDataParallel(model, find_unused_parameters=True) if world_size() > 1 else model
    throughput = Throughput(device)
    for index, epochs_of_phase in groupby(epochs, key=lambda start: start.phase):
        state.phase_name, phase = phases[index]
        silent = SilentLosses(state.phase_name)
        steps = plan.steps(phase.batch_size)
        schedule = state.schedule = Schedule(phase, state.optimiser, phase.epochs * steps)
        if saved is not None and index == resumed_phase:
            schedule.load(saved["schedule"])
        for start in epochs_of_phase:
            throughput.resume()
            for number in range(start.batch, steps):
                requested = time.perf_counter()
                batch = next(batches)
                waited = time.perf_counter() - requested
                position = StepPosition(index, start.epoch, number + 1, state.position.step + 1)
                rate = schedule.before_step(start.epoch * steps + number)
                terms = _update(wrapped, state, batch.to(device), phase, position, config.gradient_clip)
                throughput.step(phase.batch_size, waited)
                silent.add(terms)
                if position.step % record_every == 0:
                    state.curve.append(_point(state, _mean_over_workers(terms)) | {"lr": rate})
                    _tell(on_point, "steps", state.curve[-1])
                    if len(state.curve) % LOG_EVERY == 1:
                        _log(state.curve[-1], total_steps, throughput.line(total_steps - position.step))
                if number + 1 == steps and validated >= phase.batch_size:
                    state.validation.append(
                        _validate(state, islice(batches, validated // phase.batch_size), config, device)
                    )
                    _tell(on_point, "validation", state.validation[-1])
                    schedule.after_epoch(state.validation[-1]["loss"])
                    state.end_epoch(config, start.epoch + 1)
                    throughput.resume()
                # After the validation, so that a state at the end of an epoch has it.
                if position.step % engine.checkpoint_every == 0:
                    save(snapshot(state, device))
            silent.warn()
            if state.phase_name in state.stopped:
                _log_stop(state, start.epoch + 1, phase)
                # What was read ahead is of epochs that do not come.
                batches = read([later for later in epochs if later.phase > index])
                break
    _check_best(state, config)
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


def _validate(
    state: TrainState, batches: Iterator[Any], config: TrainingConfig, device: torch.device
) -> dict[str, Any]:
    """A point of the validation curve: the phase's losses, and the method's score if an epoch is chosen by one.

    Of the weights that the checkpoint would hold; means over batches.
    """
    model = cast(Method, state.checkpoint_model)
    training = model.training
    losses = config.phases[state.phase_name].losses
    scored = config.best_by != LOSS and config.chooses(state.phase_name)
    sums: dict[str, dict[str, float]] = {"terms": {}, "scores": {}}
    count = 0
    # What is drawn here must not change what training draws afterwards.
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        model.eval()
        for batch in batches:
            there = batch.to(device)
            found = {"terms": model(there, losses), "scores": model.scores(there) if scored else {}}
            for kind, values in found.items():
                for name, value in _mean_over_workers(values).items():
                    sums[kind][name] = sums[kind].get(name, 0.0) + value
            count += 1
        model.train(training)
    means = {kind: {name: value / count for name, value in values.items()} for kind, values in sums.items()}
    return _point(state, means["terms"]) | ({"scores": means["scores"]} if scored else {})


def _check_best(state: TrainState, config: TrainingConfig) -> None:
    if config.keep == "best" and (state.best is None or state.best.weights is None):
        raise FloatingPointError(f"no epoch of phase '{list(config.phases)[-1]}' has a finite validation loss")


def _mean_over_workers(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(all_reduce_sum(value.detach())) / world_size() for name, value in terms.items()}


def _point(state: TrainState, terms: dict[str, float]) -> dict[str, Any]:
    """A point of a loss curve at the state's position."""
    return {"step": state.position.step, "phase": state.phase_name, "loss": sum(terms.values()), "terms": terms}


def _tell(on_point: Callable[[str, dict[str, Any]], None] | None, curve: str, point: dict[str, Any]) -> None:
    if on_point is not None and rank() == 0:
        on_point(curve, point)


def _log_stop(state: TrainState, epochs: int, phase: Phase) -> None:
    if rank() == 0:
        where = f"epoch {state.best.epoch}" if state.best is not None else "none"
        logger.info("%s ends after %d of %d epochs; the best: %s", state.phase_name, epochs, phase.epochs, where)


def _log(point: dict[str, Any], total_steps: int, throughput: str) -> None:
    if rank() == 0:
        terms = " ".join(f"{name} {value:.3f}" for name, value in point["terms"].items())
        step, phase, loss = point["step"], point["phase"], point["loss"]
        logger.info("step %d of %d %s: loss %.3f (%s), %s", step, total_steps, phase, loss, terms, throughput)
