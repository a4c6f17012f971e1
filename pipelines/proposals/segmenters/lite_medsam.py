"""The segmenter `lite_medsam`: masks from boxes, for hosts without a GPU.

LiteMedSAM of the authors of MedSAM (Ma et al., "Segment Anything in Medical Images", Nature Communications 15, 2024): a
TinyViT that learnt MedSAM's features, with SAM's prompt encoder and mask decoder from `transformers`. Before and after
the model as its published CVPR24_LiteMedSAM_infer.py, but that boxes keep their fractions of a pixel.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from models.geometry import Box
from models.lite_medsam import WEIGHTS, empty_model, load_weights
from models.loading import verify_weights
from models.tiny_vit import SIDE, fold
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.proposals.checkpoint import Checkpoint, options_digest
from pipelines.proposals.protocols import Segment, weights_identity
from pipelines.proposals.segmenters.sam_decoder import decode, segments

# Raise it when this module answers otherwise with the same weights and options.
ANSWER_FORMAT = 1


class LiteMedSam:
    """A mask a box; the image is encoded once for all its boxes, and several images in one batch.

    The quality is the model's predicted IoU. A mask may leave its box.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = parse(Checkpoint, options, "proposals.options.lite_medsam")
        if not (Path(self.options.model) / WEIGHTS).is_file():
            raise UserError(
                f"proposals.options.lite_medsam.model: {self.options.model} is no folder with {WEIGHTS}; "
                "`make weights` makes data/weights/lite_medsam"
            )

    @cached_property
    def identity(self) -> str:
        return weights_identity(self, ANSWER_FORMAT, options_digest(self.options))

    @cached_property
    def model(self) -> Any:
        self.options.check_device()
        model = empty_model()
        folder = Path(self.options.model)
        verify_weights(folder)
        try:
            load_weights(model, folder / WEIGHTS)
        except (RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{self.options.model} is no LiteMedSAM of `make weights`: {reason}") from None
        fold(model.eval().vision_encoder)
        model.vision_encoder.to(memory_format=torch.channels_last)
        return model.to(self.options.device)

    def segment(self, images: Sequence[Image.Image], boxes: Sequence[Sequence[Box]]) -> Iterator[Iterator[Segment]]:
        embeddings = self._encode(torch.stack([preprocess(image) for image in images]))
        for image, embedding, of_image in zip(images, embeddings, boxes, strict=True):
            answer = partial(self._decode_shown, embedding, shown_size(image.size))
            yield segments(answer, scale_boxes(of_image, image.size), image.size)

    @torch.inference_mode()
    def _encode(self, pixels: Tensor) -> Tensor:
        """(batch, 3, 256, 256), 0 to 1 -> (batch, 256, 64, 64)."""
        with self.options.autocast():
            return self.model.vision_encoder(pixels.to(self.options.device))

    def _decode_shown(self, embedding: Tensor, shown: tuple[int, int], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """As `_decode`, without the padding: `shown` are the width and height that the image fills of the square."""
        logits, quality = self._decode(embedding, boxes)
        return logits[:, : shown[1], : shown[0]], quality

    def _decode(self, embedding: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(256, 64, 64) and boxes (n, 4) -> logits (n, 256, 256) and predicted IoUs (n), 0 to 1."""
        with self.options.autocast():
            return decode(self.model, "LiteMedSAM", embedding[None], boxes)


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of an image in pixels of LiteMedSAM's square, whose left upper corner it fills."""
    scale = SIDE / max(size)
    width, height = (max(1, int(side * scale + 0.5)) for side in size)
    return width, height


def preprocess(image: Image.Image) -> Tensor:
    """LiteMedSAM's input (3, 256, 256): the longer side resized to 256, stretched to 0 to 1, then padded with 0."""
    width, height = shown_size(image.size)
    # Means over areas, as OpenCV's INTER_AREA, where it gets smaller; that filter repeats pixels where it gets larger.
    smaller = max(image.size) >= SIDE
    method = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
    values = np.atleast_3d(np.asarray(image.convert("RGB").resize((width, height), method))).astype(np.float32)
    values = (values - values.min()) / max(np.ptp(values), 1e-8)
    square = torch.zeros(3, SIDE, SIDE)
    square[:, :height, :width] = torch.from_numpy(values).permute(2, 0, 1)
    return square


def scale_boxes(boxes: Sequence[Box], size: tuple[int, int]) -> Tensor:
    """Boxes in pixels of an image of (width, height) -> pixels of LiteMedSAM's square, shape (n, 4)."""
    return torch.tensor(boxes, dtype=torch.float64).mul(SIDE / max(size)).float()
