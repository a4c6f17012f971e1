"""The best epoch by validation and early stopping: chosen as by hand, resumed, and refused where nothing can choose."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from models.clip.model import Clip
from models.segmentation.losses import dice
from models.training.best import BestEpoch, ends_phase, is_better
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.prepare import check_phases
from models.training.state import SavedState, checkpoint_weights
from models.unet.model import UNet
from tests.models.small import make_model
from tests.models.test_training import ENGINE, make_plan, train

# So high a rate that the validation loss falls and rises.
FIRST = Phase(epochs=5, batch_size=8, learning_rate=0.3, losses=("report",))
JOINT = dataclasses.replace(FIRST, epochs=6, losses=("report", "region"))
TRAINING = TrainingConfig(phases={"first": FIRST, "joint": JOINT}, phase_order=("first", "joint"), ema_decay=0.5)
EVERY_STEP = dataclasses.replace(ENGINE, checkpoint_every=1)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads wait for each other when the other test process is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def losses(state: SavedState, phase: str) -> list[float]:
    return [point["loss"] for point in state["validation"] if point["phase"] == phase]


def first_best(values: list[float], patience: int) -> tuple[int, int]:
    """By hand: the epoch with the lowest loss, and the epoch after which a phase with this patience ends."""
    best = 0
    for epoch, value in enumerate(values):
        best = epoch if value < values[best] else best
        if epoch - best >= patience:
            return best + 1, epoch + 1
    return best + 1, len(values)


@pytest.fixture(scope="module")
def states(shards: Path, tokenizer) -> list[SavedState]:
    """The state after every step of a run that keeps the last epoch."""
    return train(shards, tokenizer, training=TRAINING, engine=EVERY_STEP, validation=make_plan(shards, 12))


def test_the_checkpoint_has_the_weights_after_the_best_epoch_of_the_last_phase(shards, tokenizer, states) -> None:
    training = dataclasses.replace(TRAINING, keep="best")
    kept = train(shards, tokenizer, training=training, validation=make_plan(shards, 12))[-1]
    values = losses(states[-1], "joint")
    best = values.index(min(values))
    assert best < len(values) - 1, "the last epoch is the best: the test shows nothing"
    # 4 steps an epoch; 5 epochs of the first phase. The state after the epoch's last step has the moving averages.
    step = 20 + 4 * (best + 1)
    assert {name: kept["best"][name] for name in ("phase", "epoch", "step", "by", "value")} == {
        "phase": "joint",
        "epoch": best + 1,
        "step": step,
        "by": "loss",
        "value": values[best],
    }
    weights = checkpoint_weights(kept)
    assert all(torch.equal(value, states[step - 1]["model"][name]) for name, value in weights.items())
    assert any(not torch.equal(value, states[-1]["model"][name]) for name, value in weights.items())
    # Nothing else changes: the run goes on to its end as it did.
    assert (kept["curve"], kept["validation"]) == (states[-1]["curve"], states[-1]["validation"])
    assert all(torch.equal(value, states[-1]["model"][name]) for name, value in kept["model"].items())


def test_without_a_choice_the_checkpoint_has_the_last_weights(states: list[SavedState]) -> None:
    assert (states[-1]["best"], states[-1]["stopped"]) == (None, {})
    assert checkpoint_weights(states[-1]) is states[-1]["model"]


STOPPING = dataclasses.replace(
    TRAINING,
    keep="best",
    phases={name: dataclasses.replace(phase, early_stopping=1) for name, phase in TRAINING.phases.items()},
)


@pytest.fixture(scope="module")
def stopping(shards: Path, tokenizer) -> list[SavedState]:
    """The state after every step of a run whose phases end after one epoch without a better one, and the last."""
    return train(shards, tokenizer, training=STOPPING, engine=EVERY_STEP, validation=make_plan(shards, 12))


@pytest.fixture(scope="module")
def stopped(stopping: list[SavedState]) -> SavedState:
    return stopping[-1]


def test_a_phase_ends_after_so_many_epochs_without_a_better_one(states, stopped: SavedState) -> None:
    _, first = first_best(losses(states[-1], "first"), 1)
    assert first < 5, "no loss rose: the test shows nothing"
    # Up to its end the phase is the same; the next goes on from there.
    assert losses(stopped, "first") == losses(states[-1], "first")[:first]
    joint = losses(stopped, "joint")
    best, last = first_best(joint, 1)
    assert len(joint) == last
    assert stopped["stopped"] == {"first": first} | ({"joint": last} if last < 6 else {})
    assert stopped["best"]["epoch"] == best
    assert stopped["best"]["step"] == 4 * (first + best)
    assert [point["step"] for point in stopped["curve"]] == list(range(1, 4 * (first + last) + 1))
    assert stopped["position"][3] == 4 * (first + last)


def test_each_phase_reads_the_order_of_its_own_epochs(shards, tokenizer, stopped: SavedState) -> None:
    """A phase after one that ended early starts from its first epoch, as a run that had so few epochs would not."""
    first = stopped["stopped"]["first"]
    short = dataclasses.replace(STOPPING, phases=STOPPING.phases | {"first": dataclasses.replace(FIRST, epochs=first)})
    other = train(shards, tokenizer, training=short, validation=make_plan(shards, 12))[-1]
    assert losses(other, "first") == losses(stopped, "first")
    # Epochs count over all phases as they are set: the order of the samples differs.
    assert other["curve"][4 * first]["loss"] != stopped["curve"][4 * first]["loss"]


def test_a_killed_run_ends_with_the_same_best_epoch(shards, tokenizer, stopping, tmp_path: Path) -> None:
    """Killed within the first epoch, at the end of the first phase, in the second, and after its best epoch."""
    stopped = stopping[-1]
    end, best, last = 4 * stopped["stopped"]["first"], stopped["best"]["step"], stopped["position"][3]
    assert end < best < last, "no epoch after the best one: the test shows less"
    for step in (3, end, end + 1, best, best + 2):
        torch.save(stopping[step - 1], tmp_path / "state.pt")
        torch.manual_seed(1234)
        broken = torch.load(tmp_path / "state.pt", weights_only=True)
        assert (broken["position"][3], broken["finished"]) == (step, False)
        again = train(shards, tokenizer, broken, training=STOPPING, validation=make_plan(shards, 12))[-1]
        for name in ("curve", "validation", "stopped", "position"):
            assert again[name] == stopped[name], (step, name)
        weights = checkpoint_weights(again)
        assert all(torch.equal(value, weights[name]) for name, value in checkpoint_weights(stopped).items()), step
        assert {**again["best"], "weights": None} == {**stopped["best"], "weights": None}


@pytest.mark.slow
def test_decoding_processes_change_nothing_where_a_phase_ends_early(shards, tokenizer, stopped: SavedState) -> None:
    engine = dataclasses.replace(ENGINE, loader_workers=2)
    again = train(shards, tokenizer, training=STOPPING, engine=engine, validation=make_plan(shards, 12))[-1]
    assert again["curve"] == stopped["curve"]
    assert again["validation"] == stopped["validation"]


def best(value: float, epoch: int = 3) -> BestEpoch:
    return BestEpoch(phase="one", epoch=epoch, step=9, by="loss", value=value, weights=None)


def test_what_is_better() -> None:
    assert is_better(0.4, best(0.5), "loss")
    assert not is_better(0.4, best(0.5), "dice")
    assert is_better(0.6, best(0.5), "dice")
    assert is_better(9.0, None, "loss")
    for by, value in itertools.product(("loss", "dice"), (0.5, math.nan)):
        assert not is_better(value, best(0.5), by), "the first of equal ones is the best, and NaN never is"
    assert not any(is_better(value, None, "dice") for value in (math.nan, math.inf, -math.inf))


def test_when_a_phase_ends() -> None:
    config = TrainingConfig(phases={"one": dataclasses.replace(FIRST, early_stopping=2)})
    assert [ends_phase(config, "one", epoch, best(0.5, epoch=3)) for epoch in (3, 4, 5, 6)] == [
        False,
        False,
        True,
        True,
    ]
    # Where no loss was finite, every epoch is one without a better one.
    assert [ends_phase(config, "one", epoch, None) for epoch in (1, 2)] == [False, True]
    assert not ends_phase(TrainingConfig(phases={"one": FIRST}), "one", 5, best(0.5, epoch=1))


def test_dice_by_hand() -> None:
    predicted = torch.tensor([[[1, 1, 0]], [[0, 0, 0]], [[0, 0, 0]], [[1, 0, 0]]], dtype=torch.bool)
    target = torch.tensor([[[1, 0, 0]], [[0, 0, 0]], [[1, 0, 0]], [[0, 0, 0]]], dtype=torch.bool)
    # 2 of 2 + 1; both empty; one of them empty.
    torch.testing.assert_close(dice(predicted, target), torch.tensor([2 / 3, 1.0, 0.0, 0.0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": "best"}, "7 validation images have text, which keep: best needs: .*, or choose keep: last"),
        ({"phase": {"early_stopping": 2}}, "which early_stopping needs: .*, or choose early_stopping: null"),
        ({"keep": "best", "best_by": "dice"}, "best_by 'dice' is not one of the method's: loss"),
    ],
)
def test_what_cannot_be_chosen_is_refused(tokenizer, change: dict[str, Any], message: str) -> None:
    phase = dataclasses.replace(FIRST, **change.pop("phase", {}))
    config = TrainingConfig(phases={"one": phase}, **change)
    with pytest.raises(ValueError, match=message) as caught:
        check_phases(make_model(tokenizer, Clip), config, EngineConfig(), usable=32, validation=7)
    assert "\n" not in str(caught.value)


def test_only_the_phase_that_chooses_needs_validation(tokenizer) -> None:
    large = dataclasses.replace(FIRST, batch_size=16)
    config = TrainingConfig(phases={"a": large, "b": FIRST}, phase_order=("a", "b"), keep="best")
    check_phases(make_model(tokenizer, Clip), config, EngineConfig(), usable=32, validation=8)


def test_settings_that_choose_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="best_by 'dice' chooses nothing: set keep: best, or early_stopping"):
        dataclasses.replace(TRAINING, best_by="dice")
    with pytest.raises(ValueError, match="keep 'first' is not one of: last, best"):
        dataclasses.replace(TRAINING, keep="first")
    with pytest.raises(ValueError, match="early_stopping is a number of epochs, at least 1, or null"):
        dataclasses.replace(FIRST, early_stopping=0)
    assert UNet.validation_scores == ("dice",)


def test_a_method_without_phases_has_no_best_epoch(tokenizer) -> None:
    class Fixed(Clip):
        losses = ()

    with pytest.raises(ValueError, match=r"training\.keep is best, but a method without phases has no epochs"):
        check_phases(
            make_model(tokenizer, Fixed), TrainingConfig(phases={}, keep="best"), EngineConfig(), usable=9, validation=9
        )
