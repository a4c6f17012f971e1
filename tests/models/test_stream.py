"""The reader `stream`: the samples of random access from whole tars, shared out without a repetition or a loss."""

import dataclasses
import io
import logging
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.data.batches import Batch, Collate, Tokenise
from models.data.format import ShardError, read_manifest, write_manifest
from models.data.shards import Sample, ShardSet
from models.data.stream import TarStream
from models.regionmed_clip.model import RegionMedClip
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.data import EpochRange, RankShardedDataset, SamplingPlan, Skipped, load, usable
from models.training.state import SavedState
from models.training.stream import Lane, StreamDataset
from models.verified import sha256_file
from tests.file_server import serving
from tests.models.saved_states import saved_states

EVERY = np.ones(40, dtype=bool)
TRAINING = TrainingConfig(
    phase_order=("warm_up", "joint"),
    phases={
        "warm_up": Phase(epochs=1, batch_size=8, learning_rate=1e-3, losses=("report",)),
        "joint": Phase(epochs=2, batch_size=6, learning_rate=1e-3, losses=RegionMedClip.losses),
    },
)
STREAM = EngineConfig(threads=1, num_workers=0, reader="stream", shuffle_buffer=10, checkpoint_every=3)


def split_of(folder: Path) -> ShardSet:
    return ShardSet(folder / "images", folder / "captions", "train")


def plan_of(folder: Path, location: str | None = None, seed: int = 0) -> SamplingPlan:
    """40 images in five tars, of which every fifth has no text."""
    split = split_of(folder)
    return SamplingPlan(split.without_headers(), usable(split, RegionMedClip), seed, 10, location)


@pytest.fixture
def folder(shards: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(shards, tmp_path / "shards"))


@pytest.fixture(scope="module")
def plan(shards: Path) -> SamplingPlan:
    return plan_of(shards)


def lanes(part: EpochRange, world: int, turns: int) -> list[Lane]:
    return [
        Lane(part=part, rank=rank, world=world, turn=turn, turns=turns)
        for rank in range(world)
        for turn in range(turns)
    ]


@pytest.mark.parametrize("place", ["folder", "http", "file"])
def test_samples_are_those_of_random_access(shards: Path, place: str) -> None:
    split = split_of(shards)
    with serving(shards) as server:
        location = {"folder": None, "http": server.url, "file": f"file://{shards}"}[place]
        stream = TarStream(split.without_headers(), location)
        found = [raw.sample() for raw in stream.samples([3, 0])]
    assert found == [split.sample(number) for number in [*range(24, 32), *range(8)]]
    assert [list(sample.members) for sample in found] == [list(split.sample(0).members)] * 16
    for one, other in zip(found, (split.sample(number) for number in [*range(24, 32), *range(8)]), strict=True):
        assert (one.image == other.image).all()
        assert (one.target == other.target).all()
    assert stream.fetched.shards == 2
    assert stream.fetched.bytes == sum(tar.bytes for number in (3, 0) for tar in split.pairs[number])
    assert (len(server.asked) == 4) == (place == "http")


@given(
    chosen=st.lists(st.booleans(), min_size=40, max_size=40).filter(any),
    batch=st.integers(1, 6),
    world=st.integers(1, 4),
    turns=st.integers(1, 4),
    seed=st.integers(0, 5),
    buffer=st.integers(1, 60),
)
def test_lanes_share_an_epoch_out(
    plan: SamplingPlan, chosen: list[bool], batch: int, world: int, turns: int, seed: int, buffer: int
) -> None:
    plan = dataclasses.replace(plan, usable=np.array(chosen), seed=seed, buffer=buffer)
    part = EpochRange(plan=plan, epoch=3, batch_size=batch * world)
    orders = [list(lane.order()) for lane in lanes(part, world, turns)]
    # Each usable sample belongs to one lane.
    assert Counter(number for order in orders for number in order) == Counter(np.flatnonzero(chosen).tolist())
    # Each lane has just the samples of its batches, and the last one also what fills none.
    needed = [len(range(turn, plan.steps(batch * world), turns)) * batch for _ in range(world) for turn in range(turns)]
    left = sum(chosen) % (batch * world)
    assert [len(order) for order in orders] == [*needed[:-1], needed[-1] + left]
    assert [list(lane.order()) for lane in lanes(part, world, turns)] == orders
    # Shards of one lane come one after the other: no more tars are read twice than there are cuts.
    read = [shard for lane in lanes(part, world, turns) for shard, own in lane.ranges if len(own)]
    assert len(read) <= 5 + world * turns - 1


