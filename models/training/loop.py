"""Train any method: phases, schedule, gradient clipping, and states from which a killed run goes on.

A run that was killed and resumed ends with the weights of one that was not: the order of the samples follows from the
seed and the position, and the state holds weights, optimiser, schedule, position and random states.
"""

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
from models.training.data import Pass, Plan, Share, load
from models.training.prepare import check_phases, prepare
from models.training.progress import Speed
from models.training.schedule import Schedule
from models.training.state import Course, Position, State, begin, snapshot

# Points of a loss curve at most, about: enough to draw, whatever the length of the run.
CURVE_POINTS = 400

# Points of the curve between two lines of the log.
SHOW_EVERY = 10


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


def fit(
    model: Method,
    plan: Plan,
    collate: CollateFunction,
    config: TrainingConfig,
    engine: EngineConfig,
    *,
    device: torch.device,
    state: State | None,
    save: Callable[[State], None],
    validation: Plan | None = None,
) -> State:
    """Train to the end of the last phase.

    Args:
        model: The method, on `device`.
        plan: The training split.
        collate: Samples to batches.
        config: Phases and optimiser.
        engine: Seed, precision, saving.
        device: Where to compute.
        state: What `save` was given by an earlier, unfinished run of the same inputs, or None.
        save: Called on every worker at the same steps with the state; keeps it.
        validation: The validation split; a phase whose batch it cannot fill has no validation loss.

    Returns:
        The last state, `finished`, and beside it how fast this call went (`speed`).

    Raises:
        ValueError: A phase cannot be trained; see `check_phases`.
        FloatingPointError: The loss, or its gradient, is not finite; raised on all workers together, and the message
            names the step and the images.
    """
    checked = validation.steps(1) if validation is not None else 0
    check_phases(model, config, engine, usable=plan.steps(1), validation=checked)
    prepare(model, config, engine)
    # Otherwise all workers would drop the same rows' features.
    torch.manual_seed(engine.seed + rank())
    course = begin(model.train(), config, state, device)
    total_steps = sum(phase.epochs * plan.steps(phase.batch_size) for phase in config.phases)
    record_every = max(1, total_steps // CURVE_POINTS)
    start = course.position
    epochs = list(positions(config, plan, start))
    passes = []
    for first, phase, number in epochs:
        passes.append(Pass(plan=plan, epoch=number, batch_size=phase.batch_size, first=first.batch))
        if checked >= phase.batch_size and validation is not None:
            passes.append(Pass(plan=validation, epoch=0, batch_size=phase.batch_size, augmented=False))
    share = Share(passes, collate, rank(), world_size())
    batches = load(share, engine.loader_workers, pin=device.type == "cuda") if passes else iter(())
    # The unused parameters differ between phases: the ROI processor rests while whole images are aligned.
    wrapped = DistributedDataParallel(model, find_unused_parameters=True) if world_size() > 1 else model
    speed = Speed(device)
    for index, of_phase in groupby(epochs, key=lambda epoch: epoch[0].phase):
        phase = config.phases[index]
        steps = plan.steps(phase.batch_size)
        schedule = course.schedule = Schedule(phase, course.optimiser, phase.epochs * steps)
        if state is not None and index == start.phase:
            schedule.load(state["schedule"])
        for first, _, _ in of_phase:
            speed.resume()
            for number in range(first.batch, steps):
                asked = time.perf_counter()
                batch = next(batches)
                waited = time.perf_counter() - asked
                position = Position(index, first.epoch, number + 1, first.step + number + 1 - first.batch)
                rate = schedule.before_step(first.epoch * steps + number)
                terms = _update(wrapped, course, batch.to(device), phase, position, config.gradient_clip)
                speed.step(phase.batch_size, waited)
                if position.step % record_every == 0:
                    course.curve.append(_point(position, phase, _mean_over_workers(terms)) | {"lr": rate})
                    if len(course.curve) % SHOW_EVERY == 1:
                        _show(course.curve[-1], total_steps, speed.line(total_steps - position.step))
                if number + 1 == steps and checked >= phase.batch_size:
                    found = _validate(course, islice(batches, checked // phase.batch_size), phase, device)
                    course.validation.append(_point(position, phase, found))
                    schedule.after_epoch(course.validation[-1]["loss"])
                    speed.resume()
                # After the validation, so that a state at the end of an epoch has it.
                if position.step % engine.checkpoint_every == 0:
                    save(snapshot(course, device))
    final = snapshot(course, device, finished=True) | {"speed": speed.result()}
    save(final)
    return final


def _update(
    module: nn.Module, course: Course, batch: Any, phase: Phase, position: Position, gradient_clip: float
) -> dict[str, Tensor]:
    """One optimiser step; the losses it took."""
    terms: dict[str, Tensor] = module(batch, phase.losses)
    loss = torch.stack(list(terms.values())).sum()
    # One worker's loss that is not finite makes the mean so: all of them stop, and none waits for the others.
    _check_finite("loss", all_reduce_sum(loss.detach()) / world_size(), batch, phase, position)
    course.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), gradient_clip)
    _check_finite("gradient", norm, batch, phase, position)
    course.optimiser.step()
    if course.average is not None:
        course.average.update_parameters(course.model)
    course.position = position
    return terms


def _check_finite(what: str, value: Tensor, batch: Any, phase: Phase, position: Position) -> None:
    if torch.isfinite(value):
        return
    keys = [batch.keys]
    if world_size() > 1:
        keys = [[]] * world_size()
        dist.all_gather_object(keys, batch.keys)
    images = ", ".join(key for part in keys for key in part)
    raise FloatingPointError(f"{what} is {value.item()} at step {position.step} ({phase.name}); images: {images}")


def _validate(course: Course, batches: Iterator[Any], phase: Phase, device: torch.device) -> dict[str, float]:
    """The phase's losses on the validation split, of the weights that would be shipped: means over the batches."""
    model = course.shipped
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


def _point(position: Position, phase: Phase, terms: dict[str, float]) -> dict[str, Any]:
    return {"step": position.step, "phase": phase.name, "loss": sum(terms.values()), "terms": terms}


def _show(point: dict[str, Any], total_steps: int, speed: str) -> None:
    if rank() == 0:
        terms = " ".join(f"{name} {value:.3f}" for name, value in point["terms"].items())
        print(
            f"step {point['step']} of {total_steps} {point['phase']}: loss {point['loss']:.3f} ({terms}), {speed}",
            flush=True,
        )
