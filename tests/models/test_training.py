"""The loop: curriculum, resuming, sharing batches between workers, and what it refuses."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from models.clip.model import Clip
from models.data.batches import Collate, Tokenise
from models.data.shards import ShardSet
from models.regionmed_clip.model import RegionMedClip
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.data import EpochShare, Plan, epoch_batches
from models.training.loop import State, check_phases, fit, learning_rate
from tests.models.small import make_model

TRAINING = TrainingConfig(
    phases=(
        Phase(name="warm_up", epochs=2, batch_size=8, learning_rate=1e-3, losses=("report",)),
        Phase(name="joint", epochs=2, batch_size=6, learning_rate=1e-3, losses=RegionMedClip.losses, schedule="cosine"),
    )
)
ENGINE = EngineConfig(threads=1, num_workers=0, shuffle_buffer=10, checkpoint_every=3)


def make_plan(shards: Path) -> Plan:
    # 40 images of which every fifth has no text.
    return Plan(ShardSet(shards / "images", shards / "captions", "train"), 32, seed=0, buffer=10)


def train(shards: Path, tokenizer, state: State | None = None, stop_after: int | None = None, **changes) -> list[State]:
    """All states that the loop saved; `stop_after` kills it after so many."""
    saved: list[State] = []

    def save(new: State) -> None:
        saved.append(new)
        if stop_after is not None and len(saved) == stop_after:
            raise KeyboardInterrupt

    model = make_model(tokenizer, **changes)
    collate = Collate(Tokenise(tokenizer, 32), model.max_regions)
    options = {"device": torch.device("cpu"), "state": state, "save": save}
    if stop_after is None:
        fit(model, make_plan(shards), collate, TRAINING, ENGINE, **options)
    else:
        with pytest.raises(KeyboardInterrupt):
            fit(model, make_plan(shards), collate, TRAINING, ENGINE, **options)
    return saved


@pytest.fixture(scope="module")
def whole(shards: Path, tokenizer) -> State:
    """The last state of an unbroken run."""
    return train(shards, tokenizer)[-1]


def test_steps_phases_and_losses(whole: State) -> None:
    curve = whole["curve"]
    # 32 // 8 = 4 steps an epoch, then 32 // 6 = 5.
    assert [point["phase"] for point in curve] == ["warm_up"] * 8 + ["joint"] * 10
    assert [point["step"] for point in curve] == list(range(1, 19))
    assert set(curve[0]["terms"]) == {"report"}
    assert set(curve[-1]["terms"]) == set(RegionMedClip.losses)
    assert all(point["loss"] == pytest.approx(sum(point["terms"].values())) for point in curve)
    assert curve[7]["lr"] == 1e-3
    assert curve[13]["lr"] == pytest.approx(0.5e-3)


@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    shards: Path, tokenizer, whole: State, tmp_path: Path, stop_after: int
) -> None:
    broken = train(shards, tokenizer, stop_after=stop_after)[-1]
    assert not broken["finished"]
    torch.save(broken, tmp_path / "state.pt")
    # Another process has another random state and other weights before it loads the saved ones.
    torch.manual_seed(1234)
    resumed = train(shards, tokenizer, torch.load(tmp_path / "state.pt", weights_only=True))[-1]
    assert resumed["curve"] == whole["curve"]
    for name, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][name]), name


def test_a_finished_state_trains_no_further(shards: Path, tokenizer, whole: State) -> None:
    again = train(shards, tokenizer, whole)
    assert len(again) == 1
    assert all(torch.equal(value, again[0]["model"][name]) for name, value in whole["model"].items())


@pytest.mark.parametrize("world", [2, 4])
def test_workers_share_the_batches_of_one_process(shards: Path, tokenizer, world: int) -> None:
    plan, collate = make_plan(shards), Collate(Tokenise(tokenizer, 32), 2)
    alone = [batch.keys for batch in EpochShare(plan, collate, 0, 8, 0, rank=0, world=1)]
    shares = [[batch.keys for batch in EpochShare(plan, collate, 0, 8, 0, rank, world)] for rank in range(world)]
    assert len(alone) == plan.steps(8) == 4
    for number, keys in enumerate(alone):
        assert sorted(key for share in shares for key in share[number]) == sorted(keys)
        assert {len(share[number]) for share in shares} == {8 // world}


def test_decoding_processes_keep_the_order(shards: Path, tokenizer) -> None:
    share = EpochShare(make_plan(shards), Collate(Tokenise(tokenizer, 32), 2), 0, 8, 1, rank=0, world=1)
    here = [batch.keys for batch in epoch_batches(share, 0)]
    assert [batch.keys for batch in epoch_batches(share, 2)] == here
    assert len(here) == 3


def test_the_loss_falls(whole: State) -> None:
    losses = [point["terms"]["report"] for point in whole["curve"]]
    assert sum(losses[5:8]) < sum(losses[:3])


def test_a_loss_that_is_not_finite_names_the_step_and_the_images(shards: Path, tokenizer) -> None:
    model = make_model(tokenizer)
    with torch.no_grad():
        model.image_projection.weight[0, 0] = math.nan
    collate = Collate(Tokenise(tokenizer, 32), 2)
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 1 \(warm_up\); images: [0-9a-f]{16}, "):
        fit(model, make_plan(shards), collate, TRAINING, ENGINE, device=torch.device("cpu"), state=None, save=id)


def test_phases_that_cannot_be_trained_are_refused(tokenizer) -> None:
    model = make_model(tokenizer, Clip)
    phase = TRAINING.phases[0]

    def refuse(message: str, usable: int = 32, workers: int = 1, **changes) -> None:
        config = TrainingConfig(phases=(dataclasses.replace(phase, **changes),))
        with pytest.raises(ValueError, match=message):
            check_phases(model, usable, config, workers)

    refuse("only 7 training images have text", usable=7)
    refuse("no multiple of the workers", workers=3)
    refuse(r"asks for the losses \['region'\]; the method has: report, summary", losses=("report", "region"))


@pytest.mark.parametrize(("step", "rate"), [(0, 0.25), (3, 1.0), (4, 1.0), (8, 0.5), (12, 0.0)])
def test_cosine_schedule_with_warm_up(step: int, rate: float) -> None:
    phase = Phase(
        name="p", epochs=1, batch_size=2, learning_rate=1.0, losses=("report",), schedule="cosine", warmup_steps=4
    )
    assert learning_rate(phase, step, 12) == pytest.approx(rate)
