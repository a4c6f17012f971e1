"""The proposer `grounding_dino`: boxes for phrases.

Liu et al., "Grounding DINO: Marrying DINO with Grounded Pre-Training for Open-Set Object Detection", ECCV 2024, by
`transformers`; thresholds and non-maximum suppression as the automatic labelling of Grounded-Segment-Anything has them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import GroundingDinoForObjectDetection, GroundingDinoImageProcessorPil, PreTrainedModel
from transformers.image_transforms import center_to_corners_format

from pipelines.config import parse
from pipelines.proposals.checkpoint import options_digest
from pipelines.proposals.proposers.detections import DetectorOptions, on_cpu, proposals_of, suppressed
from pipelines.proposals.protocols import Proposal, Query, weights_identity

# Raise it when this module answers otherwise with the same weights and options.
ANSWER_FORMAT = 1
# A longer strip gives the encoder fewer cells than the decoder has queries (900), and transformers fails.
_LONGEST_STRIP = 16
# ImageNet's mean, which the processor turns into 0, as its padding is.
_MEAN = (124, 116, 104)


@dataclass(frozen=True, kw_only=True)
class Options(DetectorOptions):
    """Section `proposals.options.grounding_dino`, or `mm_grounding_dino`.

    Attributes:
        text_threshold: Least score at which a phrase names a box; below it the label stays null.
    """

    box_threshold: float = 0.25
    text_threshold: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_outside("text_threshold")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Phrases as the text encoder reads them.

    Attributes:
        text: Lower case, each phrase followed by " . " (the last one by ".").
        phrases: As they were asked for.
        spans: Places of each phrase's tokens in the tokenised text.
    """

    text: str
    phrases: tuple[str, ...]
    spans: tuple[tuple[int, ...], ...]


class GroundingDino:
    """Boxes whose best phrase reaches the threshold.

    A box's score for a phrase is the largest sigmoid over that phrase's tokens; its label is the phrase with the best
    score, found by the tokens' indices, whatever punctuation the phrase has.

    One batch holds images of one prompt and one size after resizing: padding reaches the backbone, so that an image's
    answer would depend on its neighbours.
    """

    sees_annotations = False
    uses_phrases = True
    name = "grounding_dino"
    kind: type[PreTrainedModel] = GroundingDinoForObjectDetection
    model_type = "grounding-dino"

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = parse(Options, options, f"proposals.options.{self.name}")

    @cached_property
    def identity(self) -> str:
        return weights_identity(self, ANSWER_FORMAT, options_digest(self.options))

    @cached_property
    def model(self) -> Any:
        return self.options.load(self.kind, self.model_type)

    @cached_property
    def tokenizer(self) -> Any:
        return self.options.load_tokenizer()

    @cached_property
    def processor(self) -> Any:
        # This one by name: with torchvision there is another, which resizes to other pixels.
        return self.options.load_part(GroundingDinoImageProcessorPil)

    def propose(self, images: Sequence[Image.Image], queries: Sequence[Query]) -> list[list[Proposal]]:
        canvases = [_canvas(image) for image in images]
        pixels = [self.processor(images=canvas, return_tensors="pt")["pixel_values"][0] for canvas in canvases]
        batches: dict[tuple[Prompt, torch.Size], list[int]] = defaultdict(list)
        for index, query in enumerate(queries):
            for prompt in self.prompts(query.phrases):
                batches[prompt, pixels[index].shape].append(index)
        proposals: list[list[Proposal]] = [[] for _ in images]
        for (prompt, _), indices in batches.items():
            answers = zip(
                indices, *self._detect(torch.stack([pixels[index] for index in indices]), prompt), strict=True
            )
            for index, boxes, scores in answers:
                scaled = boxes * torch.tensor([*canvases[index].size] * 2)
                proposals[index] += proposals_of(
                    scaled, scores, prompt.phrases, self.options.box_threshold, self.options.text_threshold
                )
        return [suppressed(of_image, self.options.overlap) for of_image in proposals]

    def prompts(self, phrases: Sequence[str]) -> list[Prompt]:
        """As many prompts as the phrases need within the length that the text encoder reads.

        Raises:
            ValueError: One phrase alone is longer than that.
        """
        room = self.model.config.max_text_len - 2  # [CLS], [SEP]
        prompts: list[list[str]] = []
        left = 0
        for phrase in phrases:
            length = len(self.tokenizer.tokenize(phrase.lower())) + 1
            if length > room:
                raise ValueError(f"phrase '{phrase[:40]}...' has {length} tokens, more than {room}")
            if length > left:
                prompts.append([])
                left = room
            prompts[-1].append(phrase)
            left -= length
        return [self._prompt(part) for part in prompts]

    def _prompt(self, phrases: list[str]) -> Prompt:
        lowered = [phrase.lower() for phrase in phrases]
        text = " . ".join(lowered) + "."
        offsets = self.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        spans, start = [], 0
        for phrase in lowered:
            end = start + len(phrase)
            spans.append(tuple(n for n, (first, last) in enumerate(offsets) if start <= first < last <= end))
            start = end + len(" . ")
        return Prompt(text=text, phrases=tuple(phrases), spans=tuple(spans))

    @torch.inference_mode()
    def _detect(self, pixels: Tensor, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """What the model sees in a batch of images for one prompt.

        Args:
            pixels: (batch, 3, height, width), normalised.
            prompt: The prompt.

        Returns:
            Boxes (batch, queries, 4) as fractions of the canvas, and scores (batch, queries, phrases), 0 to 1.

        Raises:
            FloatingPointError: The model answered NaN.
        """
        text = self.tokenizer(prompt.text, return_tensors="pt").to(self.options.device)
        inputs = {name: values.expand(len(pixels), -1) for name, values in text.items()}
        with self.options.autocast():
            answer = self.model(pixel_values=pixels.to(self.options.device), **inputs)
        tokens = answer.logits.float().sigmoid()
        scores = torch.stack([tokens[..., span].amax(dim=-1) for span in prompt.spans], dim=-1)
        boxes: Any = center_to_corners_format(answer.pred_boxes)
        return on_cpu(self.name, boxes, scores)


def _canvas(image: Image.Image) -> Image.Image:
    """The image in RGB, extended to the right or downwards where it is an extreme strip."""
    image = image.convert("RGB")
    least = -(-max(image.size) // _LONGEST_STRIP)
    size = max(image.width, least), max(image.height, least)
    if size == image.size:
        return image
    canvas = Image.new("RGB", size, _MEAN)
    canvas.paste(image)
    return canvas
