"""What the training loop, the checkpoints and the tasks know of a method."""

from typing import Any, ClassVar

from torch import nn
from transformers import PreTrainedTokenizerFast

from models.text import load_tokenizer


class Method(nn.Module):
    """Base of every method: built from `Config` and the tokenizer's size, it maps a batch to its losses.

    `forward(batch, losses)` returns the losses asked for, each a scalar. What else a method can do it offers as
    capabilities (`models/capabilities.py`).

    Attributes:
        Config: Dataclass of its settings.
        losses: Names of the losses that a phase may ask for.
        normalises_text: Whether it reads text lower-cased and without punctuation (`models/text.py`), or as written.
        max_regions: Regions an image that it looks at; 0 for whole images only.
        config: The settings it was built from.
    """

    Config: ClassVar[type]
    losses: ClassVar[tuple[str, ...]]
    normalises_text: ClassVar[bool] = True
    max_regions: int
    config: Any

    @classmethod
    def pretrained_tokenizer(cls, config: Any) -> PreTrainedTokenizerFast | None:
        """The tokenizer that the text encoder's weights were trained with; None where one has yet to be trained."""
        encoder = getattr(config, "text_encoder", None)
        if encoder is None or encoder.pretrained is None:
            return None
        return load_tokenizer(encoder.pretrained, encoder.revision)
