"""The loop: curriculum, resuming, sharing batches between workers, validation, averages, and what it refuses."""

import copy
import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.clip.model import Clip
from models.data.batches import Batch, Collate, Tokenise
from models.data.shards import ShardSet
from models.regionmed_clip.model import RegionMedClip
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.data import EpochRange, RankShardedDataset, SamplingPlan, load
from models.training.data import usable as usable_of
from models.training.prepare import check_phases, check_trained, prepare
from models.training.schedule import learning_rate
from models.training.state import SavedState, initial_state
from tests.models.saved_states import saved_states
from tests.models.small import ENCODERS, make_model

TRAINING = TrainingConfig(
    phase_order=("warm_up", "joint"),
    phases={
        "warm_up": Phase(epochs=2, batch_size=8, learning_rate=1e-3, losses=("report",)),
        "joint": Phase(epochs=2, batch_size=6, learning_rate=1e-3, losses=RegionMedClip.losses, schedule="cosine"),
    },
)
ENGINE = EngineConfig(threads=1, num_workers=0, shuffle_buffer=10, checkpoint_every=3)
WARM_UP = TRAINING.phases["warm_up"]
CPU = torch.device("cpu")


def make_plan(shards: Path, usable: int = 40) -> SamplingPlan:
    """The first `usable` of 40 images, of which every fifth has no text."""
    split = ShardSet(shards / "images", shards / "captions", "train")
    return SamplingPlan(split, usable_of(split, RegionMedClip) & (np.arange(40) < usable), seed=0, buffer=10)


def train(
    shards: Path,
    tokenizer,
    resumed: SavedState | None = None,
    *,
    stop_after: int | None = None,
    training: TrainingConfig = TRAINING,
    engine: EngineConfig = ENGINE,
    validation: SamplingPlan | None = None,
    model: torch.nn.Module | None = None,
) -> list[SavedState]:
    """All states that the loop saved; `stop_after` kills it after so many."""
    plan, options = make_plan(shards), {"stop_after": stop_after, "validation": validation, "model": model}
    return saved_states(plan, tokenizer, training, engine, resumed, **options)


def whole_split(shards: Path, tokenizer, batch_size: int, usable: int = 40) -> RankShardedDataset:
    """The first epoch as one process reads it."""
    epoch = EpochRange(plan=make_plan(shards, usable), epoch=0, batch_size=batch_size)
    return RankShardedDataset([epoch], Collate(Tokenise(tokenizer, 32), 2), 0, 1)


def assert_same_weights(first: SavedState, second: SavedState) -> None:
    for name, value in first["model"].items():
        assert torch.equal(value, second["model"][name]), name


@pytest.fixture(scope="module")
def whole(shards: Path, tokenizer) -> SavedState:
    """The last state of an unbroken run."""
    return train(shards, tokenizer)[-1]


def test_steps_phases_and_losses(whole: SavedState) -> None:
    curve = whole["curve"]
    # 32 // 8 = 4 steps an epoch, then 32 // 6 = 5.
    assert [point["phase"] for point in curve] == ["warm_up"] * 8 + ["joint"] * 10
    assert [point["step"] for point in curve] == list(range(1, 19))
    assert set(curve[0]["terms"]) == {"report"}
    assert set(curve[-1]["terms"]) == set(RegionMedClip.losses)
    assert all(point["loss"] == pytest.approx(sum(point["terms"].values())) for point in curve)
    assert curve[7]["lr"] == 1e-3
    assert curve[13]["lr"] == pytest.approx(0.5e-3)


PLATEAU = Phase(
    epochs=4,
    batch_size=8,
    # So high that the loss does not fall in every epoch.
    learning_rate=0.3,
    losses=("report", "region"),
    schedule="plateau",
    factor=0.5,
    patience=0,
)
HARD = TrainingConfig(
    phases={"warm_up": WARM_UP, "joint": PLATEAU},
    phase_order=("warm_up", "joint"),
    optimiser="adam",
    ema_decay=0.7,
    micro_batch_size=3,
)


@pytest.fixture(scope="module")
def hard(shards: Path, tokenizer) -> SavedState:
    """The same with everything that has a state of its own."""
    return train(shards, tokenizer, training=HARD, validation=make_plan(shards, 12))[-1]


