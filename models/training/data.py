"""Global batches that are the same for any number of workers, and the rows of them that each worker reads.

This is the reader `random_access`, and what both readers share; `models/training/stream.py` is the other.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from models.data.format import ShardError
from models.data.shards import Sample, ShardSet
from models.distributed import rank
from models.method import CollateFunction, Method

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SamplingPlan:
    """One split and the order in which it is read.

    Attributes:
        shards: The split.
        usable: (samples,) bool in stored order: those that the method can learn from; the caller counts the others.
        seed: Of the order.
        buffer: Samples among which the order is drawn.
        location: Folder or URL in which the reader `stream` finds a folder of tars for each family; None: those of
            `shards`.
    """

    shards: ShardSet
    usable: np.ndarray
    seed: int
    buffer: int
    location: str | None = None

    def steps(self, batch_size: int) -> int:
        """Global batches in an epoch; a last incomplete one is left out, so that workers stay in step."""
        return int(self.usable.sum()) // batch_size

    def batches(self, epoch: int, batch_size: int) -> Iterator[list[int]]:
        """The global batches of an epoch as numbers of samples."""
        usable = (number for number in self.shards.order(self.seed, epoch, self.buffer) if self.usable[number])
        for _ in range(self.steps(batch_size)):
            yield list(islice(usable, batch_size))


def skip_reason(sample: Sample, method: type[Method], sources: Collection[str] = ()) -> str | None:
    """Why a method does not learn from a sample; None: it does.

    Args:
        sample: With or without its image.
        method: The method.
        sources: `TrainingConfig.sources`.
    """
    if sources and sample.meta.source not in sources:
        return "other_source"
    return method.skip_reason(sample)


def usable(shards: ShardSet, method: type[Method], sources: Collection[str] = ()) -> np.ndarray:
    """`SamplingPlan.usable` of a split."""
    samples = shards.samples(with_image=False)
    return np.array([skip_reason(sample, method, sources) is None for sample in samples], dtype=bool)


@dataclass(frozen=True, kw_only=True)
class EpochRange:
    """The batches of an epoch from `first` on.

    Attributes:
        plan: What is read.
        epoch: Decides the order.
        batch_size: Images, over all workers together.
        first: Number of the first batch; those before it are left out.
        augmented: Whether its samples may be changed: in training, not in validation.
    """

    plan: SamplingPlan
    epoch: int
    batch_size: int
    first: int = 0
    augmented: bool = True

    def __len__(self) -> int:
        return self.plan.steps(self.batch_size) - self.first

    def batches(self) -> Iterator[list[int]]:
        return islice(self.plan.batches(self.epoch, self.batch_size), self.first, None)


class RankShardedDataset(IterableDataset):
    """The batches of one worker over several epoch ranges: rows `rank::world` of every global batch, decoded."""

    def __init__(self, ranges: Sequence[EpochRange], collate: CollateFunction, rank: int, world: int) -> None:
        self.ranges, self.collate = ranges, collate
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[Any]:
        loader = get_worker_info()
        first, step = (loader.id, loader.num_workers) if loader else (0, 1)
        all_batches = ((part, batch) for part in self.ranges for batch in part.batches())
        # A DataLoader takes from its processes in turn, so the order of the batches stays.
        for part, batch in islice(all_batches, first, None, step):
            samples = [part.plan.shards.sample(number) for number in batch[self.rank :: self.world]]
            yield self.collate(samples, part.epoch if part.augmented else None)


@dataclass(frozen=True)
class Skipped:
    """What it cost a process of the reader `stream` to begin in the middle of an epoch.

    Attributes:
        samples: Those of its batches that were trained on before, not given again.
        shards: That it fetched until it had the first sample of the next batch.
        bytes: Of their tars.
        seconds: Until then.
    """

    samples: int
    shards: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Failure:
    """What a process of a loader could not read, on its way to the process that trains."""

    error: ShardError | ConnectionError


def load(dataset: IterableDataset, loader_workers: int, *, pin: bool = False) -> Iterator[Any]:
    """The dataset's batches, decoded here or by `loader_workers` processes ahead of the training step.

    The processes live as long as the iterator, over the ends of epochs: starting them takes seconds.

    Args:
        dataset: What to read.
        loader_workers: Processes; 0 decodes in this one.
        pin: Leave the batches where a GPU can fetch them while it computes.

    Raises:
        ShardError: From the iterator: a tar is missing or damaged.
        ConnectionError: From the iterator: its storage cannot be reached.
    """
    return _batches_alone(iter(dataset) if loader_workers == 0 else _processes(dataset, loader_workers, pin=pin))


def _batches_alone(items: Iterator[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, Failure):
            raise item.error
        if not isinstance(item, Skipped):
            yield item
        elif rank() == 0:
            logger.info(
                "the epoch goes on in its middle: a process skipped %d samples, and had the next after %.1f s "
                "(%d shards fetched, %.1f MB)",
                item.samples,
                item.seconds,
                item.shards,
                item.bytes / 1e6,
            )


def _processes(dataset: IterableDataset, loader_workers: int, *, pin: bool) -> Iterator[Any]:
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=loader_workers,
        # A forked copy of a process that runs torch's threads can hang.
        multiprocessing_context="spawn",
        prefetch_factor=4,
        pin_memory=pin,
        # Its own: otherwise it takes a number from those that dropout draws from.
        generator=torch.Generator(),
    )
    return iter(loader)
