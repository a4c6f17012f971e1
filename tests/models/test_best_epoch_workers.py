"""Two workers choose the same best epoch, end a phase together, and go on after a kill as if there had been none."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

from models.data.batches import Collate, Tokenise
from models.text import load_tokenizer
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.loop import fit
from models.training.state import SavedState, checkpoint_weights
from tests.models.small import make_model
from tests.models.test_training import make_plan

# So high a rate that the validation loss rises after a few epochs.
FIRST = Phase(epochs=6, batch_size=8, learning_rate=0.3, losses=("report",), early_stopping=1)
TRAINING = TrainingConfig(
    phases={"first": FIRST, "joint": dataclasses.replace(FIRST, losses=("report", "region"))},
    phase_order=("first", "joint"),
    keep="best",
)
ENGINE = EngineConfig(threads=1, num_workers=2, shuffle_buffer=10, checkpoint_every=1)


def work(rank: int, shards: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    tokenizer = load_tokenizer(folder / "tokenizer")

    def train(resumed: SavedState | None) -> list[SavedState]:
        saved: list[SavedState] = []
        torch.manual_seed(0)
        model = make_model(tokenizer)
        collate = Collate(Tokenise(tokenizer, 32), model.max_regions)
        options: dict[str, Any] = {"device": torch.device("cpu"), "saved": resumed, "validation": make_plan(shards, 12)}
        fit(
            model,
            make_plan(shards),
            collate,
            TRAINING,
            ENGINE,
            save=lambda state: saved.append(copy.deepcopy(state)),
            **options,
        )
        return saved

    states = train(None)
    end = 4 * states[-1]["stopped"]["first"]
    # At the end of the phase that ended early, and within the next.
    resumed = [train(copy.deepcopy(states[step - 1]))[-1] for step in (end, end + 2)]
    dist.destroy_process_group()
    torch.save({"unbroken": states[-1], "resumed": resumed}, folder / f"{rank}.pt")


@pytest.mark.slow
def test_two_workers_agree_on_the_best_epoch(shards: Path, tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    multiprocessing.start_processes(work, (shards, tmp_path), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    whole = first["unbroken"]
    assert whole["stopped"]["first"] < 6
    assert whole["best"]["phase"] == "joint"
    losses = [point["loss"] for point in whole["validation"] if point["phase"] == "joint"]
    assert whole["best"]["value"] == min(losses)
    for state in (second["unbroken"], *first["resumed"], *second["resumed"]):
        for name in ("validation", "stopped", "position"):
            assert state[name] == whole[name], name
        assert state["best"]["epoch"] == whole["best"]["epoch"]
        weights = checkpoint_weights(state)
        assert all(torch.equal(value, weights[name]) for name, value in checkpoint_weights(whole).items())