def resume(
    shards: Path, tokenizer, folder: Path, stop_after: int, engine: EngineConfig = ENGINE, **options: Any
) -> SavedState:
    """The last state of a run that was killed after so many saved states and went on with another `engine`."""
    broken = train(shards, tokenizer, stop_after=stop_after, **options)[-1]
    assert not broken["finished"]
    torch.save(broken, folder / "state.pt")
    # Another process has another random state and other weights before it loads the saved ones.
    torch.manual_seed(1234)
    return train(shards, tokenizer, torch.load(folder / "state.pt", weights_only=True), engine=engine, **options)[-1]


@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    shards: Path, tokenizer, whole: SavedState, tmp_path: Path, stop_after: int
) -> None:
    resumed = resume(shards, tokenizer, tmp_path, stop_after)
    assert resumed["curve"] == whole["curve"]
    assert_same_weights(resumed, whole)


# After 4 x 3 steps an epoch is over, with its validation; after 5 x 3 the plateau has a past.
@pytest.mark.parametrize("stop_after", [4, 5])
def test_averages_plateaus_and_validation_are_resumed(
    shards: Path, tokenizer, hard: SavedState, tmp_path: Path, stop_after: int
) -> None:
    resumed = resume(shards, tokenizer, tmp_path, stop_after, training=HARD, validation=make_plan(shards, 12))
    assert resumed["curve"] == hard["curve"]
    assert resumed["validation"] == hard["validation"]
    assert_same_weights(resumed, hard)


def test_decoding_processes_change_nothing(shards: Path, tokenizer, hard: SavedState, tmp_path: Path) -> None:
    """The batches keep their order over the ends of epochs; dropout does not notice that a DataLoader started."""
    engine = dataclasses.replace(ENGINE, loader_workers=2)
    options = {"training": HARD, "validation": make_plan(shards, 12)}
    assert_same_weights(resume(shards, tokenizer, tmp_path, 5, engine, **options), hard)


def test_the_plateau_schedule_follows_the_validation_loss(hard: SavedState) -> None:
    # 9 of the first 12 images have text: one batch of 8 after each epoch.
    assert [(point["step"], point["phase"]) for point in hard["validation"]] == [
        *((step, "warm_up") for step in (4, 8)),
        *((step, "joint") for step in (12, 16, 20, 24)),
    ]
    losses = [point["loss"] for point in hard["validation"]]
    assert losses[2:] == [pytest.approx(sum(point["terms"].values())) for point in hard["validation"][2:]]
    best, rate, expected = math.inf, 0.3, []
    for loss in losses[2:]:
        expected += [rate] * 4
        # ReduceLROnPlateau's threshold: one part in ten thousand.
        rate = rate if loss < best * (1 - 1e-4) else rate / 2
        best = min(best, loss)
    assert [point["lr"] for point in hard["curve"][8:]] == pytest.approx(expected)
    assert rate < 0.3


def test_validation_changes_no_training(shards: Path, tokenizer, whole: SavedState) -> None:
    watched = train(shards, tokenizer, validation=make_plan(shards, 12))[-1]
    assert_same_weights(watched, whole)
    assert [point["step"] for point in watched["validation"]] == [4, 8, 13, 18]
    # By hand: the untouched model on the one batch, in evaluation mode.
    model = make_model(tokenizer).eval()
    model.load_state_dict(watched["model"])
    (batch,) = whole_split(shards, tokenizer, 6, usable=12)
    with torch.no_grad():
        terms = model(batch, RegionMedClip.losses)
    assert watched["validation"][-1]["terms"] == pytest.approx({name: float(value) for name, value in terms.items()})


def test_a_validation_split_that_is_too_small_gives_no_point(shards: Path, tokenizer, whole: SavedState) -> None:
    # 7 of the first 8: enough for batches of 6, not of 8.
    watched = train(shards, tokenizer, validation=make_plan(shards, 8))[-1]
    assert [point["phase"] for point in watched["validation"]] == ["joint", "joint"]
    assert_same_weights(watched, whole)


