"""Settings of a training run."""

import math
from dataclasses import dataclass
from typing import Any

from models.data.augmentation import Augmentation
from models.ranges import above_zero, at_least
from models.text import SPECIAL_TOKENS

SCHEDULES = ("constant", "cosine", "plateau")
OPTIMISERS = ("adamw", "adam")
PRECISIONS = ("float32", "bfloat16")
KEPT = ("last", "best")
READERS = ("random_access", "stream")

# Of `best_by`: the sum of the phase's losses on the validation split.
LOSS = "loss"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stage of a curriculum; its name is its key in `TrainingConfig.phases`.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Images per step, over all workers together.
        learning_rate: Peak of the phase.
        losses: Names of the method's losses that count; each adds with weight 1.
        schedule: constant; cosine down to 0 over the phase; or plateau: torch's ReduceLROnPlateau on the validation
            loss after each epoch.
        warmup_steps: Steps of linear increase at the start.
        factor: Of the plateau schedule: what the rate is multiplied with.
        patience: Of the plateau schedule: epochs without a lower loss before that.
        early_stopping: Epochs without a better one (`TrainingConfig.best_by`) after which the phase ends; None runs
            all. The next phase goes on from the last epoch.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    losses: tuple[str, ...]
    schedule: str = "constant"
    warmup_steps: int = 0
    factor: float = 0.1
    patience: int = 10
    early_stopping: int | None = None

    def __post_init__(self) -> None:
        _one_of("schedule", self.schedule, SCHEDULES)
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError("a phase needs at least 1 epoch and a batch of 2")
        if not self.losses:
            raise ValueError("a phase needs at least one loss")
        if len(set(self.losses)) < len(self.losses):
            raise ValueError(f"losses names one twice: {', '.join(self.losses)}; each counts with weight 1")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; give a number above 0")
        at_least(0, warmup_steps=self.warmup_steps)
        if self.schedule == "plateau" and self.warmup_steps:
            raise ValueError("schedule plateau has no warm-up: give that a phase of its own")
        if not 0 < self.factor < 1 or self.patience < 0:
            raise ValueError("factor lies between 0 and 1, and patience is not negative")
        if self.early_stopping is not None and self.early_stopping < 1:
            raise ValueError("early_stopping is a number of epochs, at least 1, or null")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings that hold for all phases of one method.

    Attributes:
        phases: By name; none for a method without losses, which is written as it was built.
        phase_order: The names of several phases in the order in which they run. It is a list of its own, since neither
            DVC nor programs that write YAML keep the order of a mapping.
        optimiser: adamw, or adam, whose weight decay is a part of the gradient (L2).
        weight_decay: Of the optimiser.
        gradient_clip: Largest norm of the gradient; .inf cuts nothing.
        ema_decay: Of an exponential moving average of the weights, which is then what the checkpoint holds.
        keep: What the checkpoint holds: the weights of the last epoch, or of the best one of the last phase, by the
            validation split.
        best_by: What the best epoch is the best by: `loss`, the sum of the phase's losses, or a score of the method
            (`Method.validation_scores`; methods that segment have `dice`).
        micro_batch_size: Images (or texts) of a worker whose activations are held at once; the losses see the whole
            batch nevertheless. None holds all.
        augmentation: How training samples are changed, for methods that take it.
        sources: Those whose images it learns from, and by whose validation images it is chosen; empty: all. The others
            can still be what it is scored on, as data sets that it never saw.
        data_fraction: Fraction of the usable training images that are used; those of a smaller fraction are a subset of
            those of a larger one.
        vocabulary_size: Entries of the tokenizer that is trained on the training split.
        max_length: Tokens per text; longer texts are cut and counted.
    """

    phases: dict[str, Phase]
    phase_order: tuple[str, ...] = ()
    optimiser: str = "adamw"
    weight_decay: float = 0.02
    gradient_clip: float = 0.5
    ema_decay: float | None = None
    keep: str = "last"
    best_by: str = LOSS
    micro_batch_size: int | None = None
    augmentation: Augmentation | None = None
    sources: tuple[str, ...] = ()
    data_fraction: float = 1.0
    vocabulary_size: int = 4000
    max_length: int = 128

    def __post_init__(self) -> None:
        order = self.phase_order or (tuple(self.phases) if len(self.phases) < 2 else ())
        if sorted(order) != sorted(self.phases):
            raise ValueError(f"phase_order must name each of the phases once: {', '.join(self.phases)}")
        object.__setattr__(self, "phases", {name: self.phases[name] for name in order})
        _one_of("optimiser", self.optimiser, OPTIMISERS)
        _one_of("keep", self.keep, KEPT)
        if self.best_by != LOSS and not any(self.chooses(name) for name in self.phases):
            raise ValueError(f"best_by '{self.best_by}' chooses nothing: set keep: best, or early_stopping in a phase")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay {self.ema_decay} does not lie between 0 and 1")
        if not 0 < self.data_fraction <= 1:
            raise ValueError(f"data_fraction {self.data_fraction} does not lie between 0 and 1")
        above_zero(gradient_clip=self.gradient_clip)
        at_least(0, weight_decay=self.weight_decay)
        at_least(1, micro_batch_size=self.micro_batch_size)
        # A start, an end, and something between them.
        at_least(3, max_length=self.max_length)
        at_least(SPECIAL_TOKENS + 1, vocabulary_size=self.vocabulary_size)

    def keeps_best_of(self, phase: str) -> bool:
        """Whether the checkpoint holds the best epoch of a phase."""
        return self.keep == "best" and phase == list(self.phases)[-1]

    def chooses(self, phase: str) -> bool:
        """Whether anything depends on which epoch of a phase is the best."""
        return self.keeps_best_of(phase) or self.phases[phase].early_stopping is not None


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How a run is carried out, for every method.

    Attributes:
        seed: Weights, order of the samples, dropout.
        threads: torch's threads in each worker; part of what decides the bits of a result.
        num_workers: Ray Train workers; 0 trains in this process.
        use_gpu: One GPU a worker.
        precision: float32, or bfloat16 inside the encoders; losses are computed in float32.
        compile: Compile the encoders (torch.compile): a slow first step, then faster ones.
        reader: How samples are read. random_access: each by itself from tars on a disk; any number of workers has the
            same global batches. stream: whole tars, one after the other, from a disk or a URL; the batches depend on
            the numbers of workers and of loader processes, and are those of random access where one process reads.
        shuffle_buffer: Samples among which the order is drawn; with `stream` for each process that reads, which holds
            them.
        loader_workers: Processes that decode for each worker; 0 decodes in the worker itself.
        checkpoint_every: Steps between saved states of an unfinished run.
        max_failures: How often a run continues from its last saved state by itself after a Ray worker died.
        min_workers: With how few of `num_workers` it then continues, where there is no room for all; every batch is
            shared among those that are left. None waits for all.
    """

    seed: int = 0
    threads: int = 2
    num_workers: int = 1
    use_gpu: bool = False
    precision: str = "float32"
    compile: bool = False
    reader: str = "random_access"
    shuffle_buffer: int = 2048
    loader_workers: int = 0
    checkpoint_every: int = 100
    max_failures: int = 0
    min_workers: int | None = None

    def __post_init__(self) -> None:
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("reader", self.reader, READERS)
        at_least(0, seed=self.seed, num_workers=self.num_workers, loader_workers=self.loader_workers)
        at_least(0, max_failures=self.max_failures)
        at_least(1, min_workers=self.min_workers)
        if self.min_workers is not None:
            self._check_min_workers(self.min_workers)
        at_least(1, threads=self.threads, shuffle_buffer=self.shuffle_buffer, checkpoint_every=self.checkpoint_every)

    def _check_min_workers(self, least: int) -> None:
        if least > self.num_workers:
            raise ValueError(f"min_workers {least} is more than num_workers {self.num_workers}")
        if not self.max_failures:
            raise ValueError("min_workers is for a run that continues by itself: set max_failures, or remove it")
        if self.reader == "stream":
            raise ValueError(
                "with min_workers the batches must be the same for any number of workers, which those of reader stream "
                "are not: choose random_access, or remove min_workers"
            )

    def reading(self, world: int) -> dict[str, Any]:
        """The reader, and all else but the seed that decides which samples share a batch, for `world` workers."""
        if self.reader == "random_access":
            return {"reader": self.reader}
        return {"reader": self.reader, "workers": world, "loader_processes": max(1, self.loader_workers)}


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} '{value}' is not one of: {', '.join(choices)}")
