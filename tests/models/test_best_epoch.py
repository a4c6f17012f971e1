"""The best epoch by validation and early stopping: chosen as by hand, resumed, and refused where nothing can choose."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from models.clip.model import Clip
from models.data.batches import Batch
from models.regionmed_clip.model import RegionMedClip
from models.segmentation.losses import dice
from models.training.best import BestEpoch, ends_phase, is_better
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.prepare import check_phases
from models.training.state import SavedState, checkpoint_weights
from models.unet.model import UNet
from tests.models.small import make_model
from tests.models.test_training import ENGINE, make_plan, train


class Planned(RegionMedClip):
    """It trains as it is, but its losses on validation images are those of a plan, whatever it has learned."""

    # By the number of the phase's losses: the first phase has one.
    PLAN: ClassVar[dict[int, list[float]]] = {1: [3.0, 2.0, 2.5, 1.0, 1.5], 2: [9.0, 5.0, 6.0, 4.0, 4.5, 4.0]}

    def __init__(self, config: Any, vocabulary_size: int) -> None:
        super().__init__(config, vocabulary_size)
        # A buffer, so that a resumed run goes on counting.
        self.register_buffer("steps", torch.zeros(3, dtype=torch.long))

    def forward(self, batch: Batch, losses: Sequence[str]) -> dict[str, Tensor]:
        kind = len(losses)
        if self.training:
            self.steps[kind] += 1
            return super().forward(batch, losses)
        planned = self.PLAN[kind][int(self.steps[kind]) // 4 - 1]
        return {name: torch.tensor(planned if name == "report" else 0.0) for name in losses}


def make_planned(tokenizer) -> Planned:
    return make_model(tokenizer, Planned, heads=2)


FIRST = Phase(epochs=5, batch_size=8, learning_rate=0.01, losses=("report",))
JOINT = dataclasses.replace(FIRST, epochs=6, losses=("report", "region"))
TRAINING = TrainingConfig(phases={"first": FIRST, "joint": JOINT}, phase_order=("first", "joint"), ema_decay=0.5)
EVERY_STEP = dataclasses.replace(ENGINE, checkpoint_every=1)


def losses(state: SavedState, phase: str) -> list[float]:
    return [point["loss"] for point in state["validation"] if point["phase"] == phase]


def planned(shards: Path, tokenizer, training: TrainingConfig, *args: Any, engine=ENGINE) -> list[SavedState]:
    options: dict[str, Any] = {"training": training, "engine": engine, "validation": make_plan(shards, 12)}
    return train(shards, tokenizer, *args, model=make_planned(tokenizer), **options)


@pytest.fixture(scope="module")
def states(shards: Path, tokenizer) -> list[SavedState]:
    """The state after every step of a run that keeps the last epoch."""
    return planned(shards, tokenizer, TRAINING, engine=EVERY_STEP)


def test_the_checkpoint_has_the_weights_after_the_best_epoch_of_the_last_phase(shards, tokenizer, states) -> None:
    kept = planned(shards, tokenizer, dataclasses.replace(TRAINING, keep="best"))[-1]
    assert losses(states[-1], "first") == Planned.PLAN[1]
    # 4 steps an epoch, 5 epochs of the first phase: its 1.0 counts for nothing. The first of the two 4.0 is the best.
    facts = {"phase": "joint", "epoch": 4, "step": 20 + 16, "by": "loss", "value": 4.0}
    assert {name: kept["best"][name] for name in facts} == facts
    # The state after the epoch's last step; with the moving averages.
    weights = checkpoint_weights(kept)
    assert all(torch.equal(value, states[36 - 1]["model"][name]) for name, value in weights.items())
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
    return planned(shards, tokenizer, STOPPING, engine=EVERY_STEP)


def test_a_phase_ends_after_so_many_epochs_without_a_better_one(states, stopping: list[SavedState]) -> None:
    stopped = stopping[-1]
    # 2.5 after 2.0, and 6.0 after 5.0: the third epoch of each phase is its last.
    assert losses(stopped, "first") == [3.0, 2.0, 2.5]
    assert losses(stopped, "joint") == [9.0, 5.0, 6.0]
    assert stopped["stopped"] == {"first": 3, "joint": 3}
    assert (stopped["best"]["epoch"], stopped["best"]["step"], stopped["best"]["value"]) == (2, 12 + 8, 5.0)
    # Up to its end the first phase is the same; the next goes on from its last weights.
    assert stopped["curve"][:12] == states[-1]["curve"][:12]
    assert [point["step"] for point in stopped["curve"]] == list(range(1, 25))
    assert [point["phase"] for point in stopped["curve"]] == ["first"] * 12 + ["joint"] * 12
    weights = checkpoint_weights(stopped)
    assert all(torch.equal(value, stopping[20 - 1]["model"][name]) for name, value in weights.items())


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 5)])
def test_patience_counts_epochs_since_the_best_one(shards, tokenizer, patience: int, epochs: int) -> None:
    """With 2, the 1.0 of the fourth epoch comes in time, and the phase ends with its fifth epoch, which is no stop."""
    phase = dataclasses.replace(FIRST, early_stopping=patience)
    state = planned(shards, tokenizer, TrainingConfig(phases={"first": phase}))[-1]
    assert losses(state, "first") == Planned.PLAN[1][:epochs]
    assert state["stopped"] == ({"first": 3} if epochs == 3 else {})
    assert checkpoint_weights(state) is state["model"], "keep is last: nothing but the end is chosen"


# Within the first epoch; at the end of the first phase, which is no multiple of the epochs set; in the next phase; at
# its best epoch; after it.
@pytest.mark.parametrize("step", [3, 12, 13, 20, 22])
def test_a_killed_run_ends_with_the_same_best_epoch(shards, tokenizer, stopping, tmp_path: Path, step: int) -> None:
    stopped = stopping[-1]
    torch.save(stopping[step - 1], tmp_path / "state.pt")
    torch.manual_seed(1234)
    broken = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (broken["position"][3], broken["finished"]) == (step, False)
    again = planned(shards, tokenizer, STOPPING, broken)[-1]
    for name in ("curve", "validation", "stopped", "position"):
        assert again[name] == stopped[name], name
    weights = checkpoint_weights(again)
    assert all(torch.equal(value, weights[name]) for name, value in checkpoint_weights(stopped).items())
    assert {**again["best"], "weights": None} == {**stopped["best"], "weights": None}


def test_a_run_without_a_finite_validation_loss_has_no_best_epoch(shards, tokenizer, monkeypatch) -> None:
    monkeypatch.setitem(Planned.PLAN, 1, [math.nan] * 5)
    training = TrainingConfig(phases={"first": dataclasses.replace(FIRST, early_stopping=2)}, keep="best")
    with pytest.raises(FloatingPointError, match="no epoch of phase 'first' has a finite validation loss"):
        planned(shards, tokenizer, training)


@pytest.mark.slow
def test_decoding_processes_change_nothing_where_a_phase_ends_early(shards, tokenizer, stopping) -> None:
    again = planned(shards, tokenizer, STOPPING, engine=dataclasses.replace(ENGINE, loader_workers=2))[-1]
    assert again["curve"] == stopping[-1]["curve"]
    assert again["validation"] == stopping[-1]["validation"]


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
