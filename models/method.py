"""The base class of all methods: what the training loop, the checkpoints and the evaluation ask of one."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.data.augmentation import Augmentation
from models.data.batches import Collate, Tokenise, has_text
from models.data.shards import Sample
from models.data.texts import region_phrase
from models.text import published_tokenizer

# Samples, and the epoch for which they are augmented (None: as they are) -> the batch that `forward` takes.
CollateFunction = Callable[[Sequence[Sample], int | None], Any]


@runtime_checkable
class Encoder(Protocol):
    """What `Method` asks of the encoders among its parts (`models/encoders.py`)."""

    def configure_compute(self, *, bfloat16: bool, micro_batch_size: int | None, compiled: bool) -> None:
        """See `Method.configure_compute`."""
        ...

    def standalone_config(self) -> Any:
        """Its settings, the origin of pretrained weights replaced by the architecture."""
        ...


class Method(nn.Module):
    """Base of every method: built from `Config` and the tokenizer's size, it maps a batch to its losses.

    `forward(batch, losses)` returns the requested losses, each a scalar. What else a method can do it offers as
    capabilities, the protocols of `models/capabilities.py`: `method.offers(GroundsPhrases)`. It learns from whole
    images with their texts and regions, unless a subclass overrides `skip_reason`, `training_texts` and `collate`.

    Attributes:
        Config: Dataclass of its settings.
        losses: Names of the losses that a phase may ask for.
        required_losses: Those that every phase must ask for: a component that is on and trains nothing is a mistake.
        validation_scores: Names of what `scores` gives, by which training may choose its best epoch; higher is better.
        learns_from: What a training image must have, in words.
        augments: Whether it takes `training.augmentation`.
        normalises_text: Whether it reads text lower-cased and without punctuation (`models/text.py`), or as written.
        max_regions: Regions of each image that it looks at; 0 for whole images only.
        reads_text: Whether the text that comes with an image changes anything.
        crop_size: Pixels of the side of the crops that it was trained on, as its checkpoint says; None where none does.
        uses_bfloat16: Whether it computes in bfloat16 where that is safe (autocast); set by `configure_compute`.
        config: The settings it was built from.
    """

    Config: ClassVar[type]
    losses: tuple[str, ...]
    required_losses: tuple[str, ...] = ()
    validation_scores: ClassVar[tuple[str, ...]] = ()
    learns_from: ClassVar[str] = "text"
    augments: ClassVar[bool] = False
    normalises_text: ClassVar[bool] = True
    max_regions: int
    reads_text: bool = True
    crop_size: int | None = None
    uses_bfloat16: bool = False
    config: Any

    @classmethod
    def pretrained_tokenizer(cls, config: Any) -> PreTrainedTokenizerFast | None:
        """The tokenizer that the text encoder's weights were trained with; None where one has yet to be trained."""
        encoder = getattr(config, "text_encoder", None)
        if encoder is None or encoder.pretrained is None:
            return None
        return published_tokenizer(encoder.pretrained, encoder.revision)

    @classmethod
    def skip_reason(cls, sample: Sample) -> str | None:
        """Reason code for which it cannot be trained on a sample (read without its pixels), or None."""
        return None if has_text(sample) else f"no_text_{sample.captions.status}"

    @classmethod
    def training_texts(cls, sample: Sample) -> list[str]:
        """Every text of a training sample that it reads, as written."""
        captions = sample.captions
        texts = [captions.report, *captions.other_reports, captions.summary]
        described = (region for region in captions.regions if region.status == "ok")
        return [*(text for text in texts if text is not None), *(region_phrase(region) for region in described)]

    @classmethod
    def complete_config(cls, config: Any, samples: Iterable[Sample]) -> Any:
        """The settings, with those filled in that follow from the training samples (read without their pixels).

        Raises:
            ValueError: They do not fit.
        """
        return config

    def collate(self, tokenise: Tokenise, augmentation: Augmentation | None, seed: int) -> CollateFunction:
        """What makes its batches; `augmentation` is None unless it `augments`."""
        return Collate(tokenise, self.max_regions, seed)

    def untrained(self, losses: set[str]) -> str | None:
        """What the settings use at inference and none of these losses trains, in words; None: nothing."""
        return None

    def scores(self, batch: Any) -> dict[str, Tensor]:
        """The `validation_scores` of a batch, each the mean over its images."""
        return {}

    def offers(self, capability: type) -> bool:
        """Whether this instance has a capability, a protocol of `models/capabilities.py`."""
        return isinstance(self, capability)

    def visible_crop(self, side: int) -> slice:
        """The rows, and likewise the columns, of a square image of `side` pixels that the image encoder sees."""
        return slice(0, side)

    @property
    def image_backbone(self) -> PreTrainedModel | None:
        """The first model of `transformers` in it that takes pixels: Grad-CAM needs one; None where there is none."""
        models = (part for part in self.modules() if isinstance(part, PreTrainedModel))
        return next((model for model in models if model.main_input_name == "pixel_values"), None)

    def configure_compute(self, *, bfloat16: bool, micro_batch_size: int | None, compiled: bool) -> None:
        """Set how the method and its encoders compute.

        Args:
            bfloat16: Compute in bfloat16 where that is safe (autocast); losses stay float32.
            micro_batch_size: Images (or texts) whose activations an encoder holds at once in training; None holds all.
            compiled: Compile the encoders (torch.compile).
        """
        self.uses_bfloat16 = bfloat16
        for part in self.modules():
            if part is not self and isinstance(part, Encoder):
                part.configure_compute(bfloat16=bfloat16, micro_batch_size=micro_batch_size, compiled=compiled)

    def standalone_config(self) -> Any:
        """The settings that rebuild it from a checkpoint alone: the architecture stands for each pretrained encoder."""
        encoders = {name: part.standalone_config() for name, part in self.named_children() if isinstance(part, Encoder)}
        return dataclasses.replace(self.config, **encoders)
