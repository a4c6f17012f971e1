"""What the training loop, the checkpoints and the tasks know of a method."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import nn
from transformers import PreTrainedTokenizerFast

from models.data.augmentation import Augmentation
from models.data.batches import Collate, Tokenise, has_text
from models.data.shards import Sample
from models.text import load_tokenizer, region_text

# Samples, and the epoch for which they are augmented (None: as they are) -> the batch that `forward` takes.
CollateFunction = Callable[[Sequence[Sample], int | None], Any]


class Method(nn.Module):
    """Base of every method: built from `Config` and the tokenizer's size, it maps a batch to its losses.

    `forward(batch, losses)` returns the losses asked for, each a scalar. What else a method can do it offers as
    capabilities (`models/capabilities.py`). What it learns from is whole images with their texts and regions, unless
    it says otherwise here.

    Attributes:
        Config: Dataclass of its settings.
        losses: Names of the losses that a phase may ask for.
        required_losses: Those that every phase must ask for: a component that is on and trains nothing is a mistake.
        learns_from: What a training image must have, in words.
        augments: Whether it takes `training.augmentation`.
        normalises_text: Whether it reads text lower-cased and without punctuation (`models/text.py`), or as written.
        max_regions: Regions an image that it looks at; 0 for whole images only.
        config: The settings it was built from.
    """

    Config: ClassVar[type]
    losses: tuple[str, ...]
    required_losses: tuple[str, ...] = ()
    learns_from: ClassVar[str] = "text"
    augments: ClassVar[bool] = False
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

    @classmethod
    def skip_reason(cls, sample: Sample) -> str | None:
        """Reason code for which it cannot be trained on a sample (read without its pixels), or None."""
        return None if has_text(sample) else f"no_text_{sample.captions['status']}"

    @classmethod
    def training_texts(cls, sample: Sample) -> list[str]:
        """Every text of a training sample that it reads, as written."""
        captions = sample.captions
        described = (region for region in captions["regions"] if region["status"] == "ok")
        return [
            captions["report"],
            *([] if captions["summary"] is None else [captions["summary"]]),
            *(region_text(region["adjective"], region["term"], region["position"]) for region in described),
        ]

    def collate(self, tokenise: Tokenise, augmentation: Augmentation | None, seed: int) -> CollateFunction:
        """What makes its batches; `augmentation` is None unless it `augments`."""
        return Collate(tokenise, self.max_regions)
