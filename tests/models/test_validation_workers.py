"""Validation is shared among workers: each reads its rows alone, and the curve is that of one process."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import multiprocessing

from models.data.batches import Tokenise
from models.data.shards import Sample
from models.regionmed_clip.model import RegionMedClip
from models.text import load_tokenizer
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.loop import fit
from tests.models.small import make_model
from tests.models.test_training import make_plan
from tests.models.workers import group

# So small a rate leaves the weights as they are: dropout in training, which differs between workers, decides nothing.
PHASE = Phase(epochs=1, batch_size=12, learning_rate=1e-12, losses=RegionMedClip.losses)


def work(rank: int, world: int, folder: Path, shards: Path) -> None:
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(folder / "tokenizer")
    torch.manual_seed(0)
    model = make_model(tokenizer)
    make_batch = model.collate(Tokenise(tokenizer, 32), None, 0)
    validated: list[str] = []

    def collate(samples: list[Sample], epoch: int | None) -> Any:
        if epoch is None:
            validated.extend(sample.key for sample in samples)
        return make_batch(samples, epoch)

    with group(rank, world, folder):
        state = fit(
            model,
            make_plan(shards),
            collate,
            TrainingConfig(phases={"one": PHASE}),
            EngineConfig(threads=1, num_workers=world, shuffle_buffer=10),
            device=torch.device("cpu"),
            saved=None,
            save=lambda state: None,
            validation=make_plan(shards, 38),
        )
    torch.save({"curve": state["validation"], "validated": validated}, folder / f"{world}-{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_each_worker_validates_its_rows_and_the_losses_are_those_of_one_process(
    world: int, shards: Path, tokenizer, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    work(0, 1, tmp_path, shards)
    multiprocessing.start_processes(work, (world, tmp_path, shards), nprocs=world, start_method="spawn")
    alone = torch.load(tmp_path / "1-0.pt")
    workers = [torch.load(tmp_path / f"{world}-{rank}.pt") for rank in range(world)]
    # 30 of the 38 have text: two batches of 12, and nothing of it is read twice.
    assert len(set(alone["validated"])) == 24
    assert [len(worker["validated"]) for worker in workers] == [24 // world] * world
    assert {key for worker in workers for key in worker["validated"]} == set(alone["validated"])
    (expected,) = alone["curve"]
    assert set(expected["terms"]) == set(RegionMedClip.losses)
    for worker in workers:
        (point,) = worker["curve"]
        assert point == workers[0]["curve"][0]
        assert point["terms"] == pytest.approx(expected["terms"], rel=1e-5)
        assert point["loss"] == pytest.approx(expected["loss"], rel=1e-5)
