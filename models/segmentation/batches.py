"""Samples with a target as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.data.augmentation import Augmentation, augment, generator
from models.data.batches import Images, TensorDataclass, Tokenise, Tokens, stack_pixels
from models.data.pairs import pair_mask, pair_of_epoch
from models.data.shards import Sample
from models.data.texts import DROPOUT_DRAW, draw, region_texts, report_of_epoch


@dataclass(frozen=True)
class SegmentationBatch(TensorDataclass):
    """What a method that segments trains on.

    Attributes:
        keys: image_id of each image.
        images: The pixels; no crops.
        text: (batch) texts; an image without one has the empty text, which is the special tokens alone.
        target: (batch, height, width) bool: what the text means, which is the outline of all findings unless it is one
            of the image's pairs (`Augmentation.phrases`).
    """

    keys: list[str]
    images: Images
    text: Tokens
    target: Tensor


def training_text(sample: Sample, seed: int = 0, epoch: int | None = None) -> str:
    """The text about the findings of a sample; empty where there is none.

    The report, if the source has one, or one made from labels; of several the epoch's own (`report_of_epoch`). Where
    all that is known are outlines, the captions of the outlined regions: a report made from them would also tell their
    area.
    """
    captions = sample.captions
    if captions.basis != "annotation":
        return "" if captions.oracle else report_of_epoch(sample, seed, epoch) or ""
    return region_texts(sample, [n for n, region in enumerate(captions.regions) if region.basis == "annotation"])


class SegmentationCollate:
    """Samples -> `SegmentationBatch`.

    Args:
        tokenise: Texts to tokens.
        augmentation: How training samples are changed, and whether their pairs are asked; None leaves them as they are.
        seed: Of the changes, and of the choice among several reports, and among the pairs, of an image.
    """

    def __init__(self, tokenise: Tokenise, augmentation: Augmentation | None, seed: int) -> None:
        self.tokenise, self.augmentation, self.seed = tokenise, augmentation, seed

    def __call__(self, samples: Sequence[Sample], epoch: int | None = None) -> SegmentationBatch:
        images, masks, texts = zip(*(self._read(sample, epoch) for sample in samples), strict=True)
        owner = torch.zeros(0, dtype=torch.long)
        return SegmentationBatch(
            keys=[sample.key for sample in samples],
            images=Images(stack_pixels(images), stack_pixels([]), owner),
            text=self.tokenise(texts),
            target=torch.from_numpy(np.stack(masks)),
        )

    def _read(self, sample: Sample, epoch: int | None) -> tuple[np.ndarray, np.ndarray, str]:
        if epoch is None or self.augmentation is None:
            return sample.image, sample.target, training_text(sample, self.seed, epoch)
        mask, text = self._asked(sample, epoch, self.augmentation)
        return augment(sample.image, mask, text, self.augmentation, generator(self.seed, epoch, sample.key))

    def _asked(self, sample: Sample, epoch: int, config: Augmentation) -> tuple[np.ndarray, str]:
        """Mask and text of one of the sample's pairs, or those of all that is outlined; the text may be left out."""
        mask, text = sample.target, training_text(sample, self.seed, epoch)
        pair = pair_of_epoch(sample, config.phrases, self.seed, epoch) if config.phrases else None
        # A small outline may have no pixel left at the size of the shards: then its phrase would deny it.
        if pair is not None and (outlined := pair_mask(sample, pair)).any():
            mask, text = outlined, pair.text
        if config.text_dropout and draw(sample, self.seed, epoch, DROPOUT_DRAW).random() < config.text_dropout:
            text = ""
        return mask, text