def test_checkpoint_weights_are_the_moving_average(shards: Path, tokenizer) -> None:
    training = TrainingConfig(phases={"warm_up": WARM_UP}, ema_decay=0.7)
    states = train(shards, tokenizer, training=training, engine=dataclasses.replace(ENGINE, checkpoint_every=1))
    name = "image_projection.weight"
    average = states[0]["trained"][name].double()
    for state in states[1:8]:
        average = 0.7 * average + 0.3 * state["trained"][name].double()
        torch.testing.assert_close(state["model"][name].double(), average, rtol=1e-5, atol=1e-7)
    assert not torch.equal(states[-1]["model"][name], states[-1]["trained"][name])


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_the_first_step_of_the_optimisers(shards: Path, tokenizer, optimiser: str) -> None:
    phase = Phase(epochs=1, batch_size=32, learning_rate=0.01, losses=("report",))
    training = TrainingConfig(phases={"one": phase}, optimiser=optimiser, weight_decay=0.5, gradient_clip=1e9)
    model = make_model(tokenizer)
    before = copy.deepcopy(model)
    (state,) = train(shards, tokenizer, training=training, model=model)
    name = "image_projection.weight"
    (batch,) = whole_split(shards, tokenizer, 32)
    torch.manual_seed(ENGINE.seed)
    before(batch, ("report",))["report"].backward()
    weight, gradient = before.state_dict()[name], before.image_projection.weight.grad
    # After one step Adam's moments are the gradient and its square: a step of the rate against the sign.
    if optimiser == "adam":
        expected = weight - 0.01 * torch.sign(gradient + 0.5 * weight)
    else:
        expected = weight * (1 - 0.01 * 0.5) - 0.01 * torch.sign(gradient)
    torch.testing.assert_close(state["model"][name], expected, rtol=1e-3, atol=1e-5)


def test_a_finished_state_trains_no_further(shards: Path, tokenizer, whole: SavedState) -> None:
    again = train(shards, tokenizer, whole)
    assert len(again) == 1
    assert all(torch.equal(value, again[0]["model"][name]) for name, value in whole["model"].items())


def keys(dataset: RankShardedDataset) -> list[list[str]]:
    return [batch.keys for batch in load(dataset, 0)]


