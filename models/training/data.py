"""Global batches that are the same for any number of workers, and each worker's share of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from models.data.batches import Batch, Collate, has_text
from models.data.shards import Sample, ShardSet


@dataclass(frozen=True)
class Plan:
    """What one epoch reads.

    Attributes:
        shards: The training split.
        usable: Samples that have text; the others are left out and counted by the caller.
        seed: Of the order.
        buffer: Undecoded samples among which the order is drawn.
    """

    shards: ShardSet
    usable: int
    seed: int
    buffer: int

    def steps(self, batch_size: int) -> int:
        """Global batches an epoch; a last incomplete one is left out, so that workers stay in step."""
        return self.usable // batch_size

    def batches(self, epoch: int, batch_size: int) -> Iterator[list[Sample]]:
        """The global batches of an epoch, undecoded."""
        batch: list[Sample] = []
        for sample in self.shards.shuffled(self.seed, epoch, self.buffer):
            if has_text(sample):
                batch.append(sample)
            if len(batch) == batch_size:
                yield batch
                batch = []


class EpochShare(IterableDataset):
    """One worker's share of an epoch, decoded: rows `rank::world` of every global batch from `first` on."""

    def __init__(
        self, plan: Plan, collate: Collate, epoch: int, batch_size: int, first: int, rank: int, world: int
    ) -> None:
        self.plan, self.collate = plan, collate
        self.epoch, self.batch_size, self.first = epoch, batch_size, first
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[Batch]:
        loader = get_worker_info()
        turn, turns = (loader.id, loader.num_workers) if loader else (0, 1)
        for number, batch in enumerate(self.plan.batches(self.epoch, self.batch_size)):
            # A DataLoader takes from its processes in turn, so the order of the batches stays.
            if number >= self.first and (number - self.first) % turns == turn:
                yield self.collate(batch[self.rank :: self.world])


def epoch_batches(share: EpochShare, loader_workers: int) -> Iterator[Batch]:
    """The share, decoded here or by `loader_workers` processes ahead of the training step."""
    if loader_workers == 0:
        return iter(share)
    # spawn: a forked copy of a process that runs torch's threads can hang.
    loader = DataLoader(
        share, batch_size=None, num_workers=loader_workers, multiprocessing_context="spawn", prefetch_factor=4
    )
    return iter(loader)
