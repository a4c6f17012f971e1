"""Settings of a training run."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stage of a curriculum.

    Attributes:
        name: Shown in curves.
        epochs: Passes over the training split.
        batch_size: Images a step, over all workers together.
        learning_rate: Peak of the phase.
        losses: Names of the method's losses that count; each adds with weight 1.
        schedule: constant, or cosine down to 0 over the phase.
        warmup_steps: Steps of linear increase at the start.
    """

    name: str
    epochs: int
    batch_size: int
    learning_rate: float
    losses: tuple[str, ...]
    schedule: str = "constant"
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule '{self.schedule}' is not one of: constant, cosine")
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(f"phase '{self.name}' needs at least 1 epoch and a batch of 2")
        if not self.losses:
            raise ValueError(f"phase '{self.name}' has no losses")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings that hold for all phases of one method.

    Attributes:
        phases: In order.
        weight_decay: AdamW.
        gradient_clip: Largest norm of the gradient.
        vocabulary_size: Entries of the tokenizer trained from the training split.
        max_length: Tokens a text; longer ones are cut and counted.
    """

    phases: tuple[Phase, ...]
    weight_decay: float = 0.02
    gradient_clip: float = 0.5
    vocabulary_size: int = 4000
    max_length: int = 128

    def __post_init__(self) -> None:
        if not self.phases:
            raise ValueError("a method needs at least one phase")


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How a run is carried out, for every method.

    Attributes:
        seed: Weights, order of the samples, dropout.
        threads: torch's threads in each worker; part of what decides the bits of a result.
        num_workers: Ray Train workers; 0 trains in this process.
        use_gpu: One GPU a worker.
        shuffle_buffer: Undecoded samples among which the order is drawn.
        loader_workers: Processes that decode for each worker; 0 decodes in the worker itself.
        checkpoint_every: Steps between saved states of an unfinished run.
    """

    seed: int = 0
    threads: int = 2
    num_workers: int = 1
    use_gpu: bool = False
    shuffle_buffer: int = 2048
    loader_workers: int = 0
    checkpoint_every: int = 100
