"""The segmenter `medsam`: masks from boxes.

Ma et al., "Segment Anything in Medical Images", Nature Communications 15 (2024), on the SAM of `transformers`; before
and after the model as its published MedSAM_Inference.py: not SAM's own preprocessing.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage.transform import resize
from torch import Tensor
from transformers import SamModel

from models.geometry import Box
from pipelines.config import parse
from pipelines.proposals.checkpoint import Checkpoint, options_digest
from pipelines.proposals.protocols import Segment, weights_identity
from pipelines.proposals.segmenters.sam_decoder import LOGITS, decode, segments
from pipelines.proposals.square import scale_boxes

SIDE = 1024
# Raise it when this module answers otherwise with the same weights and options.
ANSWER_FORMAT = 1
# MedSAM resizes probabilities, not logits.
_LOOSE, _MIDDLE, _TIGHT = (1 / (1 + math.exp(-logit)) for logit in LOGITS)
_CUTS = (_LOOSE, _MIDDLE, _TIGHT)


class MedSam:
    """A mask a box; the image is encoded once for all its boxes, and several images in one batch.

    The quality is the model's predicted IoU. A mask may leave its box.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = parse(Checkpoint, options, "proposals.options.medsam")

    @cached_property
    def identity(self) -> str:
        return weights_identity(self, ANSWER_FORMAT, options_digest(self.options))

    @cached_property
    def model(self) -> Any:
        return self.options.load(SamModel, "sam")

    def segment(self, images: Sequence[Image.Image], boxes: Sequence[Sequence[Box]]) -> Iterator[Iterator[Segment]]:
        embeddings = self._encode(torch.stack([preprocess(image) for image in images]))
        for image, embedding, of_image in zip(images, embeddings, boxes, strict=True):
            yield segments(partial(self._decode, embedding), scale_boxes(of_image, image.size, SIDE), image.size, _CUTS)

    @torch.inference_mode()
    def _encode(self, pixels: Tensor) -> Tensor:
        """(batch, 3, 1024, 1024), 0 to 1 -> (batch, 256, 64, 64)."""
        with self.options.autocast():
            return self.model.get_image_embeddings(pixels.to(self.options.device))

    def _decode(self, embedding: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(256, 64, 64) and boxes (n, 4) -> probabilities (n, 256, 256) and predicted IoUs (n), 0 to 1."""
        with self.options.autocast():
            logits, quality = decode(self.model, "MedSAM", embedding[None], boxes)
        return logits.sigmoid(), quality


def preprocess(image: Image.Image) -> Tensor:
    """MedSAM's input (3, 1024, 1024): resized by cubic splines to the square, 8 bits, then stretched to 0 to 1."""
    # Grey and each colour alone: the same values as at once, in a third of the time or memory.
    channels = np.atleast_3d(np.asarray(image))
    resized = [
        resize(channels[..., n], (SIDE, SIDE), order=3, preserve_range=True, anti_aliasing=True).astype(np.uint8)
        for n in range(channels.shape[-1])
    ]
    values = np.broadcast_to(np.stack(resized), (3, SIDE, SIDE)).astype(np.float64)
    values = (values - values.min()) / max(np.ptp(values), 1e-8)
    return torch.from_numpy(values).float()