def test_one_process_has_the_batches_of_random_access(plan: SamplingPlan) -> None:
    for chosen in (plan.usable, EVERY, np.arange(40) % 7 == 3):
        for epoch in range(3):
            part = EpochRange(plan=dataclasses.replace(plan, usable=chosen), epoch=epoch, batch_size=4)
            (lane,) = lanes(part, 1, 1)
            batches = [number for batch in part.batches() for number in batch]
            assert list(lane.order())[: len(batches)] == batches


def test_epochs_seeds_and_numbers_of_processes_give_other_batches(plan: SamplingPlan) -> None:
    def batches(epoch: int, seed: int, world: int, turns: int) -> tuple[frozenset[int], ...]:
        part = EpochRange(plan=dataclasses.replace(plan, seed=seed), epoch=epoch, batch_size=4)
        workers = [expected_batches([part], rank, world, turns) for rank in range(world)]
        return tuple(frozenset().union(*rows) for rows in zip(*workers, strict=True))

    cases = [(0, 0, 1, 1), (1, 0, 1, 1), (0, 1, 1, 1), (0, 0, 2, 1), (0, 0, 1, 2)]
    assert len({batches(*case) for case in cases}) == len(cases)
    assert all(len(batch) == 4 for case in cases for batch in batches(*case))


def collate_of(tokenizer) -> Collate:
    return Collate(Tokenise(tokenizer, 32), 2)


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if dataclasses.is_dataclass(one):
        return all(equal(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one))
    return bool(one == other)


def numbers(batch: Batch) -> list[int]:
    return [int(key, 16) for key in batch.keys]


def alone(ranges: Sequence[EpochRange], tokenizer, rank: int = 0, world: int = 1) -> list[Batch]:
    return list(load(StreamDataset(ranges, collate_of(tokenizer), rank, world), 0))


def test_tensors_are_those_of_random_access(shards: Path, plan: SamplingPlan, tokenizer) -> None:
    ranges = [EpochRange(plan=plan, epoch=epoch, batch_size=6, augmented=epoch != 1) for epoch in range(3)]
    streamed = alone(ranges, tokenizer)
    split = [dataclasses.replace(one, plan=dataclasses.replace(plan, shards=split_of(shards))) for one in ranges]
    expected = list(load(RankShardedDataset(split, collate_of(tokenizer), 0, 1), 0))
    assert len(streamed) == 15
    assert all(equal(one, other) for one, other in zip(streamed, expected, strict=True))


def expected_batches(ranges: Sequence[EpochRange], rank: int, world: int, turns: int) -> list[list[int]]:
    """The samples of each batch, each lane's order cut into batches that come in turn."""
    found = []
    for part in ranges:
        orders = [lane.order() for lane in lanes(part, world, turns)[rank * turns : (rank + 1) * turns]]
        rows = part.batch_size // world
        found += [[next(orders[step % turns]) for _ in range(rows)] for step in range(part.plan.steps(part.batch_size))]
    return found


def test_two_loader_processes_of_the_second_of_two_workers(shards: Path, tokenizer) -> None:
    """Over http, from the fourth batch on; epochs of 5 batches, so that the processes change places."""
    with serving(shards) as server:
        plan = plan_of(shards, server.url)
        ranges = [EpochRange(plan=plan, epoch=epoch, batch_size=6) for epoch in range(2)]
        later = [dataclasses.replace(ranges[0], first=3), ranges[1]]
        batches = list(load(StreamDataset(later, collate_of(tokenizer), 1, 2), 2))
    expected = [expected_batches(ranges, rank, 2, 2) for rank in range(2)]
    assert [numbers(batch) for batch in batches] == expected[1][3:]
    # Both workers have equally many batches, and no sample comes twice in an epoch.
    assert [len(found) for found in expected] == [10, 10]
    for epoch in (slice(0, 5), slice(5, 10)):
        seen = [number for found in expected for batch in found[epoch] for number in batch]
        assert len(set(seen)) == len(seen) == 30
        assert plan.usable[seen].all()
    from_disk = EpochRange(plan=plan_of(shards), epoch=1, batch_size=6)
    single = {key: batch for batch in alone([from_disk], tokenizer) for key in batch.keys}
    compared = 0
    for batch in batches[2:]:
        for row, key in enumerate(batch.keys):
            if other := single.get(key):
                compared += 1
                assert torch.equal(batch.images.pixels[row], other.images.pixels[other.keys.index(key)])
    assert compared > 10


