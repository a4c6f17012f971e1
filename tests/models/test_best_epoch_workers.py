"""Two workers choose the same best epoch, end a phase together, and go on after a kill as if there had been none."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

from models.data.batches import Collate, Tokenise
from models.text import load_tokenizer
from models.training.config import EngineConfig
from models.training.loop import fit
from models.training.state import SavedState, checkpoint_weights
from tests.models.test_best_epoch import STOPPING, make_planned
from tests.models.test_training import make_plan

ENGINE = EngineConfig(threads=1, num_workers=2, shuffle_buffer=10, checkpoint_every=1)


def work(rank: int, shards: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    tokenizer = load_tokenizer(folder / "tokenizer")

    def train(resumed: SavedState | None) -> list[SavedState]:
        saved: list[SavedState] = []
        model = make_planned(tokenizer)
        collate = Collate(Tokenise(tokenizer, 32), model.max_regions)
        options: dict[str, Any] = {"device": torch.device("cpu"), "saved": resumed, "validation": make_plan(shards, 12)}
        fit(
            model,
            make_plan(shards),
            collate,
            STOPPING,
            ENGINE,
            save=lambda state: saved.append(copy.deepcopy(state)),
            **options,
        )
        return saved

    states = train(None)
    # At the end of the phase that ended early, and after the best epoch of the next.
    resumed = [train(copy.deepcopy(states[step - 1]))[-1] for step in (12, 22)]
    dist.destroy_process_group()
    torch.save({"unbroken": states[-1], "resumed": resumed}, folder / f"{rank}.pt")


@pytest.mark.slow
def test_two_workers_agree_on_the_best_epoch(shards: Path, tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    multiprocessing.start_processes(work, (shards, tmp_path), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    whole = first["unbroken"]
    assert whole["stopped"] == {"first": 3, "joint": 3}
    assert (whole["best"]["phase"], whole["best"]["epoch"], whole["best"]["value"]) == ("joint", 2, 5.0)
    for state in (second["unbroken"], *first["resumed"], *second["resumed"]):
        for name in ("validation", "stopped", "position"):
            assert state[name] == whole[name], name
        assert state["best"]["epoch"] == whole["best"]["epoch"]
        weights = checkpoint_weights(state)
        assert all(torch.equal(value, weights[name]) for name, value in checkpoint_weights(whole).items())