@pytest.mark.parametrize("world", [2, 4])
def test_workers_split_the_batches_of_one_process(shards: Path, tokenizer, world: int) -> None:
    plan, collate = make_plan(shards), Collate(Tokenise(tokenizer, 32), 2)
    epoch = [EpochRange(plan=plan, epoch=0, batch_size=8)]
    alone = keys(RankShardedDataset(epoch, collate, rank=0, world=1))
    shares = [keys(RankShardedDataset(epoch, collate, rank, world)) for rank in range(world)]
    assert len(alone) == plan.steps(8) == 4
    assert len({key for batch in alone for key in batch}) == 32
    for number, together in enumerate(alone):
        assert sorted(key for share in shares for key in share[number]) == sorted(together)
        assert {len(share[number]) for share in shares} == {8 // world}


def test_epoch_ranges_are_read_in_order(shards: Path, tokenizer) -> None:
    plan, collate = make_plan(shards), Collate(Tokenise(tokenizer, 32), 2)
    parts = [
        EpochRange(plan=plan, epoch=0, batch_size=8, first=1),
        EpochRange(plan=make_plan(shards, 12), epoch=0, batch_size=6),
        EpochRange(plan=plan, epoch=1, batch_size=6),
    ]
    together = keys(RankShardedDataset(parts, collate, rank=0, world=1))
    assert list(map(len, parts)) == [3, 1, 5]
    assert together == [batch for part in parts for batch in keys(RankShardedDataset([part], collate, rank=0, world=1))]
    whole_epoch = keys(RankShardedDataset([EpochRange(plan=plan, epoch=0, batch_size=8)], collate, rank=0, world=1))
    assert together[:3] == whole_epoch[1:]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_micro_batches_have_the_loss_and_the_gradients_of_the_whole_batch(shards, tokenizer, dropout: float) -> None:
    encoders = copy.deepcopy(ENCODERS)
    for part in ("image_encoder", "text_encoder"):
        encoders[part]["architecture"] |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    model = make_model(tokenizer, **encoders).double()
    (batch,) = whole_split(shards, tokenizer, 32)
    images = dataclasses.replace(batch.images, pixels=batch.images.pixels.double(), crops=batch.images.crops.double())
    batch = dataclasses.replace(batch, images=images)

    def loss() -> Tensor:
        torch.manual_seed(5)
        return torch.stack(list(model(batch, RegionMedClip.losses).values())).sum()

    parameters = dict(model.named_parameters())
    if dropout == 0.0:
        whole_loss = loss()
        whole = torch.autograd.grad(whole_loss, list(parameters.values()), allow_unused=True)
    prepare(model, dataclasses.replace(TRAINING, micro_batch_size=5), ENGINE)
    in_parts_loss = loss()
    in_parts = torch.autograd.grad(in_parts_loss, list(parameters.values()), allow_unused=True)
    if dropout == 0.0:
        assert in_parts_loss.item() == pytest.approx(whole_loss.item(), abs=1e-9)
        for name, first, second in zip(parameters, in_parts, whole, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-9, msg=name)
    # Parts draw their dropout in another order than the whole, so that only the slope can tell whether the backward
    # pass dropped what the forward pass did.
    direction = [torch.randn_like(parameter) for parameter in parameters.values()]
    slope = sum((g * d).sum() for g, d in zip(in_parts, direction, strict=True) if g is not None)
    losses = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for parameter, d in zip(parameters.values(), direction, strict=True):
                parameter.add_(d, alpha=step)
        losses.append(loss().item())
    assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(float(slope), rel=1e-4)


def test_bfloat16_is_close_and_its_losses_are_float32(shards: Path, tokenizer, whole: SavedState) -> None:
    rounded = train(shards, tokenizer, engine=dataclasses.replace(ENGINE, precision="bfloat16"))[-1]
    first, second = rounded["curve"][0]["loss"], whole["curve"][0]["loss"]
    assert first == pytest.approx(second, rel=0.02)
    assert first != second
    assert {value.dtype for value in rounded["model"].values() if value.is_floating_point()} == {torch.float32}


@pytest.mark.slow
def test_compiled_encoders_compute_the_same_and_keep_their_names(tokenizer) -> None:
    model = make_model(tokenizer, Clip).eval()
    texts = Tokenise(tokenizer, 32)(["red left", "a round green picture"])
    names = list(model.state_dict())
    with torch.no_grad():
        expected = model.embed_text(texts)
        prepare(model, TRAINING, dataclasses.replace(ENGINE, compile=True))
        found = model.embed_text(texts)
    assert list(model.state_dict()) == names
    # Fused kernels round otherwise; were nothing compiled, the bits would be the same.
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_loss_falls(whole: SavedState) -> None:
    losses = [point["terms"]["report"] for point in whole["curve"]]
    assert sum(losses[5:8]) < sum(losses[:3])


class Breaking(Clip):
    """A loss of 0 whose gradient is not finite."""

    def forward(self, batch: Batch, losses: Sequence[str]) -> dict[str, Tensor]:
        return {"report": torch.sqrt(self.image_projection.weight * 0.0).sum()}


@pytest.mark.parametrize(("method", "what"), [(RegionMedClip, "loss"), (Breaking, "gradient")])
def test_non_finite_loss_or_gradient_names_the_step_and_the_images(
    shards: Path, tokenizer, method: type, what: str
) -> None:
    model = make_model(tokenizer, method)
    training = TrainingConfig(phases={"warm_up": WARM_UP})
    if what == "loss":
        with torch.no_grad():
            model.image_projection.weight[0, 0] = math.nan
    with pytest.raises(
        FloatingPointError, match=rf"{what} is nan at step 1 \(warm_up\); images: ([0-9a-f]{{16}}, ){{7}}"
    ):
        train(shards, tokenizer, training=training, model=model)


def test_throughput_of_a_run_is_logged_and_returned(shards: Path, tokenizer, caplog) -> None:
    with caplog.at_level(logging.INFO, logger="models.training.loop"):
        (state,) = train(shards, tokenizer, engine=dataclasses.replace(ENGINE, checkpoint_every=1000))
    throughput = state["throughput"]
    assert throughput["samples_per_second"] > 0
    assert 0 < throughput["data_wait_fraction"] < 1
    assert throughput["worker_peak_memory_mb"] > 50
    lines = caplog.messages
    assert lines[0].startswith("step 1 of 18 warm_up: loss ")
    assert "samples/s, " in lines[1]
    assert "% waiting for data, " in lines[1]


def test_a_frozen_encoder_that_nothing_loaded_is_refused(tokenizer, tmp_path: Path) -> None:
    phases = {"one": WARM_UP}
    for name in ("image_encoder", "text_encoder"):
        model = make_model(tokenizer, Clip)
        encoder = getattr(model, name)
        encoder.config = dataclasses.replace(encoder.config, frozen=True)
        with pytest.raises(
            ValueError, match=f"{name}.frozen keeps weights as they were loaded, and architecture loads"
        ):
            check_trained(model, TrainingConfig(phases=phases))
        # As it is where they come from a folder.
        encoder.config = dataclasses.replace(encoder.config, pretrained=str(tmp_path), architecture={})
        check_trained(model, TrainingConfig(phases=phases))


def test_impossible_phases_are_refused(tokenizer) -> None:
    model = make_model(tokenizer, Clip)
    phase = WARM_UP

    def refuse(
        message: str, usable: int = 32, workers: int = 1, model=model, micro: int | None = None, **changes
    ) -> None:
        config = TrainingConfig(phases={"one": dataclasses.replace(phase, **changes)}, micro_batch_size=micro)
        with pytest.raises(ValueError, match=message):
            check_phases(model, config, EngineConfig(num_workers=workers), usable=usable, validation=7)

    refuse("only 7 training images have text", usable=7)
    refuse("only 7 validation images have text, which schedule plateau needs", schedule="plateau")
    refuse("no multiple of the workers", workers=3)
    refuse(r"asks for the losses \['region'\]; the method has: report, summary", losses=("report", "region"))
    batch_norm = make_model(tokenizer, Clip, image_encoder={"architecture": RESNET})
    refuse("num_workers 2 without GPUs cannot share batch statistics: set frozen_batch_norm", 32, 2, batch_norm)
    refuse("with micro_batch_size, BatchNorm would see other batches", model=batch_norm, micro=4)
    frozen = make_model(tokenizer, Clip, image_encoder={"architecture": RESNET, "frozen_batch_norm": True})
    config = TrainingConfig(phases={"one": phase}, micro_batch_size=4)
    check_phases(frozen, config, EngineConfig(num_workers=2), usable=32, validation=0)
    with pytest.raises(ValueError, match="must name at least one phase, or none where the method has no losses"):
        check_phases(model, TrainingConfig(phases={}), EngineConfig(), usable=32, validation=0)


RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (TrainingConfig, {"optimiser": "sgd"}, "optimiser 'sgd' is not one of: adamw, adam"),
        (TrainingConfig, {"ema_decay": 1.0}, "ema_decay 1.0 does not lie between 0 and 1"),
        (TrainingConfig, {"micro_batch_size": 0}, "micro_batch_size is 0; give 1 or more"),
        (EngineConfig, {"precision": "float16"}, "precision 'float16' is not one of: float32, bfloat16"),
        (EngineConfig, {"max_failures": -1}, "max_failures is -1; give 0 or more"),
        (EngineConfig, {"min_workers": 2, "max_failures": 1}, "min_workers 2 is more than num_workers"),
        (
            EngineConfig,
            {"min_workers": 1, "num_workers": 2},
            "min_workers is for a run that continues by itself: set max_failures",
        ),
        (
            EngineConfig,
            {"min_workers": 1, "num_workers": 2, "max_failures": 1, "reader": "stream"},
            "which those of reader stream are not: choose random_access",
        ),
        (Phase, {"schedule": "step"}, "schedule 'step' is not one of: constant, cosine, plateau"),
        (Phase, {"schedule": "plateau", "warmup_steps": 2}, "schedule plateau has no warm-up"),
        (Phase, {"factor": 1.5}, "factor lies between 0 and 1"),
    ],
)
def test_settings_out_of_range_are_refused(kind: type, change: dict[str, Any], message: str) -> None:
    values = {TrainingConfig: TRAINING, EngineConfig: ENGINE, Phase: WARM_UP}[kind]
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(values, **change)