@pytest.mark.parametrize("first", [1, 4, 5])
def test_an_epoch_that_goes_on_skips_by_counting(
    plan: SamplingPlan, tokenizer, caplog: pytest.LogCaptureFixture, first: int
) -> None:
    whole = [EpochRange(plan=plan, epoch=epoch, batch_size=6) for epoch in range(2)]
    later = [dataclasses.replace(whole[0], first=first), whole[1]]
    with caplog.at_level(logging.INFO):
        batches = alone(later, tokenizer)
    assert [batch.keys for batch in batches] == [batch.keys for batch in alone(whole, tokenizer)[first:]]
    (line,) = [record.getMessage() for record in caplog.records if "goes on" in record.getMessage()]
    assert f"a process skipped {6 * first} samples" in line
    (note,) = [item for item in StreamDataset(later[:1], collate_of(tokenizer), 0, 1) if isinstance(item, Skipped)]
    assert note.samples == 6 * first
    # Of an epoch that is through, nothing is read.
    assert (note.shards > 0) == (note.bytes > 0) == (first < 5)


def test_a_tar_of_which_nothing_is_left_is_not_fetched_again(shards: Path, tokenizer) -> None:
    with serving(shards) as server:
        plan = plan_of(shards, server.url)
        # Nothing waits: samples come in the order of the tars.
        part = EpochRange(plan=dataclasses.replace(plan, buffer=1), epoch=0, batch_size=2, first=14)
        batches = alone([part], tokenizer)
    left = {number // 8 for batch in batches for number in numbers(batch)}
    assert {int(path[-8:-4]) for path in server.asked} == left
    assert len(left) < 3


def train(
    plan: SamplingPlan,
    tokenizer,
    resumed: SavedState | None = None,
    *,
    engine: EngineConfig = STREAM,
    stop_after: int | None = None,
    validation: SamplingPlan | None = None,
) -> list[SavedState]:
    """All states that the loop saved; `stop_after` kills it after so many."""
    return saved_states(plan, tokenizer, TRAINING, engine, resumed, stop_after=stop_after, validation=validation)


def test_one_process_trains_the_weights_of_random_access_and_goes_on_where_it_stopped(shards: Path, tokenizer) -> None:
    plan, access = plan_of(shards), dataclasses.replace(STREAM, reader="random_access")
    by_number = dataclasses.replace(plan, shards=split_of(shards))
    streamed = train(plan, tokenizer, validation=plan)[-1]
    expected = train(by_number, tokenizer, engine=access, validation=by_number)[-1]
    # The second state is saved within the second phase's first epoch.
    killed = train(plan, tokenizer, stop_after=2, validation=plan)
    assert killed[-1]["position"] == (1, 0, 2, 6)
    resumed = train(plan, tokenizer, killed[-1], validation=plan)[-1]
    assert streamed["reading"] == {"reader": "stream", "workers": 1, "loader_processes": 1}
    assert expected["reading"] == {"reader": "random_access"}
    for other in (expected, resumed):
        assert streamed["curve"] == other["curve"]
        assert streamed["validation"] == other["validation"]
        assert all(torch.equal(value, other["model"][name]) for name, value in streamed["model"].items())


def test_a_run_does_not_go_on_with_other_batches(shards: Path, tokenizer) -> None:
    plan = plan_of(shards)
    saved = train(plan, tokenizer, stop_after=1)[-1]
    message = (
        "the saved run reads by reader stream, workers 1, loader_processes 1, and would go on by "
        "reader stream, workers 1, loader_processes 2, with other batches"
    )
    with pytest.raises(ValueError, match=message):
        train(plan, tokenizer, saved, engine=dataclasses.replace(STREAM, loader_workers=2))
    with pytest.raises(ValueError, match="would go on by reader random_access, with other batches"):
        train(plan, tokenizer, saved, engine=dataclasses.replace(STREAM, reader="random_access"))


def test_a_mistyped_reader_is_an_error_that_lists_them() -> None:
    with pytest.raises(ValueError, match=r"^reader 'streaming' is not one of: random_access, stream$"):
        EngineConfig(reader="streaming")


def rewritten(folder: Path, family: str, change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]]) -> None:
    """Change the members of a family's second tar, and let its manifest give the new bytes as written."""
    path = folder / family / "train" / "000001.tar"
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in change(members):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    as_written(folder / family)


