"""Base of the methods that segment."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.data.augmentation import Augmentation
from models.data.batches import Images, Tokenise, Tokens
from models.data.shards import Sample
from models.method import CollateFunction, Method
from models.segmentation.batches import SegmentationBatch, SegmentationCollate, training_text
from models.segmentation.losses import dice, mask_loss


class SegmentationMethod(Method):
    """A method that maps an image and a text to a mask; it offers SegmentsFromText.

    A subclass gives `logits`, and `forward` where it trains with more than the mask. `losses` of an instance are those
    of the components that are on, and every phase must ask for all of them.

    It computes `logits` in bfloat16 where `uses_bfloat16`; losses are float32.
    """

    losses: tuple[str, ...] = ("segmentation",)
    validation_scores = ("dice",)
    learns_from = "an outline of all findings"
    augments = True
    max_regions = 0

    @property
    def required_losses(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.losses

    @property
    def first_decoder(self) -> nn.Module:
        """The layer whose features Grad-CAM weighs: (batch, channels, rows, columns), the decoder's first."""
        raise NotImplementedError

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        """One text an image -> (batch, height, width)."""
        raise NotImplementedError

    def forward(self, batch: SegmentationBatch, losses: Sequence[str]) -> dict[str, Tensor]:
        """The requested losses, each a scalar; the training loop adds them up."""
        with self.autocast(batch.target.device):
            logits = self.logits(batch.images, batch.text)
        return {"segmentation": mask_loss(logits, batch.target)}

    def scores(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        return {"dice": dice(self.segment(batch.images, batch.text) > 0.5, batch.target).mean()}

    def segment(self, images: Images, tokens: Tokens) -> Tensor:
        with self.autocast(images.pixels.device):
            logits = self.logits(images, tokens)
        return logits.float().sigmoid()

    def autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.uses_bfloat16)

    @classmethod
    def skip_reason(cls, sample: Sample) -> str | None:
        return None if sample.meta.has_target else "no_target"

    @classmethod
    def training_texts(cls, sample: Sample) -> list[str]:
        text = training_text(sample)
        return [text, *(sample.captions.other_reports if text == sample.captions.report else ())]

    def collate(self, tokenise: Tokenise, augmentation: Augmentation | None, seed: int) -> CollateFunction:
        return SegmentationCollate(tokenise, augmentation, seed)
