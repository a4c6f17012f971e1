"""Two workers are one: loss and gradients of one process on the joined batch, and they stop and go on together.

All of it in one start of two processes, for that takes longer than what they do.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from models.clip.model import Clip
from models.convirt.model import Convirt
from models.data.batches import Batch, Tokenise
from models.data.shards import Sample, ShardSet
from models.distributed import rank
from models.gloria.model import Gloria
from models.medklip.model import Medklip
from models.method import Method
from models.mgca.model import Mgca
from models.plan.model import Plan
from models.prior.model import Prior
from models.regionmed_clip.model import RegionMedClip
from models.siglip.model import Siglip
from models.text import load_tokenizer
from models.training import data
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.loop import fit
from models.training.state import SavedState
from tests.models.small import make_model


@dataclasses.dataclass(frozen=True)
class Case:
    """A method, the losses that are compared, and its settings.

    Attributes:
        method: Its class.
        losses: Names.
        rows: `rows_at_a_time` of the encoders.
        changes: Settings that differ from those of `make_model`.
    """

    method: type[Method]
    losses: tuple[str, ...]
    rows: int | None = None
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)


# Altered captions and regions are drawn: by image, region and epoch, whichever worker holds them.
DRAWN = {
    "negatives": {"adjective": 2, "position": 2, "term": 1},
    "terms": ("red", "green", "blue"),
    "max_regions": 1,
}
CASES = {
    "clip": Case(Clip, Clip.losses),
    "regionmed_clip": Case(RegionMedClip, RegionMedClip.losses),
    "regionmed_clip_region_phase": Case(RegionMedClip, ("region", "negatives")),
    "regionmed_clip_softmax": Case(RegionMedClip, ("negatives",), changes={"negative_loss": "softmax"}),
    "regionmed_clip_drawn": Case(RegionMedClip, RegionMedClip.losses, changes=DRAWN),
    "plan": Case(Plan, Plan.losses),
    "plan_within_report": Case(Plan, ("local",), changes={"negatives": "report"}),
    "plan_other_images": Case(Plan, Plan.losses, changes={"negatives": "images"}),
    "siglip": Case(Siglip, Siglip.losses),
    "convirt": Case(Convirt, Convirt.losses),
    "gloria": Case(Gloria, Gloria.losses),
    "mgca": Case(Mgca, Mgca.losses),
    "medklip": Case(Medklip, Medklip.losses),
    "prior": Case(Prior, Prior.losses),
    "clip_sentences": Case(Clip, ("report", "sentence"), changes={"sentences": True}),
    "regionmed_clip_sentences": Case(RegionMedClip, ("sentence",), rows=2, changes={"sentences": True}),
    "clip_shared": Case(Clip, Clip.losses, changes={"targets": "shared"}),
    "siglip_shared": Case(Siglip, Siglip.losses, changes={"targets": "shared"}),
    "convirt_shared": Case(Convirt, Convirt.losses, changes={"targets": "shared"}),
    "regionmed_clip_shared": Case(RegionMedClip, RegionMedClip.losses, changes={"targets": "shared"}),
    "regionmed_clip_in_parts": Case(RegionMedClip, RegionMedClip.losses, rows=2),
}
TRAINING = TrainingConfig(
    phases={"joint": Phase(epochs=2, batch_size=8, learning_rate=1e-3, losses=RegionMedClip.losses)}
)
ENGINE = EngineConfig(threads=1, num_workers=2, shuffle_buffer=10, checkpoint_every=3)


class Spoilt(Clip):
    """Its loss is not a number on the second worker alone, in the third step."""

    steps = 0

    def forward(self, batch: Batch, losses: Sequence[str]) -> dict[str, Tensor]:
        self.steps += 1
        found = super().forward(batch, losses)
        return {
            name: value * float("nan") if rank() == 1 and self.steps == 3 else value for name, value in found.items()
        }


def work(rank: int, world: int, shards: Path, folder: Path) -> None:
    """Everything that one worker does; what it found goes to `folder`."""
    torch.set_num_threads(1)
    if world > 1:
        # They meet in a file: a port could be another test's.
        dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world)
    tokenizer = load_tokenizer(folder / "tokenizer")
    found: dict[str, Any] = {name: gradients(case, rank, world, shards, tokenizer) for name, case in CASES.items()}
    if world > 1:
        found["unbroken"] = trained(shards, tokenizer)
        found["resumed"] = trained(shards, tokenizer, trained(shards, tokenizer, stop_after=1))
        found["streamed"] = trained(shards, tokenizer, reader="stream")
        killed = trained(shards, tokenizer, stop_after=1, reader="stream")
        found["streamed_on"] = trained(shards, tokenizer, killed, reader="stream")
        try:
            trained(shards, tokenizer, method=Spoilt)
        except FloatingPointError as error:
            found["stopped"] = str(error)
        dist.destroy_process_group()
    torch.save(found, folder / f"{world}-{rank}.pt")


def gradients(case: Case, rank: int, world: int, shards: Path, tokenizer) -> dict[str, Any]:
    """The worker's rows of the batch, its losses and the gradients after DDP's mean."""
    model = make_model(tokenizer, case.method, **case.changes).double().eval()
    for encoder in (model.image_encoder, model.text_encoder):
        encoder.rows_at_a_time = case.rows
    module = DistributedDataParallel(model, find_unused_parameters=True) if world > 1 else model
    chosen = twins if case.changes.keys() & {"sentences", "targets"} or case.method is Prior else described
    samples = (labelled if case.method is Medklip else chosen)(shards)[rank::world]
    batch = model.collate(Tokenise(tokenizer, 32), None, 0)(samples, 3)
    pixels, crops = batch.images.pixels.double(), batch.images.crops.double()
    batch = dataclasses.replace(batch, images=dataclasses.replace(batch.images, pixels=pixels, crops=crops))
    losses = module(batch, case.losses)
    torch.stack(list(losses.values())).sum().backward()
    return {
        "losses": {name: value.detach() for name, value in losses.items()},
        "gradients": {name: parameter.grad for name, parameter in model.named_parameters()},
        "regions": len(batch.images.owner),
    }


def described(shards: Path) -> list[Sample]:
    stored = ShardSet(shards / "images", shards / "captions", "train").samples()
    return [sample for sample in stored if sample.captions.report is not None][:12]


def labelled(shards: Path) -> list[Sample]:
    """Images of which every third has no labels; the workers know different numbers of entities."""
    return [
        dataclasses.replace(sample, meta=dataclasses.replace(sample.meta, labels=("red",) if number % 3 else None))
        for number, sample in enumerate(described(shards))
    ]


def twins(shards: Path) -> list[Sample]:
    """Reports and sentences that come again, on one worker and on both, and a worker with fewer sentences."""
    reports = ["Red. Number 3.", "Blue.", "red, number 3", "Red.", "Blue. Red.", "blue"]
    samples = []
    for number, sample in enumerate(described(shards)):
        summary = reports[number % 4] if sample.captions.summary else None
        captions = dataclasses.replace(sample.captions, report=reports[number % 6], summary=summary)
        samples.append(dataclasses.replace(sample, captions=captions))
    return samples


def trained(
    shards: Path,
    tokenizer,
    resumed: SavedState | None = None,
    *,
    stop_after: int | None = None,
    method: type[Method] = RegionMedClip,
    reader: str = "random_access",
) -> SavedState:
    """The last state of a run of two workers, killed after `stop_after` saved states."""
    split = ShardSet(shards / "images", shards / "captions", "train")
    plan = data.SamplingPlan(split, data.usable(split, method), seed=0, buffer=10)
    model = make_model(tokenizer, method, **DRAWN if method is RegionMedClip else {})
    losses = tuple(name for name in TRAINING.phases["joint"].losses if name in method.losses)
    training = TrainingConfig(phases={"joint": dataclasses.replace(TRAINING.phases["joint"], losses=losses)})
    saved: list[SavedState] = []

    def save(new: SavedState) -> None:
        saved.append(new)
        if len(saved) == stop_after:
            raise KeyboardInterrupt

    collate = model.collate(Tokenise(tokenizer, 32), None, 0)
    engine = dataclasses.replace(ENGINE, reader=reader)
    try:
        fit(model, plan, collate, training, engine, device=torch.device("cpu"), saved=resumed, save=save)
    except KeyboardInterrupt:
        assert stop_after is not None
    return saved[-1]


@pytest.fixture(scope="module")
def found(shards: Path, tokenizer, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What one process found, and each of two."""
    folder = tmp_path_factory.mktemp("workers")
    tokenizer.save_pretrained(folder / "tokenizer")
    work(0, 1, shards, folder)
    multiprocessing.start_processes(work, (2, shards, folder), nprocs=2, start_method="spawn")
    return [torch.load(folder / f"{name}.pt") for name in ("1-0", "2-0", "2-1")]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_of_two_workers_are_those_of_one_process(found: list[dict[str, Any]], name: str) -> None:
    alone, first, second = (worker[name] for worker in found)
    if CASES[name].method is RegionMedClip:
        # The workers hold different numbers of regions, which is where a mean of means would go wrong.
        assert first["regions"] != second["regions"]
        assert alone["regions"] == first["regions"] + second["regions"]
    for loss, value in alone["losses"].items():
        torch.testing.assert_close((first["losses"][loss] + second["losses"][loss]) / 2, value, rtol=1e-9, atol=1e-9)
    for parameter, value in alone["gradients"].items():
        for worker in (first, second):
            if value is None:
                assert worker["gradients"][parameter] is None, parameter
            else:
                torch.testing.assert_close(
                    worker["gradients"][parameter], value, rtol=1e-7, atol=1e-9, msg=f"{name}: {parameter}"
                )


