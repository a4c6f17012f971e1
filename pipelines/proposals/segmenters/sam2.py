"""The segmenter `sam2`: masks from boxes.

Ravi et al., "SAM 2: Segment Anything in Images and Videos", ICLR 2025, by `transformers`: its image part, of the
checkpoints of SAM 2 and 2.1. Before and after the model as its own processor, but that boxes keep their fractions.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel, Sam2Model

from models.geometry import Box
from pipelines.config import parse
from pipelines.proposals.checkpoint import Checkpoint, options_digest
from pipelines.proposals.protocols import Segment, weights_identity
from pipelines.proposals.segmenters.sam_decoder import decode, segments
from pipelines.proposals.square import Square, scale_boxes

# Raise it when this module answers otherwise with the same weights and options.
ANSWER_FORMAT = 1


class Sam2:
    """A mask a box; the image is encoded once for all its boxes, and several images in one batch.

    The quality is the model's predicted IoU. A mask may leave its box.
    """

    name = "sam2"
    kind: type[PreTrainedModel] = Sam2Model
    # As published, and of the part for images alone.
    model_types: tuple[str, ...] = ("sam2_video", "sam2")

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = parse(Checkpoint, options, f"proposals.options.{self.name}")

    @cached_property
    def identity(self) -> str:
        return weights_identity(self, ANSWER_FORMAT, options_digest(self.options))

    @cached_property
    def model(self) -> Any:
        return self.options.load(self.kind, *self.model_types)

    @cached_property
    def square(self) -> Square:
        return Square.of(self.options, self.model.config.prompt_encoder_config.image_size)

    def segment(self, images: Sequence[Image.Image], boxes: Sequence[Sequence[Box]]) -> Iterator[Iterator[Segment]]:
        levels = self._encode(torch.stack([self.square.pixels(image) for image in images]))
        for index, (image, of_image) in enumerate(zip(images, boxes, strict=True)):
            scaled = scale_boxes(of_image, image.size, self.square.side)
            features = [level[index : index + 1] for level in levels]
            yield segments(partial(self._decode, features), scaled, image.size)

    @torch.inference_mode()
    def _encode(self, pixels: Tensor) -> list[Tensor]:
        """(batch, 3, side, side) -> feature maps, the finest first, each (batch, channels, rows, columns)."""
        with self.options.autocast():
            return self.model.get_image_embeddings(pixels.to(self.options.device))

    def _decode(self, features: list[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Feature maps of one image and boxes (n, 4) -> logits (n, rows, columns) and predicted IoUs (n), 0 to 1."""
        with self.options.autocast():
            return decode(self.model, self.name, features, boxes)
