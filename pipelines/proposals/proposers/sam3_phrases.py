"""The proposer `sam3_phrases`: boxes for phrases.

Carion et al., "SAM 3: Segment Anything with Concepts", arXiv:2511.16719, by `transformers`. Its detector marks every
instance of a phrase; the score is that of the instance times that of the phrase being on the image at all, as the
authors have it. The detector's masks are not taken: a segmenter makes those of all proposers, so that their quality and
stability can be compared. The segmenter `sam3` reads the same checkpoint; the name is
another one because options stand under it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import Sam3Model

from pipelines.config import parse
from pipelines.proposals.checkpoint import options_digest
from pipelines.proposals.proposers.detections import DetectorOptions, by_phrases, on_cpu, proposals_of, suppressed
from pipelines.proposals.proposers.phrase_tokens import tokens_of
from pipelines.proposals.protocols import Proposal, Query, weights_identity
from pipelines.proposals.square import Square

# Raise it when this module answers otherwise with the same weights and options.
ANSWER_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Options(DetectorOptions):
    """Section `proposals.options.sam3_phrases`; the threshold is the authors'."""

    box_threshold: float = 0.5


class Sam3Phrases:
    """Boxes of the instances of each phrase; an image is encoded once for all its phrases.

    Where instances of two phrases overlap too much, the one with the better score stays.
    """

    sees_annotations = False
    uses_phrases = True

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = parse(Options, options, "proposals.options.sam3_phrases")

    @cached_property
    def identity(self) -> str:
        return weights_identity(self, ANSWER_FORMAT, options_digest(self.options))

    @cached_property
    def model(self) -> Any:
        return self.options.load(Sam3Model, "sam3_video", "sam3")

    @cached_property
    def tokenizer(self) -> Any:
        return self.options.load_tokenizer()

    @cached_property
    def square(self) -> Square:
        return Square.of(self.options, self.model.config.image_size)

    def propose(self, images: Sequence[Image.Image], queries: Sequence[Query]) -> list[list[Proposal]]:
        proposals: list[list[Proposal]] = [[] for _ in images]
        for phrases, indices in by_phrases(queries).items():
            pixels = torch.stack([self.square.pixels(images[index]) for index in indices])
            for phrase, answers in zip(phrases, self._detect(pixels, phrases), strict=True):
                for index, boxes, scores in zip(indices, *answers, strict=True):
                    scaled = boxes * torch.tensor([*images[index].size] * 2)
                    proposals[index] += proposals_of(scaled, scores[:, None], [phrase], self.options.box_threshold)
        return [suppressed(of_image, self.options.overlap) for of_image in proposals]

    @torch.inference_mode()
    def _detect(self, pixels: Tensor, phrases: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        """What the model sees in a batch of images.

        Args:
            pixels: (batch, 3, side, side), normalised.
            phrases: The phrases.

        Returns:
            For each phrase boxes (batch, queries, 4) as fractions of the image, and scores (batch, queries), 0 to 1.

        Raises:
            FloatingPointError: The model answered NaN.
            ValueError: A phrase is longer than the text encoder reads.
        """
        text = tokens_of(self.tokenizer, phrases, self.model.config.text_config.max_position_embeddings)
        answers = []
        with self.options.autocast():
            seen = self.model.get_vision_features(pixel_values=pixels.to(self.options.device))
            for place in range(len(phrases)):
                inputs = {
                    name: values[place].expand(len(pixels), -1).to(self.options.device) for name, values in text.items()
                }
                answer = self.model(vision_embeds=seen, **inputs)
                scores = answer.pred_logits.float().sigmoid() * answer.presence_logits.float().sigmoid()
                answers.append(on_cpu("sam3_phrases", answer.pred_boxes.float(), scores))
        return answers
