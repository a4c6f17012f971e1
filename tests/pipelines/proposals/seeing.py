"""Models of the real architectures that answer with what they see: the bright rectangle on a dark image.

Weights are random, so what a model says of an image means nothing. Here its last layer's answer is replaced by what can
be read off the pixels that reached it, in its own frame. Whether boxes and masks come back at the right place of the
image then depends on the plug-in alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

# Logit of what is seen; a score of 0.88.
SEEN = 2.0


def bright(pixels: Tensor) -> Tensor:
    """(batch, 3, height, width) -> (batch, height, width), true where it is nearer to the brightest pixel."""
    grey = pixels.float().mean(dim=1)
    low, high = (limit(grey, dim=(1, 2), keepdim=True) for limit in (torch.amin, torch.amax))
    return grey > (low + high) / 2


def corners(seen: Tensor) -> Tensor:
    """(height, width) -> x0, y0, x1, y1 as fractions of it."""
    rows, columns = seen.any(dim=1).nonzero(), seen.any(dim=0).nonzero()
    height, width = seen.shape
    return torch.tensor([columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height])


def centred(box: Tensor) -> Tensor:
    """x0, y0, x1, y1 -> middle, width, height, as DETR's kind answers."""
    return torch.cat([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])


def of_dino(output: Any, boxes: list[Tensor]) -> None:
    """Token 1 is the first one of the first phrase."""
    output.logits.fill_(-torch.inf)
    output.logits[:, 0, 1] = SEEN
    output.pred_boxes[:, 0] = torch.stack([centred(box) for box in boxes])


def of_owl(output: Any, boxes: list[Tensor]) -> None:
    output.logits.fill_(-30)
    output.logits[:, 0, 0] = SEEN
    output.pred_boxes[:, 0] = torch.stack([centred(box) for box in boxes])


def of_sam3(output: Any, boxes: list[Tensor]) -> None:
    output.pred_logits.fill_(-30)
    output.pred_logits[:, 0] = 30
    output.presence_logits.fill_(SEEN)
    output.pred_boxes[:, 0] = torch.stack(boxes)


@contextmanager
def detecting(model: Any, answer: Any) -> Iterator[None]:
    """A detector whose only box is around the bright pixels."""
    given: list[Tensor] = []

    def note(module: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        pixels = arguments[0] if arguments else keywords.get("pixel_values")
        if pixels is not None:
            given[:] = [pixels]

    def replace(module: Any, inputs: Any, output: Any) -> Any:
        answer(output, [corners(seen) for seen in bright(given[0])])
        return output

    # SAM 3 is called with the features of its encoder, the others with pixels.
    first = model.vision_encoder if hasattr(model, "vision_encoder") else model
    hooks = [first.register_forward_pre_hook(note, with_kwargs=True), model.register_forward_hook(replace)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def segmenting(model: Any) -> Iterator[None]:
    """A segmenter of one image whose masks are the bright pixels inside each box that reaches the prompt encoder."""
    given: dict[str, Tensor] = {}

    def note_pixels(module: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        given["pixels"] = arguments[0] if arguments else keywords["pixel_values"]

    def note_boxes(module: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        given["boxes"] = keywords["input_boxes"][0]

    def replace(module: Any, inputs: Any, output: Any) -> Any:
        masks, quality, *rest = output
        height, width = masks.shape[-2:]
        side = given["pixels"].shape[-1]
        shown = interpolate(bright(given["pixels"])[:, None].float(), (height, width), mode="area")[0, 0] > 0.5
        x, y = (torch.arange(count) + 0.5 for count in (width, height))
        for place, (x0, y0, x1, y1) in enumerate(given["boxes"] * (width / side)):
            inside = ((x0 <= x) & (x < x1))[None] & ((y0 <= y) & (y < y1))[:, None]
            masks[0, place] = torch.where(shown & inside, 10.0, -10.0)
        return masks, torch.full_like(quality, 0.75), *rest

    hooks = [
        model.vision_encoder.register_forward_pre_hook(note_pixels, with_kwargs=True),
        model.prompt_encoder.register_forward_pre_hook(note_boxes, with_kwargs=True),
        model.mask_decoder.register_forward_hook(replace),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
