"""The reader `stream`: every loader process of every worker reads a part of the tars, whole and one after the other.

An epoch permutes the shards as random access does. Its usable samples, in that order, are cut into one lane for each
loader process of each worker, and the cuts fall where every lane has just the samples of its batches: all workers have
equally many batches, no sample comes twice, and none is left out but those that fill no global batch, as with random
access. A tar in which a cut falls is read on both sides of it. Within a lane, a sample is drawn from those that come
next, `buffer` and one. So the batches are a function of seed, epoch, number of workers and number of loader processes;
where one process reads alone, they are those of random access.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from models.data.format import ShardError
from models.data.shards import Sample, shuffled
from models.data.stream import RawSample, TarStream
from models.method import CollateFunction
from models.training.data import EpochRange, Failure, Skipped


@dataclass(frozen=True, kw_only=True)
class Lane:
    """The samples of an epoch that one loader process of one worker reads; where it begins to read changes none.

    Attributes:
        part: The epoch.
        rank: Of the worker, from 0.
        world: Workers.
        turn: The lane makes the batches `turn::turns` of its worker.
        turns: Loader processes of each worker.
    """

    part: EpochRange
    rank: int
    world: int
    turn: int
    turns: int

    @property
    def rows(self) -> int:
        """Samples of the worker in a global batch."""
        return self.part.batch_size // self.world

    @property
    def batches(self) -> range:
        """Numbers of its batches in the epoch, from 0."""
        return self._batches(self.turn)

    def _batches(self, turn: int) -> range:
        return range(turn, self.part.plan.steps(self.part.batch_size), self.turns)

    @property
    def number(self) -> int:
        """Of all lanes, those of the first worker first."""
        return self.rank * self.turns + self.turn

    def _random(self) -> tuple[np.ndarray, np.random.Generator]:
        """The order of the shards, and what draws within the first lane, both as random access has them."""
        random = np.random.default_rng([self.part.plan.seed, self.part.epoch])
        return random.permutation(len(self.part.plan.shards.starts) - 1), random

    @cached_property
    def ranges(self) -> list[tuple[int, range]]:
        """Its shards in the order in which they are read, each with the numbers of the samples that are the lane's."""
        plan, starts = self.part.plan, np.array(self.part.plan.shards.starts)
        permuted, _ = self._random()
        of_shards = np.array([plan.usable[low:high].sum() for low, high in pairwise(starts)], dtype=np.int64)
        # Usable samples before each place of the permuted order, and of all at its end.
        before = np.concatenate([[0], np.cumsum(of_shards[permuted])])

        def cut(usable: int) -> tuple[int, int]:
            """Place and row of the usable sample of this number, which a lane begins with."""
            if usable in (0, before[-1]):
                return (len(permuted) if usable else 0), 0
            place = int(np.searchsorted(before, usable, side="right")) - 1
            of_shard = plan.usable[starts[permuted[place]] : starts[permuted[place] + 1]]
            return place, int(np.flatnonzero(of_shard)[usable - before[place]])

        each = [len(self._batches(turn)) * self.rows for turn in range(self.turns)]
        first = self.rank * sum(each) + sum(each[: self.turn])
        # The last lane has what fills no batch, too.
        is_last = self.number + 1 == self.world * self.turns
        start, end = cut(first), cut(int(before[-1]) if is_last else first + each[self.turn])
        found = []
        for place in range(start[0], min(end[0] + 1, len(permuted))):
            low, high = int(starts[permuted[place]]), int(starts[permuted[place] + 1])
            own = range(low + start[1] if place == start[0] else low, low + end[1] if place == end[0] else high)
            found.append((int(permuted[place]), own))
        return found

    def order(self) -> Iterator[int]:
        """The numbers of its usable samples as they are drawn."""
        plan = self.part.plan
        if self.number == 0:
            _, random = self._random()
        else:
            random = np.random.default_rng([plan.seed, self.part.epoch, self.number])
        stored = chain.from_iterable(own for _, own in self.ranges)
        return (number for number in shuffled(stored, plan.buffer, random) if plan.usable[number])

    def samples(self, tars: TarStream, skipped: int = 0) -> Iterator[Sample]:
        """Its samples but the first `skipped`; a tar that has none of the others is not read."""
        order = self.order()
        wanted = np.zeros_like(self.part.plan.usable)
        for _, own in self.ranges:
            wanted[own.start : own.stop] = self.part.plan.usable[own.start : own.stop]
        for number in islice(order, skipped):
            wanted[number] = False
        shards = [shard for shard, own in self.ranges if wanted[own.start : own.stop].any()]
        return _in_order(order, tars.samples(shards), wanted)


def _in_order(order: Iterator[int], stream: Iterator[RawSample], wanted: np.ndarray) -> Iterator[Sample]:
    """The wanted samples of a stream in another order; those that came too early are held, as bytes."""
    held: dict[int, RawSample] = {}
    for number in order:
        while number not in held:
            raw = next(stream)
            if wanted[raw.number]:
                held[raw.number] = raw
        yield held.pop(number).sample()


class StreamDataset(IterableDataset):
    """The batches of one worker over several epoch ranges, decoded: `batch_size / world` rows of every global batch.

    Where the first range begins in the middle of an epoch, each process gives a `Skipped` first. A process of a loader
    gives a `Failure` for what it cannot read.
    """

    def __init__(self, ranges: Sequence[EpochRange], collate: CollateFunction, rank: int, world: int) -> None:
        self.ranges, self.collate = ranges, collate
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[Any]:
        loader = get_worker_info()
        process, processes = (loader.id, loader.num_workers) if loader else (0, 1)
        before = 0
        try:
            for part in self.ranges:
                # A DataLoader takes from its processes in turn, over the ends of epochs.
                turn = (process - before + part.first) % processes
                yield from self._batches(
                    part, Lane(part=part, rank=self.rank, world=self.world, turn=turn, turns=processes)
                )
                before += len(part)
        except (ShardError, ConnectionError) as error:
            if loader is None:
                raise
            # torch would make a traceback of many lines of it.
            yield Failure(error)

    def _batches(self, part: EpochRange, lane: Lane) -> Iterator[Any]:
        begun = time.perf_counter()
        tars = TarStream(part.plan.shards, part.plan.location)
        left = [number for number in lane.batches if number >= part.first]
        skipped = (len(lane.batches) - len(left)) * lane.rows
        samples = lane.samples(tars, skipped)
        if part.first:
            first = list(islice(samples, 1 if left else 0))
            seconds = time.perf_counter() - begun
            yield Skipped(skipped, tars.fetched.shards, tars.fetched.bytes, seconds)
            samples = chain(first, samples)
        for number in left:
            rows = list(islice(samples, lane.rows))
            if len(rows) != lane.rows:
                raise AssertionError(f"batch {number} of epoch {part.epoch} has {len(rows)} samples, not {lane.rows}")
            yield self.collate(rows, part.epoch if part.augmented else None)
