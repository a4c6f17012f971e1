"""What the training loop, the checkpoints and the tasks know of a method."""

from typing import Any, ClassVar

from torch import nn


class Method(nn.Module):
    """Base of every method: built from `Config` and the tokenizer's size, it maps a batch to its losses.

    `forward(batch, losses)` returns the losses asked for, each a scalar. What else a method can do it offers as
    capabilities (`models/capabilities.py`).

    Attributes:
        Config: Dataclass of its settings.
        losses: Names of the losses that a phase may ask for.
        max_regions: Regions an image that it looks at; 0 for whole images only.
        config: The settings it was built from.
    """

    Config: ClassVar[type]
    losses: ClassVar[tuple[str, ...]]
    max_regions: int
    config: Any
