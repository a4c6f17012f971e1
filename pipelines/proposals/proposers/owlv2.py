"""The proposer `owlv2`: boxes for phrases.

Minderer, Gritsenko, Houlsby, "Scaling Open-Vocabulary Object Detection", NeurIPS 2023, by `transformers`. A phrase goes
in as it is, without a sentence such as "a photo of" around it; non-maximum suppression as in `grounding_dino`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import Owlv2ForObjectDetection, Owlv2ImageProcessorPil
from transformers.image_transforms import center_to_corners_format

from pipelines.config import parse
from pipelines.proposals.checkpoint import options_digest
from pipelines.proposals.proposers.detections import DetectorOptions, by_phrases, on_cpu, proposals_of, suppressed
from pipelines.proposals.proposers.phrase_tokens import tokens_of
from pipelines.proposals.protocols import Proposal, Query, weights_identity

# Raise it when this module answers otherwise with the same weights and options.
ANSWER_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Options(DetectorOptions):
    """Section `proposals.options.owlv2`; the threshold is the one of the authors' examples."""

    box_threshold: float = 0.1


class Owlv2:
    """Boxes whose best phrase reaches the threshold.

    An image is padded to a square at its right or lower edge, so that all images of a batch have one size.
    """

    sees_annotations = False
    uses_phrases = True

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = parse(Options, options, "proposals.options.owlv2")

    @cached_property
    def identity(self) -> str:
        return weights_identity(self, ANSWER_FORMAT, options_digest(self.options))

    @cached_property
    def model(self) -> Any:
        return self.options.load(Owlv2ForObjectDetection, "owlv2")

    @cached_property
    def tokenizer(self) -> Any:
        return self.options.load_tokenizer()

    @cached_property
    def processor(self) -> Any:
        # This one by name: the other needs torchvision.
        return self.options.load_part(Owlv2ImageProcessorPil)

    def propose(self, images: Sequence[Image.Image], queries: Sequence[Query]) -> list[list[Proposal]]:
        proposals: list[list[Proposal]] = [[] for _ in images]
        for phrases, indices in by_phrases(queries).items():
            pixels = torch.stack([self._pixels(images[index]) for index in indices])
            for index, boxes, scores in zip(indices, *self._detect(pixels, phrases), strict=True):
                scaled = boxes * max(images[index].size)
                found = proposals_of(scaled, scores, phrases, self.options.box_threshold)
                proposals[index] = suppressed(found, self.options.overlap)
        return proposals

    def _pixels(self, image: Image.Image) -> Tensor:
        return self.processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"][0].float()

    @torch.inference_mode()
    def _detect(self, pixels: Tensor, phrases: Sequence[str]) -> tuple[Tensor, Tensor]:
        """What the model sees in a batch of images.

        Args:
            pixels: (batch, 3, side, side), normalised.
            phrases: The phrases.

        Returns:
            Boxes (batch, patches, 4) as fractions of the padded square, and scores (batch, patches, phrases), 0 to 1.

        Raises:
            FloatingPointError: The model answered NaN.
            ValueError: A phrase is longer than the text encoder reads.
        """
        text = tokens_of(self.tokenizer, phrases, self.model.config.text_config.max_position_embeddings)
        inputs = {name: values.repeat(len(pixels), 1).to(self.options.device) for name, values in text.items()}
        with self.options.autocast():
            answer = self.model(pixel_values=pixels.to(self.options.device), **inputs)
        boxes: Any = center_to_corners_format(answer.pred_boxes.float())
        return on_cpu("owlv2", boxes, answer.logits.float().sigmoid())