@pytest.mark.slow
def test_each_worker_goes_on_with_its_own_random_numbers(found: list[dict[str, Any]]) -> None:
    _, first, second = found
    # Dropout drops other features on each worker, and their regions differ in number.
    rows = first["unbroken"]["random"]["cpu"]
    assert not torch.equal(rows[0], rows[1])
    for worker in (first, second):
        assert worker["resumed"]["curve"] == worker["unbroken"]["curve"]
        assert torch.equal(worker["resumed"]["random"]["cpu"], rows)
        for name, value in worker["unbroken"]["model"].items():
            assert torch.equal(worker["resumed"]["model"][name], value), name
            assert torch.equal(first["unbroken"]["model"][name], value), name


@pytest.mark.slow
def test_two_workers_that_stream_go_on_where_they_stopped(found: list[dict[str, Any]]) -> None:
    _, first, second = found
    for worker in (first, second):
        assert worker["streamed"]["reading"] == {"reader": "stream", "workers": 2, "loader_processes": 1}
        assert worker["streamed_on"]["curve"] == worker["streamed"]["curve"] == first["streamed"]["curve"]
        for name, value in worker["streamed"]["model"].items():
            assert torch.equal(worker["streamed_on"]["model"][name], value), name
            assert torch.equal(first["streamed"]["model"][name], value), name
    # Each has other tars, so that a step has other images than with random access, and as many steps.
    losses = [[point["loss"] for point in first[name]["curve"]] for name in ("streamed", "unbroken")]
    assert len(losses[0]) == len(losses[1])
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_worker_stops_both(found: list[dict[str, Any]]) -> None:
    _, first, second = found
    assert first["stopped"] == second["stopped"]
    message, _, images = first["stopped"].partition("; images: ")
    assert message == "loss is nan at step 3 (joint)"
    assert len(set(images.split(", "))) == 8