@pytest.mark.parametrize(("step", "rate"), [(0, 0.25), (3, 1.0), (4, 1.0), (8, 0.5), (12, 0.0)])
def test_cosine_schedule_with_warm_up(step: int, rate: float) -> None:
    phase = Phase(epochs=1, batch_size=2, learning_rate=1.0, losses=("report",), schedule="cosine", warmup_steps=4)
    assert learning_rate(phase, step, 12) == pytest.approx(rate)


def test_phases_run_in_the_order_of_their_list_whatever_the_mapping_says() -> None:
    reversed_mapping = dict(reversed(TRAINING.phases.items()))
    config = dataclasses.replace(TRAINING, phases=reversed_mapping)
    assert list(config.phases) == ["warm_up", "joint"]
    assert config == TRAINING


@pytest.mark.parametrize("order", [(), ("warm_up",), ("warm_up", "warm_up"), ("warm_up", "joint", "last")])
def test_an_order_that_does_not_name_each_phase_once_is_refused(order: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="phase_order must name each of the phases once: warm_up, joint"):
        dataclasses.replace(TRAINING, phase_order=order)


def test_a_worker_more_than_saved_a_state_keeps_the_random_numbers_that_it_began_with(whole, tokenizer) -> None:
    for rows, goes_on in ((1, True), (0, False)):
        saved = whole | {"random": {"cpu": whole["random"]["cpu"][:rows]}}
        torch.manual_seed(5)
        initial_state(make_model(tokenizer).train(), TRAINING, saved, torch.device("cpu"))
        assert torch.equal(torch.get_rng_state(), whole["random"]["cpu"][0]) == goes_on