def as_written(folder: Path) -> None:
    manifest, path = read_manifest(folder), folder / "train" / "000001.tar"
    split = manifest.splits["train"]
    split.shards[1] = dataclasses.replace(split.shards[1], bytes=path.stat().st_size, sha256=sha256_file(path))
    write_manifest(folder, manifest)


def read_all(folder: Path) -> list[Sample]:
    return [raw.sample() for raw in TarStream(split_of(folder).without_headers()).samples(range(5))]


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("images", lambda members: members[5:], r"images/train/000001\.tar holds 7 samples, its manifest says 8"),
        ("captions", lambda members: members[:-1], r"captions/train/000001\.tar holds 7 samples, its manifest says 8"),
        ("captions", lambda members: members[::-1], r"captions/\S+ has other samples than \S+images/train/000001\.tar"),
        ("images", lambda members: members[:-1], r"holds the members \['crops.bin', .*'meta.json.txt'\] of 0+f"),
        ("images", lambda members: [*members, members[-1]], r"000001\.tar is damaged \(.*duplicate file name"),
        ("captions", lambda members: [(name, b"{") for name, _ in members], r"captions.json.txt is not JSON"),
    ],
)
def test_a_tar_with_other_samples_than_it_should_have_is_refused(
    folder: Path, family: str, change, message: str
) -> None:
    rewritten(folder, family, change)
    with pytest.raises(ShardError, match=message):
        read_all(folder)


@pytest.mark.parametrize(
    ("beyond", "message"),
    [(0, r"000001\.tar holds 3 samples, its manifest says 8"), (700, r"000001\.tar is damaged")],
)
def test_a_tar_that_was_cut_before_it_was_listed_is_refused(folder: Path, beyond: int, message: str) -> None:
    path = folder / "captions" / "train" / "000001.tar"
    with tarfile.open(path) as tar:
        fourth = tar.getmembers()[3].offset
    path.write_bytes(path.read_bytes()[: fourth + beyond])
    with pytest.raises(ShardError, match=rf"000001\.tar has {fourth + beyond} bytes, its manifest says"):
        read_all(folder)
    as_written(folder / "captions")
    with pytest.raises(ShardError, match=message):
        read_all(folder)


def test_families_that_count_otherwise_are_refused(folder: Path) -> None:
    manifest = read_manifest(folder / "captions")
    shards = manifest.splits["train"].shards
    shards[0], shards[1] = (dataclasses.replace(shards[n], samples=count) for n, count in ((0, 7), (1, 9)))
    write_manifest(folder / "captions", manifest)
    with pytest.raises(ShardError, match=r"captions has other tars than .*images \(train\)"):
        split_of(folder).without_headers()


def test_a_fault_ends_the_reading_and_never_shortens_it(shards: Path, folder: Path, tokenizer) -> None:
    with serving(folder) as server:
        plan = plan_of(shards, server.url)
        part = EpochRange(plan=plan, epoch=0, batch_size=8)
        server.status["images/train/000002.tar"] = 503
        with pytest.raises(ConnectionError, match=r"images/train/000002\.tar: HTTP 503"):
            alone([part], tokenizer)
        server.status.clear()
        server.cut["captions/train/000002.tar"] = 100
        with pytest.raises(ConnectionError, match=r"captions/train/000002\.tar: the connection ended \d+ bytes early"):
            alone([part], tokenizer)
        server.cut.clear()
        path = folder / "images" / "train" / "000002.tar"
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(ShardError, match=r"images/train/000002\.tar has 5000 bytes") as error:
            list(load(StreamDataset([part], collate_of(tokenizer), 0, 1), 1))
    # It came from another process, and is one line nevertheless.
    assert "\n" not in str(error.value)


def test_what_waits_is_no_more_than_the_buffer_and_one(plan: SamplingPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    part = EpochRange(plan=dataclasses.replace(plan, buffer=4), epoch=0, batch_size=8)
    (lane,) = lanes(part, 1, 1)
    order, taken, given_out = list(lane.order()), 0, 0
    tars = TarStream(part.plan.shards)

    def counted(stream: Iterator[Any]) -> Iterator[Any]:
        nonlocal taken
        for raw in stream:
            taken += bool(part.plan.usable[raw.number])
            assert taken - given_out <= 5
            yield raw

    original = tars.samples
    monkeypatch.setattr(TarStream, "samples", lambda self, shards: counted(original(shards)))
    for number, sample in zip(order, lane.samples(tars), strict=True):
        assert int(sample.key, 16) == number
        given_out += 1
