"""Two workers give the loss and the gradients of one process on the joined batch."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch.nn.parallel import DistributedDataParallel

from models.data.batches import Collate, Tokenise
from models.data.shards import Sample, ShardSet
from models.regionmed_clip.model import RegionMedClip
from models.text import load_tokenizer
from tests.models.small import make_model


def gradients(rank: int, world: int, shards: Path, folder: Path) -> None:
    """One worker: its rows of the batch, its loss and the gradients after DDP's mean."""
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(folder / "tokenizer")
    model = make_model(tokenizer).double().eval()
    module = model
    if world > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29511")
        dist.init_process_group("gloo", rank=rank, world_size=world)
        module = DistributedDataParallel(model, find_unused_parameters=True)
    batch = Collate(Tokenise(tokenizer, 32), model.max_regions)(described(shards)[rank::world])
    pixels, crops = batch.images.pixels.double(), batch.images.crops.double()
    batch = dataclasses.replace(batch, images=dataclasses.replace(batch.images, pixels=pixels, crops=crops))
    losses = module(batch, RegionMedClip.losses)
    torch.stack(list(losses.values())).sum().backward()
    result = {
        "losses": {name: value.detach() for name, value in losses.items()},
        "gradients": {name: parameter.grad for name, parameter in model.named_parameters()},
        "regions": len(batch.images.owner),
    }
    torch.save(result, folder / f"{world}-{rank}.pt")
    if world > 1:
        dist.destroy_process_group()


def described(shards: Path) -> list[Sample]:
    stored = ShardSet(shards / "images", shards / "captions", "train").samples()
    return [sample for sample in stored if sample.captions["report"] is not None][:12]


@pytest.mark.slow
def test_two_workers_equal_one_process(shards: Path, tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    gradients(0, 1, shards, tmp_path)
    multiprocessing.start_processes(gradients, (2, shards, tmp_path), nprocs=2, start_method="spawn")
    alone, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    # The workers hold different numbers of regions, which is where a mean of means would go wrong.
    assert first["regions"] != second["regions"]
    assert alone["regions"] == first["regions"] + second["regions"]
    for name, value in alone["losses"].items():
        torch.testing.assert_close((first["losses"][name] + second["losses"][name]) / 2, value, rtol=1e-9, atol=1e-9)
    for name, value in alone["gradients"].items():
        for worker in (first, second):
            if value is None:
                assert worker["gradients"][name] is None, name
            else:
                torch.testing.assert_close(worker["gradients"][name], value, rtol=1e-7, atol=1e-9, msg=name)
